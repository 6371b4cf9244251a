"""Row by row: the loss of a model, and how far it moved from its base, without storing logits.

Rows are scored positions. The base's log-probabilities of one batch are kept and every other
model is compared with them, a few rows at a time so that the work stays in the cache.
Log-softmax and KL terms are float32; the sum over the vocabulary of one row is float32 too
(torch adds pairwise), sums over rows are the caller's, in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 19
_STEEP = 60.0  # nats


@dataclass(frozen=True)
class Reference:
    """What the base said on one batch."""

    log_probs: Tensor
    """(rows, vocabulary) float32."""
    probs: Tensor
    """(rows, vocabulary) float32."""
    top: Tensor
    """(rows,): the token ranked first."""

    @property
    def vocabulary(self) -> int:
        """How many tokens are ranked."""
        return self.log_probs.shape[1]


@dataclass(frozen=True)
class RowScores:
    """One number a row; `kl` and `same` are None without a base."""

    nll: Tensor
    """(rows,) float32, nats."""
    kl: Tensor | None = None
    """(rows,) float32: KL(base || model), nats."""
    same: Tensor | None = None
    """(rows,) bool: base and model rank the same token first."""


def reference(logits: Tensor, rows: Tensor) -> Reference:
    """Keep the log-probabilities of the given rows of (positions, vocabulary) logits."""
    log_probs = torch.empty(len(rows), logits.shape[1], dtype=torch.float32, device=logits.device)
    for part in _chunks(len(rows), logits.shape[1]):
        log_probs[part] = _log_softmax(logits, rows[part])
    return Reference(log_probs, log_probs.exp(), log_probs.argmax(dim=1))


def reference_scores(base: Reference, targets: Tensor) -> RowScores:
    """Score the base itself: its divergence is zero by definition."""
    nll = -base.log_probs.gather(1, targets[:, None]).squeeze(1)
    return RowScores(nll, torch.zeros_like(nll), torch.ones_like(targets, dtype=torch.bool))


def row_scores(
    logits: Tensor, rows: Tensor, targets: Tensor, base: Reference | None = None
) -> RowScores:
    """Score the given rows of (positions, vocabulary) logits against their targets."""
    parts = [
        _part_scores(_log_softmax(logits, rows[part]), targets[part], base, part)
        for part in _chunks(len(rows), logits.shape[1])
    ]
    nll = torch.cat([part.nll for part in parts])
    if base is None:
        return RowScores(nll)
    kl = torch.cat([part.kl for part in parts if part.kl is not None])
    return RowScores(nll, kl, torch.cat([part.same for part in parts if part.same is not None]))


def _part_scores(
    log_probs: Tensor, targets: Tensor, base: Reference | None, part: slice
) -> RowScores:
    nll = -log_probs.gather(1, targets[:, None]).squeeze(1)
    if base is None:
        return RowScores(nll)
    device = log_probs.device
    same = log_probs.argmax(dim=1) == base.top[part].to(device)
    change = log_probs - base.log_probs[part].to(device)
    return RowScores(nll, _kl(base.probs[part].to(device), change), same)


def _kl(probs: Tensor, change: Tensor) -> Tensor:
    """Return KL(base || model) of each row; change: log-probabilities of the model minus base's.

    Adding the probabilities' differences, which sum to zero, turns -p d into p (exp(d) - 1 - d):
    every term is positive and of second order in d, so the rounding of log-softmax, which would
    swamp divergences below 1e-6, cancels. Rows where exp(d) nears overflow are summed plainly.
    """
    kl = torch.expm1(change).sub_(change).mul_(probs).sum(dim=1)
    steep = change.amax(dim=1) > _STEEP
    if steep.any():
        kl[steep] = -(probs[steep] * change[steep]).sum(dim=1)
    return kl


def _log_softmax(logits: Tensor, rows: Tensor) -> Tensor:
    return torch.log_softmax(logits[rows].float(), dim=1)


def _chunks(rows: int, vocabulary: int) -> Iterator[slice]:
    step = max(1, _CHUNK_ELEMENTS // vocabulary)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
