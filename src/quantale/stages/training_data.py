"""What a training reads: windows of the training part, and held-out documents as rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from quantale.core.recipe_training import TrainSection
from quantale.data import windows
from quantale.data.batch import UNSCORED, Batch
from quantale.stages.corpus import Corpus, first_documents
from quantale.tuning.settings import TrainData


def training_data(
    section: TrainSection, corpus: Corpus, tokenizer: Any, context: int, seed: int
) -> TrainData:
    """Return the batches of every step and of every validation; raises DataError."""
    stream = windows.encode_documents(tokenizer, corpus.train.texts)
    sampler = windows.WindowSampler(stream, context, section.batch_size, seed, align="stream")
    held_out = first_documents(corpus.validation, section.evaluate_documents)
    rows = validation_rows(tokenizer, held_out.texts, context)
    parts = torch.split(rows, section.batch_size)
    epoch = sampler.windows_per_epoch / section.batch_size
    return TrainData(_batches(sampler.batch), [Batch.of_rows(part) for part in parts], epoch)


def _batches(rows: Callable[[int], Tensor]) -> Callable[[int], Batch]:
    return lambda step: Batch.of_rows(rows(step))


def validation_rows(tokenizer: Any, texts: Sequence[str], context: int) -> Tensor:
    """Return held-out documents as rows (rows, context + 1), each token a target once.

    A document begins a row, as in evaluation; what is longer goes on in rows of its own.
    """
    stream = windows.encode_documents(tokenizer, texts)
    tokens = torch.from_numpy(stream.tokens.astype("int64"))
    ends = [*stream.starts[1:].tolist(), len(tokens)]
    rows = [
        _row(tokens[start : min(start + context + 1, end)], context + 1)
        for first, end in zip(stream.starts.tolist(), ends, strict=True)
        for start in range(first, end - 1, context)
    ]
    return torch.stack(rows)


def _row(tokens: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, length - len(tokens)), value=UNSCORED)
