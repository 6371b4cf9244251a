"""Glue to transformers: `quant_method: "quantale"` in `config.json`, through its public API.

`from_pretrained` builds the model without memory, this quantizer swaps in packed modules, the
library fills them from the file, and every tensor that the configuration promises must be there.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightRenaming,
    apply_renamings,
    revert_weight_conversion,
)
from transformers.quantizers.auto import (
    AUTO_QUANTIZER_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from quantale.core.errors import ModelFileError, UsageError
from quantale.quant.linear import QuantEmbedding, QuantLinear, TiedHead, packed_module
from quantale.quant.low_rank import LowRank, is_rank
from quantale.quant.packed import LAYOUT_VERSION, PackedTensor
from quantale.quant.stored import QUANT_METHOD, StoredSite, read_sites
from quantale.quant.sub_norm import SubNorm

if TYPE_CHECKING:  # importing it here would be circular: transformers imports its quantizers first
    from transformers import PreTrainedModel


class QuantaleConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The `quantization_config` of a packed model."""

    def __init__(
        self,
        sites: Mapping[str, Any] | None = None,
        layout_version: int = LAYOUT_VERSION,
        **ignored: Any,
    ) -> None:
        del ignored
        self.quant_method = QUANT_METHOD
        self.layout_version = layout_version
        self.sites = {} if sites is None else sites

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-able form that `config.json` holds."""
        return {
            "quant_method": QUANT_METHOD,
            "layout_version": self.layout_version,
            "sites": self.sites,
        }

    def stored(self) -> list[StoredSite]:
        """Return the sites; raises ModelFileError when they are damaged."""
        return read_sites(self.to_dict())


class QuantaleQuantizer(HfQuantizer):  # type: ignore[misc]
    """Loads and saves packed models; quantizing itself is `quantale.quant.apply`."""

    requires_calibration = True

    def _process_model_before_weight_loading(
        self, model: "PreTrainedModel", checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> "PreTrainedModel":
        del kwargs
        for site in self.quantization_config.stored():
            swap(model, site)
        if checkpoint_files is not None:
            check_files(model, [Path(name) for name in checkpoint_files])
        return model

    def is_serializable(self) -> bool:
        """Say that `save_pretrained` writes the packed form."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Say that adapters can be trained on top."""
        return True


def register() -> None:
    """Make transformers know the packed models of this project; safe to call twice."""
    if QUANT_METHOD not in AUTO_QUANTIZER_MAPPING:
        register_quantization_config(QUANT_METHOD)(QuantaleConfig)
        register_quantizer(QUANT_METHOD)(QuantaleQuantizer)


def mark_quantized(model: "PreTrainedModel", sites: list[StoredSite]) -> None:
    """Let a model quantized in memory be saved and printed like one that was loaded.

    Raises UsageError when no parameter is left: transformers asks one for the model's device.
    """
    if next(model.parameters(), None) is None:
        raise UsageError("nothing would be left in full precision; leave one norm out")
    config = QuantaleConfig({site.name: site.record() for site in sites})
    model.config.quantization_config = config
    model.hf_quantizer = QuantaleQuantizer(config, pre_quantized=True)
    model.is_quantized = True
    model.quantization_method = QUANT_METHOD
    for site in sites:
        _untie(model, site)


def names_in_memory(model: "PreTrainedModel", names: Iterable[str]) -> dict[str, str]:
    """Return what tensors of a file are called in the model.

    Some families store other names than they use: GPT-NeoX's `lm_head` is `embed_out` in files.
    """
    renamings = [r for r in get_model_conversion_mapping(model) if isinstance(r, WeightRenaming)]
    return {name: apply_renamings(name, renamings) for name in names}


def names_in_files(model: "PreTrainedModel", names: Iterable[str]) -> dict[str, str]:
    """Return what tensors of the model are called in files: the way back of `names_in_memory`."""
    listed = list(names)  # empty tensors whose sizes say which is which
    marks = {name: torch.empty(i, device="meta") for i, name in enumerate(listed)}
    found = revert_weight_conversion(model, marks)
    return {listed[mark.shape[0]]: name for name, mark in found.items()}


