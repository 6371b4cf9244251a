"""Give freed memory back to the system where the C library keeps it.

glibc serves blocks below 32 MiB from a heap that it shrinks only at its end. Tensors that come and
go piece by piece leave holes there: 12 blocks of width 512 grew a process by 75 MB although none
of their tensors was left (docs/log.md).
"""

import ctypes


def trim() -> None:
    """Return whole free pages to the system; does nothing with another C library than glibc."""
    try:
        release = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    release(0)
