"""The gate of every export: what another reader finds must be what was meant, and near the model.

Parameters must be equal number for number, so that a flipped bit or a lost byte is seen, and so
must the tokenizer. Then the divergence KL(model || export) is measured; exact exports must stay
below 1e-4 nats a token. Whatever fails is never moved into place.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import ModelFileError, NumericalError
from quantale.data.tokenizers import tokenizer_sha256
from quantale.evaluation.divergence import reference, row_scores
from quantale.export.exporter import Exporter, Written
from quantale.export.source import Source
from quantale.models.load import load, load_tokenizer

LIMITS: Final = {"exact": 1e-4, "rounded": 1e-2}
"""Largest mean divergence by grade, nats a token."""
MAX_KL: Final = 1.0
"""The same for requantized exports, unless a caller gives another."""
_BATCH: Final = 8


@dataclass(frozen=True)
class Verified:
    """What an export is worth."""

    kl_mean: float
    """KL(model || export), nats a token (of a classifier: a text)."""
    kl_max: float
    top1: float
    """Share of positions at which both rank the same token first."""
    tokens: int
    limit: float

    def record(self) -> dict[str, float | int]:
        """Return the JSON-able form."""
        return {
            "kl_mean": self.kl_mean,
            "kl_max": self.kl_max,
            "top1_agreement": self.top1,
            "tokens": self.tokens,
            "kl_limit": self.limit,
        }


def verify_export(
    exporter: Exporter,
    source: Source,
    written: Written,
    folder: Path,
    windows: Tensor,
    max_kl: float | None = None,
) -> Verified:
    """Read an export back and hold it against the model.

    windows: (samples, length) tokens. Raises ModelFileError for a file that is not what was meant,
    NumericalError where the divergence passes its limit.
    """
    found = exporter.read_back(folder)
    compare_parameters(written.meant, found, folder)
    _compare_tokenizers(source.tokenizer, folder)
    limit = LIMITS.get(written.grade, MAX_KL) if max_kl is None else max_kl
    running = load(folder).model if written.rounds_inputs else found
    verified = divergence(source.model, running, windows, limit)
    if not math.isfinite(verified.kl_mean) or verified.kl_mean > limit:
        raise NumericalError(
            f"the {written.kind} export is {verified.kl_mean:.3g} nats a token away from the model "
            f"({written.grade}; the limit is {limit:g}), so nothing was published; choose a finer "
            "--type, or raise --max-kl if that is what you want"
        )
    return verified


def compare_parameters(meant: Mapping[str, Tensor], found: PreTrainedModel, folder: Path) -> None:
    """Raise ModelFileError naming the first parameter that is not what was meant."""
    state = dict(found.named_parameters())
    odd = sorted(set(meant).symmetric_difference(state))
    if odd:
        raise ModelFileError(f"{folder}: the export lacks {odd[0]}, or has it and should not")
    for name, tensor in meant.items():
        if not torch.equal(tensor, state[name].detach().to(torch.float32)):
            raise ModelFileError(
                f"{folder}: {name} is not what was written; the file is damaged, nothing was "
                "published"
            )


def _compare_tokenizers(tokenizer: Any, folder: Path) -> None:
    if tokenizer is None:
        return
    found = load_tokenizer(folder)
    if found is None or tokenizer_sha256(found) != tokenizer_sha256(tokenizer):
        raise ModelFileError(f"{folder}: the tokenizer beside the export is not the model's")


@torch.no_grad()
def divergence(model: Any, other: Any, windows: Tensor, limit: float) -> Verified:
    """Measure KL(model || other) at every position of some windows."""
    kl: list[Tensor] = []
    same: list[Tensor] = []
    for part in torch.split(windows, _BATCH):
        ours, theirs = (_rows(one, part) for one in (model, other))
        index = torch.arange(len(ours))
        base = reference(ours, index)
        scores = row_scores(theirs, index, base.top, base)
        if scores.kl is not None and scores.same is not None:
            kl.append(scores.kl.double())
            same.append(scores.same)
    every, agreed = torch.cat(kl), torch.cat(same)
    return Verified(
        kl_mean=float(every.mean()),
        kl_max=float(every.max()),
        top1=float(agreed.double().mean()),
        tokens=len(every),
        limit=limit,
    )


def _rows(model: Any, windows: Tensor) -> Tensor:
    """Return logits as (positions, entries); of a classifier (texts, classes)."""
    if model.get_output_embeddings() is None and model.config.pad_token_id is None:
        logits = torch.cat([model(input_ids=row[None]).logits for row in windows])
    else:
        logits = model(input_ids=windows).logits
    rows: Tensor = logits.reshape(-1, logits.shape[-1]).to(torch.float32)
    return rows
