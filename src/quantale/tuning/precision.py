"""What a training computes in: autocast around the loss, and scaled gradients for fp16.

Autocast is torch's and not accelerate's `mixed_precision`, which is fixed for the life of a process
and would copy all logits to fp32 on their way out of the model. fp16 has no room for gradients
below 6e-8: the loss is multiplied by a scale that grows until a gradient overflows, whose step is
then left out (Micikevicius et al., arXiv 1710.03740, section 3.2).
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from quantale.core.recipe_training import Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_BESIDE = 1e-6
"""What torch adds to a norm that it divides by."""
_SMALLEST_SCALE = 2.0**-10
"""A scale that overflows no more by being halved: the numbers themselves are at fault."""


class Arithmetic:
    """The precision of one training on one device."""

    def __init__(self, wanted: Precision, device: str) -> None:
        """Choose where `auto` is wanted."""
        self.name: Precision = precision_on(wanted, device)
        self._device = device
        self._scaler = torch.amp.GradScaler(device, enabled=self.name == "fp16")

    def autocast(self) -> torch.autocast:
        """Return the context of a forward pass."""
        dtype = _DTYPES.get(self.name)
        return torch.autocast(self._device, dtype or torch.bfloat16, enabled=dtype is not None)

    def backward(self, loss: torch.Tensor) -> None:
        """Add to the gradients, which stay scaled until the step."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(
        self, optimizer: torch.optim.Optimizer, weights: Iterable[nn.Parameter], clip: float
    ) -> float:
        """Clip and step, and return the gradient's norm; where it is not finite, no step is taken.

        A smaller scale may help in fp16: see `is_lost`.
        """
        self._scaler.unscale_(optimizer)
        norm = _clipped(list(weights), clip)
        if math.isfinite(norm):
            optimizer.step()
        self._scaler.update()
        optimizer.zero_grad(set_to_none=True)
        return norm

    def is_lost(self, norm: float) -> bool:
        """Say whether a norm is not finite for another reason than the scale."""
        scales = self.name == "fp16" and self._scaler.get_scale() >= _SMALLEST_SCALE
        return not (math.isfinite(norm) or scales)

    def state(self) -> dict[str, Any]:
        """Return the scale and its history, JSON-able; empty without one."""
        return dict(self._scaler.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with a state."""
        if state:
            self._scaler.load_state_dict(state)


def precision_on(wanted: Precision, device: str) -> Precision:
    """Return the precision in which a device trains where `auto` leaves the choice to it."""
    if wanted != "auto":
        return wanted
    return "bf16" if computes_bf16(device) else "fp32"


def _clipped(weights: list[nn.Parameter], clip: float) -> float:
    """Scale gradients whose norm is above `clip`, and return it.

    Others are not touched: torch's `clip_grad_norm_` would multiply all of them by 1.
    """
    norm = nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
    found = float(norm)
    if math.isfinite(found) and found + _BESIDE > clip:
        nn.utils.clip_grads_with_norm_(weights, clip, norm)
    return found


def computes_bf16(device: str) -> bool:
    """Say whether a device computes bf16 natively."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16"))
