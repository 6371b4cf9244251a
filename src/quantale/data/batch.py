"""What one forward pass of a training is given."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

UNSCORED = -100
"""Where a target is not scored."""


@dataclass(frozen=True)
class Batch:
    """Rows of tokens with what should come of them."""

    inputs: Tensor
    """(rows, tokens) int64."""
    targets: Tensor
    """(rows, tokens) int64, what follows each token; or (rows,) int64, the class of each row.

    Negative ones are not scored.
    """
    mask: Tensor | None = None
    """(rows, tokens) bool, true where there is a token; None where filling stands behind all tokens
    of its row, which a causal model does not see."""

    @classmethod
    def of_rows(cls, rows: Tensor) -> Self:
        """Make one of (rows, tokens + 1) int64; each column is the target of the one before it."""
        return cls(rows[:, :-1].clamp(min=0), rows[:, 1:].clamp(min=UNSCORED))

    @property
    def scored(self) -> int:
        """How many targets are scored."""
        return int((self.targets >= 0).sum())

    @property
    def used(self) -> Tensor:
        """(rows, tokens) bool, true where a token can have a say in what is scored: no filling."""
        if self.mask is not None:
            return self.mask
        if self.targets.dim() == 1:
            return torch.ones_like(self.inputs, dtype=torch.bool)
        return (self.targets >= 0).flip(1).cummax(1).values.flip(1)

    @property
    def positions(self) -> int:
        """Tokens that go through the model, filling included."""
        return self.inputs.numel()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        mask = None if self.mask is None else self.mask.to(device)
        return Batch(self.inputs.to(device), self.targets.to(device), mask)
