"""How far each quantized layer is from its original, on inputs of the original model.

Every variant's layer gets the very inputs that the base model's layer saw, so that the numbers
compare methods layer by layer; what earlier layers did to the inputs is not part of them.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.models.adapter_record import bare
from quantale.quant.linear import QuantLinear

Errors = dict[str, dict[str, float]]


def output_errors(
    base: PreTrainedModel, variants: Mapping[str, PreTrainedModel], windows: Tensor
) -> Errors:
    """Return {variant: {site: squared output error over squared output}}, biases left out.

    Variants of another shape are left out: their layers stand for no layer of the base.
    windows: (samples, length) token ids, run in one batch.
    """
    variants = {name: model for name, model in variants.items() if _shape(model) == _shape(base)}
    wrong: dict[str, dict[str, Tensor]] = defaultdict(lambda: defaultdict(lambda: torch.zeros(())))
    whole: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        def compare(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> None:
            bias = getattr(module, "bias", None)
            whole[name] += (out if bias is None else out - bias).square().sum()
            for variant, model in variants.items():
                other = model.get_submodule(name)
                if isinstance(getattr(other, "base_layer", other), QuantLinear):
                    wrong[variant][name] += (other(args[0]) - out).square().sum()

        return compare

    names = {
        bare(name)
        for model in variants.values()
        for name, module in model.named_modules()
        if isinstance(module, QuantLinear)
    }
    order = [name for name, _ in base.named_modules() if name in names]
    handles = [base.get_submodule(name).register_forward_hook(hook(name)) for name in order]
    try:
        with torch.no_grad():
            base(input_ids=windows, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return {
        variant: {
            name: float(sums[name] / whole[name]) if float(whole[name]) else 0.0
            for name in order
            if name in sums
        }
        for variant, sums in wrong.items()
    }


def _shape(model: PreTrainedModel) -> tuple[int, int]:
    return model.config.num_hidden_layers, model.config.hidden_size
