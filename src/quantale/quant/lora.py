"""LoRA of peft over packed layers of any format.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, section 4.1; over
a frozen quantized base this is QLoRA (arXiv 2305.14314). peft adds B A x to the layer's own output,
so the base layer may be any module that passes gradients through to its input.

peft asks a configuration which class serves a layer that it does not know, and does not store the
answer in `adapter_config.json`: hence `lora_config` to make one and `load_adapter` to read one.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.linear import QuantLinear

_INITIAL = (True, False, "gaussian", "orthogonal")
"""Initial values that do not look at the base weight."""


class PackedDora(DoraLinearVariant):  # type: ignore[misc]
    """DoRA over a packed weight: W' = m (W + s B A) / |W + s B A|, norms along the input.

    Liu et al., "DoRA: Weight-Decomposed Low-Rank Adaptation", arXiv 2402.09353, equation 5; the
    norm is a constant to the gradient (section 4.3). Norm and magnitude need nothing but the
    dequantized weight, which is unpacked for every forward pass.
    """

    @staticmethod
    def init(module: Any, adapter_name: str, **kwargs: Any) -> None:
        """Begin with the norms of the dequantized weight as magnitudes."""
        del kwargs
        if not module.lora_magnitude_vector:
            module.adapter_layer_names = (*module.adapter_layer_names, "lora_magnitude_vector")
        first = module.lora_A[adapter_name].weight
        layer = DoraLinearLayer(fan_in_fan_out=False)
        layer.update_layer(
            base_layer=_Unpacked(module.get_base_layer(), first.dtype),
            lora_A=first,
            lora_B=module.lora_B[adapter_name].weight,
            scaling=module.scaling[adapter_name],
        )
        module.lora_magnitude_vector[adapter_name] = layer

    @staticmethod
    def forward(
        module: Any, active_adapter: str, x: Tensor, result: Tensor, **kwargs: Any
    ) -> Tensor:
        """Return the layer's output, (..., out); result: that of the packed layer."""
        del kwargs
        dropout, base_result = module.lora_dropout[active_adapter], result
        if module.training and not isinstance(dropout, nn.Identity):
            x, base_result = dropout(x), None  # type: ignore[assignment]
        change: Tensor = module.lora_magnitude_vector[active_adapter](
            x,
            lora_A=module.lora_A[active_adapter],
            lora_B=module.lora_B[active_adapter],
            scaling=module.scaling[active_adapter],
            base_layer=_Unpacked(module.get_base_layer(), x.dtype),
            base_result=base_result,
            adapter_name=active_adapter,
        )
        return result + change


class _Unpacked(nn.Module):
    """A packed layer as DoRA reads it: a weight and a bias."""

    def __init__(self, layer: QuantLinear, dtype: torch.dtype) -> None:
        super().__init__()
        with torch.no_grad():
            weight = layer.whole_weight(dtype)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = layer.bias


class QuantLoraLinear(Linear):  # type: ignore[misc]
    """A packed linear layer with adapters; the packed weight is never changed."""

    def __init__(self, base_layer: QuantLinear, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():  # peft warns of any layer class that is not its own
            warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
            super().__init__(base_layer, *args, **kwargs)

    @property
    def lora_variants(self) -> dict[tuple[str, ...], Any]:
        """Plain LoRA and DoRA; other variants change the base weight."""
        return {(): None, ("use_dora",): PackedDora}

    @torch.no_grad()
    def orthogonal_init(self, adapter_name: str) -> None:
        """Begin with A and B whose product is zero: they use different rows of one rotation.

        peft's own gives them the dtype of the base weight, which is that of codes here.
        """
        rank = self.r[adapter_name]
        rotation = torch.linalg.qr(torch.randn(rank, rank))[0]
        first, second = self.lora_A[adapter_name].weight, self.lora_B[adapter_name].weight
        first.copy_(torch.randn(self.in_features, rank // 2).mm(rotation[0::2]).t() / 10)
        second.copy_(torch.randn(rank // 2, self.out_features).t().mm(rotation[1::2]) / 10)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Raise UsageError: codes have no room for a small update."""
        del safe_merge, adapter_names
        raise UsageError(
            "an adapter cannot be merged into packed weights, rounding would lose it; merge it "
            "into the original model and quantize that"
        )


def lora_config(model: PreTrainedModel, **settings: Any) -> LoraConfig:
    """Return a LoraConfig that knows packed layers; settings are those of peft.

    Without `target_modules` every QuantLinear of the model gets an adapter, save a head.
    Raises UsageError when there is none, or for initial values that read the base weight.
    """
    settings.setdefault("target_modules", list(_targets(model)))
    if not settings["target_modules"]:
        raise UsageError("the model has no packed linear layer to put an adapter on")
    return _knowing(LoraConfig(**settings))


def load_adapter(model: PreTrainedModel, folder: str | Path, **settings: Any) -> PeftModel:
    """Put a saved adapter on a packed model; settings are those of `PeftModel.from_pretrained`."""
    config = LoraConfig.from_pretrained(str(folder))
    config.inference_mode = not settings.get("is_trainable", False)
    return PeftModel.from_pretrained(model, str(folder), config=_knowing(config), **settings)


def _knowing(config: LoraConfig) -> LoraConfig:
    if config.init_lora_weights not in _INITIAL:
        raise UsageError(
            f"init_lora_weights {config.init_lora_weights!r} reads the base weight, which is "
            f"packed; use one of {list(_INITIAL)}"
        )
    config._register_custom_module({QuantLinear: QuantLinear.adapter_layer()})
    return config


def _targets(model: PreTrainedModel) -> Iterator[str]:
    """Names of packed linear layers; heads, which lie outside of the base model, are left out."""
    body = {id(module) for module in model.base_model.modules()}
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear) and id(module) in body:
            yield name
