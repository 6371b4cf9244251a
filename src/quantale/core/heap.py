"""Give freed memory back to the system where the C library keeps it.

glibc serves blocks below 32 MiB from a heap that it shrinks only at its end. Tensors that come and
go piece by piece leave holes there: 12 blocks of width 512 grew a process by 75 MB although none
of their tensors was left (docs/log.md).
"""

import ctypes

_MMAP_THRESHOLD = -3
"""M_MMAP_THRESHOLD of glibc's malloc.h."""


def trim() -> None:
    """Return whole free pages to the system; does nothing with another C library than glibc."""
    try:
        release = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    release(0)


def map_blocks(size: int) -> None:
    """Let the C library map blocks of at least this many bytes, which leaves no holes behind.

    Each such block then costs its page faults. Does nothing with another C library than glibc.
    """
    try:
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, size)
    except (AttributeError, OSError, TypeError):
        return
