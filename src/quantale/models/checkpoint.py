"""Read the tensors of a model folder one at a time, without mapping its files into memory.

Mapped pages count as resident memory of the process, and a model that is worked through block by
block would end with all of it mapped. Headers have passed `models/gate.py` before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import torch
from torch import Tensor

from quantale.core.errors import ModelFileError, NumericalError
from quantale.models import gate

_PART = 4 * 2**20
"""Numbers that are converted at a time."""
_DTYPES: Final = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "C64": torch.complex64,
}


@dataclass(frozen=True)
class _Place:
    """Where one tensor lies."""

    path: Path
    offset: int
    """First byte, counted from the start of the file."""
    entry: gate.TensorEntry

    def open(self) -> BinaryIO:
        """Open the file where the tensor begins."""
        file = self.path.open("rb", buffering=0)
        file.seek(self.offset)
        return file


class Checkpoint:
    """The tensors of some safetensors files, read when they are asked for."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._places: dict[str, _Place] = {}
        for path in paths:
            tensors = gate.read_header(path)
            size = path.stat().st_size
            begin = size - max((entry.end for entry in tensors.values()), default=0)
            self._places |= {n: _Place(path, begin + e.start, e) for n, e in tensors.items()}

    def __iter__(self) -> Iterator[str]:
        """Yield the names of all tensors."""
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        """Say whether there is such a tensor."""
        return name in self._places

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._places[name].entry.shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype in which a tensor is stored."""
        return _DTYPES[self._places[name].entry.dtype]

    def check_finite(self) -> None:
        """Read everything once; raises ModelFileError naming a weight with NaN or infinity."""
        for name, place in self._places.items():
            buffer = torch.empty(min(place.entry.elements, _PART), dtype=self.dtype(name))
            with place.open() as file:
                for start in range(0, place.entry.elements, _PART):
                    part = buffer[: place.entry.elements - start]
                    _fill(file, part, place.path)
                    if not _is_finite(part):
                        raise ModelFileError(
                            f"{place.path}: weight {name!r} is not finite; the file is damaged"
                        )

    def read(self, name: str, dtype: torch.dtype | None = None) -> Tensor:
        """Return a tensor, converted when a dtype is given; one part more than it is in memory.

        Raises NumericalError when it overflows the dtype.
        """
        place, kind = self._places[name], self.dtype(name)
        target = torch.empty(place.entry.shape, dtype=dtype or kind)
        flat = target.view(-1)
        with place.open() as file:
            for start in range(0, flat.numel(), _PART):
                wanted = flat[start : start + _PART]
                part = wanted if kind == wanted.dtype else torch.empty(wanted.shape, dtype=kind)
                _fill(file, part, place.path)
                if part is not wanted and not _is_finite(wanted.copy_(part)):
                    raise NumericalError(f"{name}: does not fit {dtype}; use bfloat16")
        return target


def _fill(file: BinaryIO, part: Tensor, path: Path) -> None:
    """Read a whole part; one call may return less than was asked for."""
    view = memoryview(part.view(torch.uint8).numpy())  # type: ignore[arg-type]
    while len(view):
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise ModelFileError(f"{path}: ends early; it was changed while it was read")
        view = view[count:]


def _is_finite(part: Tensor) -> bool:
    if not part.is_floating_point():
        return True
    if part.itemsize == 1:
        part = part.to(torch.float32)
    return bool(torch.isfinite(part).all())
