"""The affine format: error bounds, padding, rare inputs, stored shapes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantale.core.errors import NumericalError, UsageError
from quantale.quant.formats.affine import Affine
from quantale.quant.methods.rtn import Rtn

GROUPS: list[int | str] = ["tensor", "row", 2, 7, 16, 64, 1000]


def random_weight(rows: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=120)
@given(
    bits=st.integers(2, 8),
    group=st.sampled_from(GROUPS),
    symmetric=st.booleans(),
    rows=st.integers(1, 9),
    width=st.integers(1, 70),
)
def test_every_weight_is_within_half_a_step_of_its_own(
    bits: int, group: int | str, symmetric: bool, rows: int, width: int
) -> None:
    weight = random_weight(rows, width, seed=width)
    packed = Rtn(bits, group, symmetric, "float32").quantize(weight)
    layout = Affine(bits, group, symmetric, "float32")
    steps = layout.minmax(layout.split(weight)).scale.unsqueeze(-1)
    bound = (steps.expand(layout.split(weight).shape)).reshape(rows, -1)[:, :width]
    # the zero point is rounded, so the ends of an asymmetric range may move by another half step
    assert ((packed.dequantize() - weight).abs() <= bound * (1.0 + 1e-5)).all()
    inside = (packed.dequantize() - weight).abs() <= bound * (0.5 + 1e-5)
    assert inside.float().mean() > 0.5


@settings(deadline=None, max_examples=60)
@given(
    bits=st.integers(2, 8),
    group=st.sampled_from(GROUPS),
    symmetric=st.booleans(),
    rows=st.integers(1, 9),
    width=st.integers(1, 70),
)
def test_stored_tensors_are_what_the_format_announces(
    bits: int, group: int | str, symmetric: bool, rows: int, width: int
) -> None:
    packed = Rtn(bits, group, symmetric).quantize(random_weight(rows, width))
    announced = Affine(bits, group, symmetric).tensors((rows, width))
    assert {n: (tuple(t.shape), t.dtype) for n, t in packed.tensors.items()} == announced


def test_padding_is_counted() -> None:
    packed = Rtn(4, 64, symmetric=True).quantize(random_weight(3, 172))
    assert packed.tensors["weight"].shape == (3, 3, 32)
    assert packed.nbytes == 3 * 3 * 32 + 3 * 3 * 2
    assert packed.bits_per_weight == pytest.approx(8 * (288 + 18) / (3 * 172))


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_are_the_rows_of_the_whole(symmetric: bool) -> None:
    for group in ("tensor", "row", 16):
        packed = Rtn(3, group, symmetric).quantize(random_weight(20, 40))
        index = torch.tensor([[3, 19], [0, 3]])
        rows = packed.format.rows(packed, index, torch.float32)
        assert torch.equal(rows, packed.dequantize()[index])


@pytest.mark.parametrize("value", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_constant_weights_survive(value: float, bits: int) -> None:
    weight = torch.full((4, 32), value)
    for symmetric in (True, False):
        back = Rtn(bits, 16, symmetric, "float32").quantize(weight).dequantize()
        torch.testing.assert_close(back, weight)


def test_tiny_weights_do_not_divide_by_zero() -> None:
    weight = torch.full((2, 16), 1e-12)
    back = Rtn(4, 16).quantize(weight).dequantize()
    assert torch.isfinite(back).all()
    assert (back.abs() <= 6.2e-5).all()


def test_a_scale_that_overflows_names_the_remedy() -> None:
    with pytest.raises(NumericalError, match="scale_dtype to float32"):
        Rtn(2, "row").quantize(torch.full((2, 8), 1e6))
    back = Rtn(2, "row", scale_dtype="float32").quantize(torch.full((2, 8), 1e6)).dequantize()
    torch.testing.assert_close(back, torch.full((2, 8), 1e6))


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"bits": 0}, "1 to 8"),
        ({"bits": 9}, "1 to 8"),
        ({"bits": 4, "group_size": 1}, "at least 2"),
        ({"bits": 4, "group_size": "column"}, "at least 2"),
        ({"bits": 4, "scale_dtype": "int8"}, "scale_dtype"),
    ],
)
def test_settings_outside_their_range_are_errors(
    settings_: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Affine(**settings_)  # type: ignore[arg-type]


def test_eight_bit_symmetric_rows_are_the_textbook_absmax() -> None:
    weight = random_weight(6, 40)
    packed = Rtn(8, "row", True, "float32").quantize(weight)
    scale = weight.abs().amax(1, keepdim=True) / 127
    expected = torch.round(weight / scale) * scale
    torch.testing.assert_close(packed.dequantize(), expected)