def swap(model: "PreTrainedModel", site: StoredSite) -> None:
    """Replace a module by an empty packed one of the same place; raises ModelFileError."""
    tensors = {
        name: torch.empty(shape, dtype=dtype, device="meta")
        for name, (shape, dtype) in site.format.tensors(site.shape).items()
    }
    packed = PackedTensor(site.format, site.shape, tensors)
    try:
        old = model.get_submodule(site.name)
        bias = getattr(old, "bias", None) if site.bias else None
        module = packed_module(old, packed, bias)
        if site.norm is not None:
            _put_beside(site.name, module, SubNorm(site.shape[1], site.norm))
        if site.rank is not None:
            if not is_rank(site.rank, site.shape):
                raise ModelFileError(f"{site.name}: {site.shape} has no rank of {site.rank}")
            _put_beside(site.name, module, LowRank.blank(site.shape, site.rank))
        model.set_submodule(site.name, module)
        if site.tied is not None:
            _tie(model, site)
    except AttributeError as error:
        raise ModelFileError(f"{site.name}: the model has no such module") from error
    _untie(model, site)


def _put_beside(name: str, module: nn.Module, part: SubNorm | LowRank) -> None:
    """Give a packed linear layer a norm of its inputs or a low-rank term; raises ModelFileError."""
    is_norm = isinstance(part, SubNorm)
    if not isinstance(module, QuantLinear):
        what = "norm of its inputs" if is_norm else "low-rank term"
        raise ModelFileError(f"{name}: only a linear layer can have a {what}")
    setattr(module, "norm" if is_norm else "low_rank", part)


def install_beside(
    model: "PreTrainedModel", parts: Iterable[tuple[str, SubNorm | LowRank]]
) -> None:
    """Put norms and low-rank terms beside packed layers, and into the model's configuration.

    parts: each with the name of its layer.
    """
    sites = dict(model.config.quantization_config.sites)
    for name, part in parts:
        _put_beside(name, model.get_submodule(name), part)
        said = {"norm": part.epsilon} if isinstance(part, SubNorm) else {"rank": part.rank}
        sites[name] = {**sites[name], **said}
    model.config.quantization_config.sites = sites


def _tie(model: "PreTrainedModel", site: StoredSite) -> None:
    embedding = model.get_submodule(site.name)
    if not isinstance(embedding, QuantEmbedding) or site.tied is None:
        raise ModelFileError(f"{site.name}: only an embedding can be tied to a head")
    head = model.get_submodule(site.tied)
    model.set_submodule(site.tied, TiedHead(embedding, getattr(head, "bias", None)))


def _untie(model: "PreTrainedModel", site: StoredSite) -> None:
    """Take packed weights out of the list of parameters that transformers ties by itself."""
    for target, source in list(model.all_tied_weights_keys.items()):
        if f"{site.name}.weight" in (target, source):
            del model.all_tied_weights_keys[target]


def check_files(model: "PreTrainedModel", paths: list[Path]) -> None:
    """Raise ModelFileError unless the files hold exactly what the model stores.

    transformers would fill what is missing with random numbers.
    """
    shapes = _shapes(paths)
    names = names_in_memory(model, shapes)
    there = {names[name]: shape for name, shape in shapes.items()}
    tied = set(model.all_tied_weights_keys)
    wanted = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    missing = sorted(set(wanted) - set(there))
    extra = sorted(set(there) - set(wanted) - tied)
    if missing or extra:
        what, name = ("lacks", missing[0]) if missing else ("holds an unknown", extra[0])
        raise ModelFileError(f"{paths[0]}: {what} tensor {name}")
    for name, tensor in wanted.items():
        if there[name] != tuple(tensor.shape):
            raise ModelFileError(
                f"{paths[0]}: {name} has shape {there[name]}, the configuration says "
                f"{tuple(tensor.shape)}"
            )


def _shapes(paths: list[Path]) -> dict[str, tuple[int, ...]]:
    found = {}
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (not a mapping)
                    found[name] = tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelFileError(f"{path}: not a readable safetensors file: {error}") from error
    return found


register()  # for the case that this module was imported before transformers' quantizers
