"""Groups of columns: the weights of a row that share a scale. Every format cuts them alike.

A group size is a number of columns, "row" for the whole row, or "tensor" for one scale in all.
"""

from torch import Tensor
from torch.nn import functional

from quantale.core.errors import UsageError

SMALLEST = 2


def check(owner: str, group_size: int | str) -> None:
    """Raise UsageError, naming the owner, for what is no group size."""
    named = group_size in ("row", "tensor")
    whole = isinstance(group_size, int) and not isinstance(group_size, bool)
    if not named and (not whole or int(group_size) < SMALLEST):
        raise UsageError(
            f"{owner}: group_size must be row, tensor or at least {SMALLEST}, {group_size!r} came"
        )


def size(group_size: int | str, width: int) -> int:
    """Return the columns of a group in a row of this width."""
    return min(group_size, width) if isinstance(group_size, int) else width


def count(group_size: int | str, width: int) -> int:
    """Return the groups of a row, the padded one included."""
    return -(-width // size(group_size, width))


def scale_shape(group_size: int | str, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of the scales of an (out, in) weight: one a group, or (1, 1)."""
    return (1, 1) if group_size == "tensor" else (shape[0], count(group_size, shape[1]))


def split(weight: Tensor, group_size: int | str) -> Tensor:
    """View (out, in) as (out, groups, size), the last group padded with zeros; contiguous."""
    columns = size(group_size, weight.shape[1])
    padded = functional.pad(weight, (0, -weight.shape[1] % columns))
    return padded.contiguous().reshape(weight.shape[0], -1, columns)
