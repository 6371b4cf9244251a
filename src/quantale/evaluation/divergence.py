"""Row by row: the loss of a model, and how far it moved from its base, without storing logits.

Rows are scored positions. The base's log-probabilities of one batch are kept and every other
model is compared with them, a few rows at a time in two buffers that are used again, so that the
work stays in the cache. Log-softmax and KL terms are float32; the sum over the vocabulary of one
row is float32 too (torch adds pairwise), sums over rows are the caller's, in float64.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_CHUNK_ELEMENTS = 1 << 18
_CHUNK_ELEMENTS_OF_ACCELERATORS = 1 << 24  # few launches; there is no cache to stay in


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
    """(rows,) bool: the base's first token is the model's first too, or ties with it."""


def reference(logits: Tensor, rows: Tensor) -> Reference:
    """Keep the log-probabilities of the given rows of (positions, vocabulary) logits."""
    log_probs = torch.empty(len(rows), logits.shape[1], dtype=torch.float32, device=logits.device)
    buffer = _buffer(logits)
    for part in _chunks(len(rows), buffer):
        log_probs[part] = _log_softmax(logits, rows[part], buffer)
    return Reference(log_probs, log_probs.exp(), log_probs.argmax(dim=1))


def reference_scores(base: Reference, targets: Tensor) -> RowScores:
    """Score the base itself: its divergence is zero by definition."""
    nll = -base.log_probs.gather(1, targets[:, None]).squeeze(1)
    return RowScores(nll, torch.zeros_like(nll), torch.ones_like(targets, dtype=torch.bool))


def row_scores(
    logits: Tensor, rows: Tensor, targets: Tensor, base: Reference | None = None
) -> RowScores:
    """Score the given rows of (positions, vocabulary) logits against their targets."""
    buffer = _buffer(logits)
    terms = None if base is None else torch.empty_like(buffer, dtype=torch.float32)
    parts = []
    for part in _chunks(len(rows), buffer):
        log_probs = _log_softmax(logits, rows[part], buffer)
        nll = -log_probs.gather(1, targets[part, None]).squeeze(1)
        if base is None or terms is None:
            parts.append(RowScores(nll))
        else:
            parts.append(RowScores(nll, *_compared(log_probs, base, part, terms)))
    nll = torch.cat([one.nll for one in parts])
    if base is None:
        return RowScores(nll)
    kl = torch.cat([one.kl for one in parts if one.kl is not None])
    return RowScores(nll, kl, torch.cat([one.same for one in parts if one.same is not None]))


def _compared(
    log_probs: Tensor, base: Reference, part: slice, terms: Tensor
) -> tuple[Tensor, Tensor]:
    """Return KL and agreement of some rows; `log_probs` and `terms` are written over."""
    device = log_probs.device
    top = base.top[part].to(device)
    same = log_probs.gather(1, top[:, None]).squeeze(1) == log_probs.amax(dim=1)
    change = log_probs.sub_(base.log_probs[part].to(device))
    return _kl(base.probs[part].to(device), change, terms[: len(change)]), same


def _kl(probs: Tensor, change: Tensor, terms: Tensor) -> Tensor:
    """Return KL(base || model) of each row; change: log-probabilities of the model minus base's.

    Adding the probabilities' differences, which sum to zero, turns -p d into p (exp(d) - 1 - d):
    every term is positive and of second order in d, so the rounding of log-softmax, which would
    swamp divergences below 1e-6, cancels. Rows where exp(d) overflows are summed plainly.
    """
    kl = torch.expm1(change, out=terms).sub_(change).mul_(probs).sum(dim=1)
    steep = ~torch.isfinite(kl)
    if steep.any():
        kl[steep] = -(probs[steep] * change[steep]).sum(dim=1)
    return kl


def _log_softmax(logits: Tensor, rows: Tensor, buffer: Tensor) -> Tensor:
    taken = torch.index_select(logits, 0, rows, out=buffer[: len(rows)])
    return torch.log_softmax(taken.float(), dim=1)


def _buffer(logits: Tensor) -> Tensor:
    """Return room for as many rows as are worked on at once: (rows, vocabulary)."""
    on_cpu = logits.device.type == "cpu"
    elements = _CHUNK_ELEMENTS if on_cpu else _CHUNK_ELEMENTS_OF_ACCELERATORS
    rows = min(len(logits), max(1, elements // logits.shape[1]))
    return torch.empty(rows, logits.shape[1], dtype=logits.dtype, device=logits.device)


def _chunks(rows: int, buffer: Tensor) -> Iterator[slice]:
    step = len(buffer)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))
