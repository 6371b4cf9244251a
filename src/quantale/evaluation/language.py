"""Score language models on documents: all of them on the same windows, in one pass.

A protocol (see `protocols/`) plans windows; windows of like length are batched, padded and
masked (`passes`). Per batch the base model's log-probabilities are computed once and every other
model is compared with them, so that neither logits nor probabilities outlive their batch; what
stays are sums (`tapes`). Logits are computed in the model's dtype, log-softmax in float32, sums
in float64 in an order that does not depend on batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from quantale.core.errors import DataError, UsageError, nearest
from quantale.evaluation.passes import Padding, collate, evaluating, score_batch
from quantale.evaluation.scores import DocumentScore
from quantale.evaluation.tapes import Tape, document_scores, making_tapes
from quantale.evaluation.windows import (
    Limits,
    Plan,
    TextDocuments,
    adds_bos,
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
    """Score only the first so many tokens of each document, the beginning token included.

    Where a protocol joins texts, of the whole.
    """
    padding: Padding = "right"
    """Where short windows are filled up; changes nothing but rounding."""


@dataclass(frozen=True)
class LanguageScores:
    """What all models scored, and how."""

    documents: tuple[DocumentScore, ...]
    """Model after model, documents in their order; blocks where the protocol joins texts."""
    protocol: str
    """Fingerprint of the protocol, carried by every number."""
    skipped: tuple[str, ...]
    """Ids of documents with nothing to score (empty ones)."""
    base: str | None
    unit: str = "document"
    """What a line of `documents` is and what is resampled: "document" or "block"."""
    unscored: int = 0
    """Tokens of the texts that are context only or left over: no number rests on them."""


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
    context = _context(models, settings.context)
    is_marked = bool(getattr(documents, "marked", False))  # a chat carries its own beginning
    bos = None if is_marked else tokenizer.bos_token_id
    limits = Limits(bos, context, settings.cut, adds_bos(tokenizer))
    encoded = encode(tokenizer, documents, protocol.separator)
    plan = protocol.plan(encoded, limits)
    if not plan.units:
        raise DataError(f"no document has a token to score; {len(plan.skipped)} empty ones came")
    _check_vocabulary(models, plan)
    with making_tapes(list(models), base, plan) as tapes:
        _run(_base_first(models, base), base, plan, settings, tapes, progress)
        found = tuple(document_scores(tapes, plan, base))
    texts = sum(len(one.tokens) for one in encoded)
    return LanguageScores(
        found,
        protocol.fingerprint(limits),
        plan.skipped,
        base,
        unit="document" if protocol.separator is None else "block",
        unscored=texts - sum(unit.tokens for unit in plan.units),
    )


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
    settings: LanguageSettings,
    tapes: Mapping[str, Tape],
    progress: Progress | None,
) -> None:
    """Fill the tapes; the base comes first in `models`."""
    vocabulary = max(int(model.config.vocab_size) for model in models.values())
    positions = _LOGITS_ELEMENTS // vocabulary
    done = 0
    with evaluating(models.values()):
        for chosen in batches(plan.windows, settings.batch_size, positions):
            batch = collate([plan.windows[i] for i in chosen], settings.padding)
            for name, found in score_batch(models, base, batch):
                tapes[name].write_nll(chosen, found.nll.cpu().numpy())
                if found.kl is not None and found.same is not None:
                    kl, same = found.kl.cpu().numpy(), found.same.cpu().numpy()
                    tapes[name].write_divergence(chosen, kl, same)
            done += len(chosen)
            if progress is not None:
                progress(done, len(plan.windows))
