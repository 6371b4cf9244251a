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

from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import Linear
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.linear import QuantLinear

_INITIAL = (True, False, "gaussian", "orthogonal")
"""Initial values that do not look at the base weight."""


class QuantLoraLinear(Linear):  # type: ignore[misc]
    """A packed linear layer with adapters; the packed weight is never changed."""

    def __init__(self, base_layer: QuantLinear, *args: Any, **kwargs: Any) -> None:
        with warnings.catch_warnings():  # peft warns of any layer class that is not its own
            warnings.filterwarnings("ignore", "Unsupported layer type", UserWarning)
            super().__init__(base_layer, *args, **kwargs)

    @property
    def lora_variants(self) -> dict[tuple[str, ...], None]:
        """Plain LoRA alone: the variants read or rescale the base weight."""
        return {(): None}

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
    config._register_custom_module({QuantLinear: QuantLoraLinear})
    return config


def _targets(model: PreTrainedModel) -> Iterator[str]:
    """Names of packed linear layers; heads, which lie outside of the base model, are left out."""
    body = {id(module) for module in model.base_model.modules()}
    for name, module in model.named_modules():
        if isinstance(module, QuantLinear) and id(module) in body:
            yield name
