"""Score language models on documents: all of them on the same windows, in one pass.

A protocol (see `protocols/`) plans windows; windows of like length are batched, padded on the
right and masked. Per batch the base model's log-probabilities are computed once and every other
model is compared with them, so that neither logits nor probabilities outlive their batch. Logits
are computed in the model's dtype, log-softmax in float32, sums in float64 in an order that does
not depend on batches.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import DataError, NumericalError, UsageError, nearest
from quantale.evaluation import divergence
from quantale.evaluation.divergence import RowScores
from quantale.evaluation.scores import DocumentScore
from quantale.evaluation.windows import (
    Limits,
    Plan,
    TextDocuments,
    Window,
    batches,
    encode,
    own_context,
    protocol_named,
)

Progress = Callable[[int, int], None]
"""Called with windows done and windows in all."""

_LOGITS_ELEMENTS = 1 << 24  # 64 MiB of float32 logits a batch and model


@dataclass(frozen=True)
class LanguageSettings:
    """How documents are scored."""

    protocol: str = "document"
    """Name of a protocol, with its number where it takes one ("blocks:2048")."""
    batch_size: int = 16
    """Most windows at once; changes speed, not results."""
    context: int | None = None
    """Shorter context than the model's own, in tokens."""
    cut: int | None = None
    """Score only the first so many tokens of each document, the beginning token included."""


@dataclass(frozen=True)
class LanguageScores:
    """What all models scored, and how."""

    documents: tuple[DocumentScore, ...]
    """Model after model, documents in their order."""
    protocol: str
    """Fingerprint of the protocol, carried by every number."""
    skipped: tuple[str, ...]
    """Ids of documents with nothing to score (empty ones)."""
    base: str | None


@dataclass(frozen=True)
class _Tape:
    """Results of one model, one entry a scored token, in the plan's order."""

    nll: NDArray[np.float32]
    kl: NDArray[np.float32]
    same: NDArray[np.bool_]


@dataclass(frozen=True)
class _Batch:
    input_ids: Tensor
    """(windows, longest)."""
    attention_mask: Tensor
    rows: Tensor
    """(scored,): positions, in the flattened batch, that predict a scored token."""
    targets: Tensor
    """(scored,)."""
    slots: NDArray[np.int64]
    """(scored,): where the results go on the tape."""


def score(
    models: Mapping[str, PreTrainedModel],
    tokenizer: Any,
    documents: TextDocuments,
    settings: LanguageSettings | None = None,
    base: str | None = None,
    progress: Progress | None = None,
) -> LanguageScores:
    """Score every model on every document; with `base`, also its divergence from that model.

    Raises UsageError for an unknown base or protocol, DataError for documents without a token to
    score or a vocabulary that does not fit, NumericalError for a loss that is not finite.
    """
    settings = settings or LanguageSettings()
    _check_base(models, base)
    protocol = protocol_named(settings.protocol)
    limits = Limits(tokenizer.bos_token_id, _context(models, settings.context), settings.cut)
    plan = protocol.plan(encode(tokenizer, documents), limits)
    if not plan.units:
        raise DataError(f"no document has a token to score; {len(plan.skipped)} empty ones came")
    _check_vocabulary(models, plan)
    tapes = _run(_base_first(models, base), base, plan, settings.batch_size, progress)
    found = [one for name in models for one in _documents(name, tapes[name], plan, base)]
    return LanguageScores(tuple(found), protocol.fingerprint(limits), plan.skipped, base)


def _check_base(models: Mapping[str, PreTrainedModel], base: str | None) -> None:
    if not models:
        raise UsageError("scoring needs at least one model, none came")
    if base is not None and base not in models:
        known = ", ".join(models)
        raise UsageError(f"base {base!r} is none of the models: {known}{nearest(base, models)}")


def _context(models: Mapping[str, PreTrainedModel], wanted: int | None) -> int:
    """Return the longest input that all models take and the caller wants."""
    own = {name: own_context(model) for name, model in models.items()}
    known = {name: size for name, size in own.items() if size is not None}
    if wanted is None and len(known) < len(own):
        unknown = next(name for name in own if name not in known)
        raise UsageError(
            f"the config of model {unknown!r} does not tell its context; set `context`"
        )
    if not known:
        return wanted or 0
    smallest = min(known, key=lambda name: known[name])
    if wanted is not None and wanted > known[smallest]:
        raise UsageError(f"context {wanted} is too long: {smallest!r} takes {known[smallest]}")
    return wanted or known[smallest]


def _check_vocabulary(models: Mapping[str, PreTrainedModel], plan: Plan) -> None:
    highest = max(int(window.tokens.max()) for window in plan.windows)
    for name, model in models.items():
        size = int(model.config.vocab_size)
        if highest >= size:
            raise DataError(
                f"token {highest} is outside the vocabulary of model {name!r} ({size}); "
                "use the tokenizer that belongs to the model"
            )


