"""For weights that are quantized only to be multiplied by at once: their codes stay unpacked.

Training through a quantizer packs every weight and unpacks it again at each step. Packing is
without loss, so that leaving both out changes no bit of a layer's result. In the block of `codes`
`bitpack.pack` and `tritpack.pack` give their codes back as float32, and `unpack` knows codes by
that dtype. What is made in such a block is not for storing: a file needs bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from torch import Tensor

_WANTED: Final[ContextVar[bool]] = ContextVar("unpacked codes", default=False)


@contextmanager
def codes() -> Iterator[None]:
    """Leave codes unpacked, in this thread and until the block ends."""
    token = _WANTED.set(True)
    try:
        yield
    finally:
        _WANTED.reset(token)


def are_wanted() -> bool:
    """Say whether codes are to stay unpacked."""
    return _WANTED.get()


def are_in(stored: Tensor) -> bool:
    """Say whether a tensor of a packed weight holds codes and not bytes."""
    return stored.is_floating_point()
