"""Sampling in which every row of a batch has random numbers of its own.

What a row becomes depends on its own seed and the model, not on which rows share its batch. The
same seeds give two models the same random numbers (Gumbel noise, Maddison et al., arXiv
1411.0030), so two models that agree write the same, and differences of two are less noisy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from quantale.inference.sampling import COLDEST


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.8
    """0: always the likeliest token."""
    top_k: int | None = 50
    top_p: float | None = None

    @property
    def is_greedy(self) -> bool:
        """Say whether nothing is random."""
        return self.temperature < COLDEST


class SeededDraws(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise to the warped logits: the largest sum is a draw from their softmax."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(sampling.temperature)]
        if sampling.top_k is not None:
            self._warpers.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p is not None and sampling.top_p < 1.0:
            self._warpers.append(TopPLogitsWarper(sampling.top_p))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return (rows, vocabulary) scores whose largest entry is the token drawn."""
        warped: Tensor = scores.float()
        for warper in self._warpers:
            warped = warper(input_ids, warped)
        waits = torch.stack(
            [
                torch.empty(warped.shape[1]).exponential_(generator=generator)
                for generator in self._generators
            ]
        )
        return warped - waits.log().to(warped.device)
