"""What takes the steps: AdamW of torch or of bitsandbytes, and its state as flat tensors.

AdamW is that of Loshchilov and Hutter, arXiv 1711.05101, algorithm 2. Its 8-bit form keeps both
moments as 8-bit codes of a table, scaled by blocks of 256 (Dettmers et al., arXiv 2110.02861);
weights of fewer than 4,096 numbers keep 32 bits. Pages let a GPU's optimizer state move to the
host's memory (arXiv 2305.14314, section 3). On a CPU all memory is the host's, and bitsandbytes has
no pages there: the same steps are taken without them.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from quantale.core.recipe_training import Optimizer
from quantale.quant import bnb_library
from quantale.tuning.settings import TrainSettings

_CLASSES: Mapping[Optimizer, Mapping[str, str]] = {
    "adamw-8bit": {"cpu": "AdamW8bit", "cuda": "AdamW8bit"},
    "paged-adamw": {"cpu": "AdamW32bit", "cuda": "PagedAdamW32bit"},
    "paged-adamw-8bit": {"cpu": "AdamW8bit", "cuda": "PagedAdamW8bit"},
}
"""Classes of `bitsandbytes.optim` by device."""
_SHARED = ("qmap1", "qmap2")
"""Tables of bitsandbytes that never change and that all weights share: made anew, not stored."""


def make_optimizer(
    weights: Mapping[str, nn.Parameter], settings: TrainSettings, device: str
) -> torch.optim.Optimizer:
    """Return the optimizer of these weights; decay acts on those of two dimensions or more.

    Raises EnvironmentLackingError where bitsandbytes is wanted and missing.
    """
    groups = _groups(weights.values(), settings.weight_decay)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, betas=settings.betas, fused=True)
    bnb_library.require(f"the optimizer {settings.optimizer}")
    bnb_library.functions()  # raises where the library is there and does not load
    optim = importlib.import_module("bitsandbytes.optim")
    kind = getattr(optim, _CLASSES[settings.optimizer]["cuda" if device == "cuda" else "cpu"])
    made: torch.optim.Optimizer = kind(groups, lr=0.0, betas=settings.betas)
    return made


def state_tensors(
    optimizer: torch.optim.Optimizer, weights: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Return the state by flat names such as "exp_avg/transformer.wte.weight"."""
    return {
        f"{key}/{name}": torch.as_tensor(value).contiguous()
        for name, weight in weights.items()
        for key, value in optimizer.state.get(weight, {}).items()
        if key not in _SHARED
    }


def restore_state(
    optimizer: torch.optim.Optimizer,
    weights: Mapping[str, torch.Tensor],
    saved: Mapping[str, torch.Tensor],
) -> None:
    """Put what `state_tensors` returned back."""
    if not isinstance(optimizer, torch.optim.AdamW):
        stepped = {weights[name] for key, name in map(_split, saved) if key == "step"}
        _begin_states(optimizer, stepped)
    for flat, value in saved.items():
        key, name = _split(flat)
        state = optimizer.state[weights[name]]
        old = state.get(key)
        if isinstance(old, torch.Tensor):
            old.copy_(value)  # in its place, which may be a page
        else:
            state[key] = int(value) if isinstance(old, int) else value.to(weights[name].device)


def _split(flat: str) -> tuple[str, str]:
    key, _, name = flat.partition("/")
    return key, name


def _begin_states(optimizer: Any, stepped: set[torch.Tensor]) -> None:
    """Let bitsandbytes lay out the state of the weights that have taken a step."""
    for group_index, group in enumerate(optimizer.param_groups):
        for index, weight in enumerate(group["params"]):
            if weight in stepped:
                optimizer.init_state(group, weight, group_index, index)


def _groups(weights: Iterable[nn.Parameter], decay: float) -> list[dict[str, Any]]:
    every = list(weights)
    matrices = [weight for weight in every if weight.dim() >= 2]
    vectors = [weight for weight in every if weight.dim() < 2]
    groups = [(matrices, decay), (vectors, 0.0)]
    return [{"params": group, "weight_decay": rate} for group, rate in groups if group]
