"""What the C library does with freed memory: keeps it, or gives it back to the system.

glibc serves blocks below 32 MiB from a heap that it shrinks only at its end. Tensors that come and
go piece by piece leave holes there: 12 blocks of width 512 grew a process by 75 MB although none
of their tensors was left (docs/log.md).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""
KEPT: Final = 2**25
"""The largest threshold of mapping that glibc knows; the heap serves smaller blocks."""
_NEVER = 2**31 - 1


def trim() -> None:
    """Return whole free pages to the system; does nothing with another C library than glibc."""
    try:
        release = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    release(0)


@contextmanager
def mapping(size: int) -> Iterator[None]:
    """Let the C library map blocks of at least this many bytes while the block lasts.

    That leaves no holes behind, and each such block costs its page faults: a step of training that
    maps nothing and gives nothing back (`size` of `KEPT`) takes a thirtieth less processor time
    than by glibc's own rules, which trim the heap after every backward pass. Does nothing with
    another C library than glibc.
    """
    _set(size, _NEVER)
    try:
        yield
    finally:
        _set(KEPT, 2 * KEPT)  # what glibc's own rules come to where large blocks are freed
        trim()


def _set(mapped_from: int, trimmed_from: int) -> None:
    try:
        option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    option(_MMAP_THRESHOLD, mapped_from)
    option(_TRIM_THRESHOLD, trimmed_from)
