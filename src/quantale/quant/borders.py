"""Hidden states at the borders of blocks, kept in files that are read and written in pieces.

Not memory-mapped: mapped pages would count as resident memory of the process.
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from quantale.core import files


class HiddenStates:
    """Hidden states of all samples at one block border."""

    def __init__(self, path: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
        self.path = path
        self._sample = shape[1:]
        self._dtype = dtype
        self._nbytes = shape[1] * shape[2] * dtype.itemsize  # of one sample

    def sync(self) -> None:
        """Write everything through to the disk."""
        files.sync(self.path)

    def __getitem__(self, pick: slice) -> Tensor:
        """Return some samples: (n, length, width)."""
        with self.path.open("rb") as file:
            file.seek(pick.start * self._nbytes)
            content = bytearray(file.read((pick.stop - pick.start) * self._nbytes))
        return torch.frombuffer(content, dtype=self._dtype).view(-1, *self._sample)

    def __setitem__(self, pick: slice, value: Tensor) -> None:
        content = value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        with self.path.open("r+b") as file:
            file.seek(pick.start * self._nbytes)
            file.write(content)


@dataclass(frozen=True)
class Border:
    """Two files of hidden states: what enters a block, and what leaves it."""

    even: HiddenStates
    odd: HiddenStates

    def source(self, index: int) -> HiddenStates:
        """Return what enters block `index`."""
        return self.odd if index % 2 else self.even

    def target(self, index: int) -> HiddenStates:
        """Return what leaves block `index`."""
        return self.source(index + 1)


def open_borders(
    folder: Path, names: Sequence[str], shape: tuple[int, int, int], dtype: torch.dtype
) -> dict[str, Border]:
    """Return the borders of these names, their files reserved on the disk."""
    paths = {name: [folder / f"{name}-{turn}.bin" for turn in (0, 1)] for name in names}
    reserve([p for pair in paths.values() for p in pair], math.prod(shape) * dtype.itemsize)
    made = {name: [HiddenStates(p, shape, dtype) for p in pair] for name, pair in paths.items()}
    return {name: Border(*pair) for name, pair in made.items()}


def reserve(paths: Sequence[Path], nbytes: int) -> None:
    """Give every file its size on the disk; new files go again when one finds no room.

    So a full disk is found before any work is done.
    """
    new = [path for path in paths if not path.exists()]
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, nbytes)
    except OSError:
        for path in new:
            path.unlink(missing_ok=True)
        raise
