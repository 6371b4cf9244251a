"""How the next token is drawn: the largest of warped logits and noise of the request's own.

Gumbel noise (Maddison et al., arXiv 1411.0030) makes the largest sum a draw from the softmax. The
noise comes from a generator of the request alone, one vector a token, so that a text depends on
its seed and its model and not on what else is written; and two models with the same seed get the
same noise, so that they differ only where their probabilities do.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

COLDEST = 1e-3
"""Below this temperature sampling is greedy; dividing by less overflows."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn."""

    temperature: float = 0.8
    """0: always the likeliest token."""
    top_k: int | None = None
    """Draw from the likeliest K; None: from all."""
    top_p: float | None = None
    """Draw from the fewest tokens with this joint share; None: from all."""
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """Say whether nothing is random."""
        return self.temperature < COLDEST


class Dice:
    """The noise of one request: vector by vector, the same for the same seed."""

    def __init__(self, sampling: Sampling) -> None:
        self._greedy = sampling.is_greedy
        self._generator = torch.Generator().manual_seed(sampling.seed % 2**63)

    def throw(self, vocabulary: int) -> Tensor | None:
        """Return the noise of the next token, (vocabulary,) float32; None where all is greedy."""
        if self._greedy:
            return None
        waits = torch.empty(vocabulary).exponential_(generator=self._generator)
        return waits.log_().neg_()


def choose(logits: Tensor, sampling: Sampling, noise: Tensor | None) -> int:
    """Return the token drawn; logits: (vocabulary,) float32, of equal ones the first wins."""
    if noise is None:
        return int(logits.argmax())
    return int((warped(logits, sampling) + noise.to(logits.device)).argmax())


def warped(logits: Tensor, sampling: Sampling) -> Tensor:
    """Return logits over the temperature, with -inf for tokens that cannot come.

    Of tokens as likely as the K-th all stay. At least one token stays.
    """
    scaled = logits / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < len(scaled):
        least = scaled.topk(sampling.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < least, -torch.inf)
    if sampling.top_p is not None and sampling.top_p < 1.0:
        ordered, order = scaled.softmax(-1).sort(descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered
        gone = before >= sampling.top_p
        gone[0] = False
        scaled = scaled.masked_fill(torch.zeros_like(gone).scatter(0, order, gone), -torch.inf)
    return scaled
