"""Adapters merged into full precision, and packed models turned back into plain ones.

The model that is given is never changed. Over a packed base the adapter is merged into the weights
that the packed ones stand for: codes have no room for a small update.
"""

import copy
from typing import Any

import torch
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import NumericalError, UsageError
from quantale.models.adapter_record import bare, is_adapted, is_adapter_tensor
from quantale.models.adapters import adapter_config, adapter_tensors, put_on
from quantale.models.load import auto_class
from quantale.quant.ledger import stored_sites
from quantale.quant.linear import PackedModule


def merged(model: PreTrainedModel) -> PreTrainedModel:
    """Return a plain model in full precision that computes what model and adapter do.

    Hu et al., "LoRA", arXiv 2106.09685, section 4.1: W' = W + (alpha / r) B A. Raises UsageError
    for a model without adapter and NumericalError where a merged weight is not finite.
    """
    if not is_adapted(model):
        raise UsageError("the model has no adapter to merge")
    return merged_into(unpacked(model) if stored_sites(model) else None, model)


def merged_into(base: PreTrainedModel | None, model: PreTrainedModel) -> PreTrainedModel:
    """Return another base in full precision with the adapter of a model merged into it.

    base: a model of the same shape, which is used up; None: a copy of the adapter's own.
    Raises UsageError for a packed base and ModelFileError where base and adapter do not fit.
    """
    if base is None:
        return _fold(copy.deepcopy(model))
    if stored_sites(base):
        raise UsageError("codes have no room for a small update; give a base in full precision")
    put_on(base, _for_any_base(model), adapter_tensors(model))
    return _fold(base)


def _for_any_base(model: PreTrainedModel) -> Any:
    """Return the configuration of a model's adapter without what its own base needs."""
    config = copy.deepcopy(adapter_config(model))
    config._custom_modules = None
    return config


def _fold(model: PreTrainedModel) -> PreTrainedModel:
    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            try:
                module.merge(safe_merge=True)
            except ValueError as error:
                raise NumericalError(f"{name}: {error}") from error
            model.set_submodule(name, module.get_base_layer())
        elif isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.modules_to_save[module.active_adapter])
    del model.peft_config
    return model.eval()


def unpacked(model: PreTrainedModel) -> PreTrainedModel:
    """Return a plain model with the weights that a packed model's stand for; adapters left out.

    It computes the same up to rounding, unless a format also rounds its inputs.
    """
    config = copy.deepcopy(model.config)
    sites = {site.name: site for site in stored_sites(model)}
    if sites:
        del config.quantization_config
    config.architectures = [type(model).__name__]
    with torch.random.fork_rng(devices=[]):
        plain: PreTrainedModel = auto_class(config).from_config(config, dtype=model.dtype)
    plain.load_state_dict(_plain_tensors(model, plain, set(sites)), strict=True, assign=False)
    if model.can_generate():
        plain.generation_config = copy.deepcopy(model.generation_config)
    return plain.to(model.device).eval()


def _plain_tensors(
    model: PreTrainedModel, plain: PreTrainedModel, packed: set[str]
) -> dict[str, Tensor]:
    """Return the state of the plain model from that of the packed one."""
    found = {}
    for name, tensor in model.state_dict().items():
        owner, _, part = bare(name).rpartition(".")
        is_term = owner.removesuffix(".low_rank") in packed
        if not is_adapter_tensor(name) and (not is_term or part == "bias"):
            found[bare(name)] = tensor
    for name, module in model.named_modules():
        if isinstance(module, PackedModule):
            weight = module.whole_weight(model.dtype)
            place = plain.get_submodule(bare(name))
            wanted = place.get_parameter("weight").shape
            found[f"{bare(name)}.weight"] = (
                weight.t() if isinstance(place, Conv1D) else weight.view(wanted)
            )
    wanted_state = plain.state_dict()
    tied = {n: s for n, s in plain.all_tied_weights_keys.items() if n in wanted_state}
    for target, source in tied.items():
        found.setdefault(target, found.get(source, wanted_state[target]))
    return found