def _base_first(
    models: Mapping[str, PreTrainedModel], base: str | None
) -> dict[str, PreTrainedModel]:
    return dict(sorted(models.items(), key=lambda item: item[0] != base))


def _run(
    models: Mapping[str, PreTrainedModel],
    base: str | None,
    plan: Plan,
    batch_size: int,
    progress: Progress | None,
) -> dict[str, _Tape]:
    """Fill one tape a model; the base comes first in `models`."""
    starts = np.cumsum([0, *(window.scored for window in plan.windows)])
    tapes = {name: _empty_tape(int(starts[-1])) for name in models}
    vocabulary = max(int(model.config.vocab_size) for model in models.values())
    done = 0
    with _evaluating(models.values()), torch.inference_mode():
        for chosen in batches(plan.windows, batch_size, _LOGITS_ELEMENTS // vocabulary):
            batch = _collate([plan.windows[i] for i in chosen], starts[chosen])
            for name, result in _score_batch(models, base, batch):
                _record(tapes[name], batch.slots, result)
            done += len(chosen)
            if progress is not None:
                progress(done, len(plan.windows))
    return tapes


@contextmanager
def _evaluating(models: Sequence[PreTrainedModel] | Any) -> Iterator[None]:
    """Switch dropout off, and back on where it was on."""
    training = [model for model in models if model.training]
    for model in training:
        model.eval()
    try:
        yield
    finally:
        for model in training:
            model.train()


def _collate(windows: Sequence[Window], starts: NDArray[np.int64]) -> _Batch:
    longest = max(len(window.tokens) for window in windows)
    ids = np.zeros((len(windows), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    rows, targets, slots = [], [], []
    for i, window in enumerate(windows):
        ids[i, : len(window.tokens)] = window.tokens
        mask[i, : len(window.tokens)] = 1
        rows.append(i * longest + np.arange(window.first - 1, len(window.tokens) - 1))
        targets.append(window.tokens[window.first :])
        slots.append(starts[i] + np.arange(window.scored))
    return _Batch(
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(np.concatenate(targets)),
        np.concatenate(slots),
    )


def _score_batch(
    models: Mapping[str, PreTrainedModel], base: str | None, batch: _Batch
) -> Iterator[tuple[str, RowScores]]:
    kept = None
    for name, model in models.items():
        logits = _logits(model, batch)
        rows, targets = batch.rows.to(logits.device), batch.targets.to(logits.device)
        if name == base:
            kept = divergence.reference(logits, rows)
            yield name, divergence.reference_scores(kept, targets)
            continue
        if kept is not None and kept.vocabulary != logits.shape[1]:
            raise DataError(
                f"model {name!r} ranks {logits.shape[1]} tokens and the base {kept.vocabulary}; "
                "divergence needs one vocabulary: leave the base out and use bits per byte"
            )
        yield name, divergence.row_scores(logits, rows, targets, kept)


def _logits(model: PreTrainedModel, batch: _Batch) -> Tensor:
    """Return (windows * longest, vocabulary)."""
    ids = batch.input_ids.to(model.device)
    mask = batch.attention_mask.to(model.device)
    logits: Tensor = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return logits.flatten(0, 1)


def _empty_tape(tokens: int) -> _Tape:
    return _Tape(
        np.zeros(tokens, np.float32), np.zeros(tokens, np.float32), np.zeros(tokens, np.bool_)
    )


def _record(tape: _Tape, slots: NDArray[np.int64], result: RowScores) -> None:
    tape.nll[slots] = result.nll.cpu().numpy()
    if result.kl is not None and result.same is not None:
        tape.kl[slots] = result.kl.cpu().numpy()
        tape.same[slots] = result.same.cpu().numpy()


def _documents(name: str, tape: _Tape, plan: Plan, base: str | None) -> Iterator[DocumentScore]:
    at = 0
    for unit in plan.units:
        part = slice(at, at + unit.tokens)
        at += unit.tokens
        nll = float(tape.nll[part].sum(dtype=np.float64))
        kl = float(tape.kl[part].sum(dtype=np.float64))
        if not np.isfinite([nll, kl]).all():
            raise NumericalError(
                f"model {name!r} on document {unit.id!r}: nll {nll}, KL {kl}; "
                "its weights or its dtype overflow"
            )
        yield DocumentScore(
            model=name,
            document=unit.id,
            nll=nll,
            tokens=unit.tokens,
            bytes=unit.bytes,
            unknown=unit.unknown,
            kl_sum=None if base is None else kl,
            top1_same=None if base is None else int(tape.same[part].sum()),
            kl_tokens=None if base is None else tape.kl[part],
        )
