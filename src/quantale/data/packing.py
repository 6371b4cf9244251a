"""Training batches: windows of documents laid end to end, or one document a row.

Which rows a step gets is a function of (seed, step) alone, so a resumed run needs no saved
position. In windows a token sees the documents before it in its window, as in pre-training; in
filled-up rows it sees its own document only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from quantale.data.batch import UNSCORED, Batch
from quantale.data.examples import Example
from quantale.data.windows import Align, TokenStream, WindowSampler


@dataclass(frozen=True)
class Batches:
    """Training batches without end."""

    read: Callable[[int], Batch]
    """The n-th one."""
    rows: int
    """Rows in one pass over the data."""

    def __call__(self, number: int) -> Batch:
        """Return the n-th batch."""
        return self.read(number)


def windows(stream: TokenStream, length: int, batch_size: int, seed: int, align: Align) -> Batches:
    """Return batches of windows of `length` inputs; raises DataError for too short a stream."""
    sampler = WindowSampler(stream, length, batch_size, seed, align=align)
    tokens = stream.tokens.astype(np.int64)
    targets = tokens if stream.scored is None else np.where(stream.scored, tokens, UNSCORED)

    def batch(step: int) -> Batch:
        at = sampler.positions(step)  # (rows, length + 1)
        inputs, wanted = tokens[at[:, :-1]], targets[at[:, 1:]]
        return Batch(torch.from_numpy(inputs), torch.from_numpy(wanted))

    return Batches(batch, sampler.windows_per_epoch)


def padded(examples: Sequence[Example], batch_size: int, seed: int, filler: int) -> Batches:
    """Return batches of one example a row; an epoch is a new random order of all."""

    def batch(step: int) -> Batch:
        return pad(
            [examples[i] for i in chosen_rows(len(examples), batch_size, seed, step)], filler
        )

    return Batches(batch, len(examples))


def chosen_rows(rows: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Return the rows of a step; a batch that begins in one epoch may end in the next."""
    found: list[int] = []
    while len(found) < batch_size:
        epoch, index = divmod(step * batch_size + len(found), rows)
        order = np.random.default_rng([seed, epoch]).permutation(rows)
        found += order[index : index + batch_size - len(found)].tolist()
    return found


def pad(examples: Sequence[Example], filler: int, *, masked: bool = True) -> Batch:
    """Fill rows up on the right to the longest; what is filled is neither seen nor scored.

    masked: say so in a mask, too, which causal models do not need.
    """
    shape = (len(examples), max(one.inputs for one in examples))
    inputs, targets = np.full(shape, filler), np.full(shape, UNSCORED)
    mask = np.zeros(shape, dtype=np.bool_)
    for row, one in enumerate(examples):
        inputs[row, : one.inputs] = one.tokens[:-1]
        targets[row, one.first - 1 : one.inputs] = one.tokens[one.first :]
        mask[row, : one.inputs] = True
    seen = None if mask.all() or not masked else torch.from_numpy(mask)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets), seen)


def pad_classes(rows: Sequence[Sequence[int]], classes: Sequence[int], filler: int) -> Batch:
    """Fill texts up on the right to the longest; targets are the numbers of their classes."""
    longest = max(map(len, rows))
    inputs = [[*row, *[filler] * (longest - len(row))] for row in rows]
    mask = torch.tensor([[i < len(row) for i in range(longest)] for row in rows])
    return Batch(torch.tensor(inputs), torch.tensor(classes), None if mask.all() else mask)
