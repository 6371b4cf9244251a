"""One pass over windows: batches, padding and the forward calls of all models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import DataError
from quantale.evaluation import divergence
from quantale.evaluation.divergence import RowScores
from quantale.evaluation.windows import Window

Padding = Literal["right", "left"]


@dataclass(frozen=True)
class Batch:
    """Windows of like length, padded and masked."""

    input_ids: Tensor
    """(windows, longest)."""
    attention_mask: Tensor
    """(windows, longest), zero where padded."""
    position_ids: Tensor | None
    """(windows, longest); None where padding stands on the right and models count themselves."""
    rows: Tensor
    """(scored,): positions, in the flattened batch, that predict a scored token."""
    targets: Tensor
    """(scored,)."""


def collate(windows: Sequence[Window], padding: Padding) -> Batch:
    """Pad windows to the longest of them."""
    longest = max(len(window.tokens) for window in windows)
    ids = np.zeros((len(windows), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    rows, targets = [], []
    for i, window in enumerate(windows):
        size = len(window.tokens)
        begin = longest - size if padding == "left" else 0
        ids[i, begin : begin + size] = window.tokens
        mask[i, begin : begin + size] = 1
        rows.append(i * longest + begin + np.arange(window.first - 1, size - 1))
        targets.append(window.tokens[window.first :])
    positions = np.maximum(mask.cumsum(axis=1) - 1, 0) if padding == "left" else None
    return Batch(
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        None if positions is None else torch.from_numpy(positions),
        torch.from_numpy(np.concatenate(rows)),
        torch.from_numpy(np.concatenate(targets)),
    )


def score_batch(
    models: Mapping[str, PreTrainedModel], base: str | None, batch: Batch
) -> Iterator[tuple[str, RowScores]]:
    """Yield the scores of every model; the base, if any, comes first in `models`.

    Raises DataError for a model that ranks other tokens than the base.
    """
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


@contextmanager
def evaluating(models: Iterable[PreTrainedModel]) -> Iterator[None]:
    """Switch dropout and gradients off, and dropout back on where it was on."""
    training = [model for model in models if model.training]
    for model in training:
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for model in training:
            model.train()


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Return (windows * longest, vocabulary)."""
    given = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.position_ids is not None:
        given["position_ids"] = batch.position_ids
    placed = {name: tensor.to(model.device) for name, tensor in given.items()}
    logits: Tensor = model(**placed, use_cache=False).logits
    return logits.flatten(0, 1)
