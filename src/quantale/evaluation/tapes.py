"""What models score while windows pass by: sums a window in memory, KL of each token on disk.

Memory is three numbers a window and model, whatever the number of tokens. The KL of every token,
which median and p99 need, goes as float32 into a temporary file without a name, 4 bytes a token
and model, and is read through a memory map when the quantiles are asked for: they are exact.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import NumericalError
from quantale.evaluation.scores import DocumentScore
from quantale.evaluation.windows import Plan

_KL_DTYPE = np.dtype(np.float32)

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Tape:
    """Results of one model; each window is written once, in any order."""

    nll: NDArray[np.float64]
    """(windows,): nats."""
    kl: NDArray[np.float64]
    """(windows,): nats; zeros without a base and for the base."""
    same: NDArray[np.int64]
    """(windows,): tokens that base and model rank first alike; the base agrees with itself."""
    starts: NDArray[np.int64]
    """(windows + 1,): scored tokens before each window."""
    file: IO[bytes] | None
    """KL a token; None without a base and for the base."""

    def write_nll(self, windows: Sequence[int], values: Floats32) -> None:
        """Keep the loss of whole windows; values: (scored,), window after window."""
        self.nll[windows] = np.add.reduceat(values.astype(np.float64), self._begins(windows))

    def write_divergence(
        self, windows: Sequence[int], kl: Floats32, same: NDArray[np.bool_]
    ) -> None:
        """Keep what the base's comparison found of whole windows; both: (scored,)."""
        begins = self._begins(windows)
        self.same[windows] = np.add.reduceat(same.astype(np.int64), begins)
        if self.file is None:
            return
        self.kl[windows] = np.add.reduceat(kl.astype(np.float64), begins)
        for window, part in zip(windows, np.split(kl, begins[1:]), strict=True):
            self.file.seek(_KL_DTYPE.itemsize * int(self.starts[window]))
            self.file.write(part.astype(_KL_DTYPE).tobytes())

    def token_kl(self) -> Floats32:
        """Return the KL of all tokens, (tokens,), mapped from the file; it outlives the file."""
        total = int(self.starts[-1])
        if self.file is None:
            return np.broadcast_to(np.zeros((), _KL_DTYPE), (total,))
        self.file.flush()
        return np.memmap(self.file, dtype=_KL_DTYPE, mode="r", shape=(total,))

    def _begins(self, windows: Sequence[int]) -> NDArray[np.int64]:
        sizes = self.starts[np.asarray(windows) + 1] - self.starts[np.asarray(windows)]
        return np.concatenate([[0], np.cumsum(sizes[:-1])])


@contextmanager
def making_tapes(names: Sequence[str], base: str | None, plan: Plan) -> Iterator[dict[str, Tape]]:
    """Open a tape a model; its file closes at the end, maps of it stay."""
    starts = np.cumsum([0, *(window.scored for window in plan.windows)])
    count = len(plan.windows)
    with ExitStack() as files:
        yield {
            name: Tape(
                np.zeros(count),
                np.zeros(count),
                np.zeros(count, np.int64),
                starts,
                None
                if base in (None, name)
                else files.enter_context(tempfile.TemporaryFile(prefix="quantale-kl-")),
            )
            for name in names
        }


def document_scores(
    tapes: Mapping[str, Tape], plan: Plan, base: str | None
) -> Iterator[DocumentScore]:
    """Yield model after model, units in order; raises NumericalError for sums not finite."""
    owners = np.array([window.unit for window in plan.windows])
    for name, tape in tapes.items():
        nll = _per_unit(owners, tape.nll, plan)
        kl = _per_unit(owners, tape.kl, plan)
        same = _per_unit(owners, tape.same, plan)
        token_kl = None if base is None else tape.token_kl()
        at = 0
        for i, unit in enumerate(plan.units):
            if not np.isfinite([nll[i], kl[i]]).all():
                raise NumericalError(
                    f"model {name!r} on document {unit.id!r}: nll {nll[i]}, KL {kl[i]}; "
                    "its weights or its dtype overflow"
                )
            yield DocumentScore(
                model=name,
                document=unit.id,
                nll=float(nll[i]),
                tokens=unit.tokens,
                bytes=unit.bytes,
                unknown=unit.unknown,
                kl_sum=None if base is None else float(kl[i]),
                top1_same=None if base is None else int(same[i]),
                kl_tokens=None if token_kl is None else token_kl[at : at + unit.tokens],
                words=unit.words,
            )
            at += unit.tokens


def _per_unit(
    owners: NDArray[np.int64], values: NDArray[np.float64] | NDArray[np.int64], plan: Plan
) -> NDArray[np.float64]:
    sums = np.zeros(len(plan.units))
    np.add.at(sums, owners, values)
    return sums
