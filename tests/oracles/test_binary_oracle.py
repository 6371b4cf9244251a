"""One bit a weight against brute force over every way to split a small group in two."""

import itertools

import pytest
import torch
from torch import Tensor

from quantale.quant.methods.binary import Binary

SIZE = 7


def groups(seed: int) -> Tensor:
    """Rows that are one group each: normal, shifted, with an outlier, all of one sign."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(8, SIZE, generator=generator)
    rows[2:4] += 3
    rows[4, 1] = 20.0
    rows[5] = rows[5].abs()
    return rows


def least_error(row: Tensor, *, opposite: bool) -> float:
    """Smallest squared error over all assignments of two levels to the weights.

    For a fixed assignment least squares gives the levels: the means of the parts, or, when they
    must be opposite numbers, the mean of the signed weights.
    """
    values, errors = row.double(), []
    for signs in itertools.product((-1.0, 1.0), repeat=len(row)):
        sign = torch.tensor(signs, dtype=torch.float64)
        if opposite:
            fitted = sign * (sign * values).mean()
        else:
            low, high = sign < 0, sign > 0
            fitted = torch.zeros_like(values)
            for part in (low, high):
                if part.any():
                    fitted[part] = values[part].mean()
        errors.append(float((values - fitted).square().sum()))
    return min(errors)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_no_choice_of_signs_and_levels_is_better(symmetric: bool, seed: int) -> None:
    weight = groups(seed)
    packed = Binary("row", symmetric, "float32").quantize(weight)
    found = (packed.dequantize() - weight).double().square().sum(-1)
    for row, error in zip(weight, found.tolist(), strict=True):
        assert error <= least_error(row, opposite=symmetric) * (1 + 1e-4) + 1e-6


def test_the_padding_of_the_last_group_has_no_part_in_its_levels() -> None:
    weight = groups(9)
    wide = Binary(5, True, "float32").quantize(weight)
    last = Binary("row", True, "float32").quantize(weight[:, 5:].contiguous())
    torch.testing.assert_close(wide.dequantize()[:, 5:], last.dequantize())


def test_one_level_for_the_whole_tensor_is_the_mean_magnitude() -> None:
    weight = groups(10)
    packed = Binary("tensor", True, "float32").quantize(weight)
    expected = torch.where(weight >= 0, 1.0, -1.0) * weight.abs().mean()
    torch.testing.assert_close(packed.dequantize(), expected)
