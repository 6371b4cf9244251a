"""Storing a weight moves no number further than the step of its grid allows.

The bounds are computed from the weight and the stored scales alone: half a step for rounding,
half a step where a zero point is rounded to a whole code, and what the rounding of the scale
itself costs at the end of the grid.
"""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quantale.quant.formats.affine import Affine
from quantale.quant.formats.codebook import Codebook
from quantale.quant.lookup import quantize_absmax
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.packed import PackedTensor
from quantale.quant.tables import values_of

EPSILON = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
"""Largest relative error of rounding to a dtype."""
FLOOR = {"float16": 2.0**-25, "bfloat16": 2.0**-134, "float32": 2.0**-150}
"""Half the distance of subnormal numbers, which rounding cannot go below."""
WIDEST_GAP = 0.9 / 64
"""Between neighbours of the 8-bit map that doubly quantized scales are rounded to."""
SLACK = 1e-5
GROUPS: list[int | str] = ["tensor", "row", 2, 5, 16, 1000]
DTYPES = sorted(EPSILON)
shapes = st.tuples(st.integers(1, 19), st.integers(1, 71), st.integers(0, 2**31))


def drawn(rows: int, width: int, seed: int) -> Tensor:
    """A weight with one row that is a hundred times larger and one that is not centred."""
    weight = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    weight[seed % rows] *= 100
    weight[(seed + 1) % rows] += 3
    return weight


def bounded(packed: PackedTensor, ideal: Tensor) -> Tensor:
    """How far every stored scale may lie from the ideal one; asserts that none is further."""
    layout: Any = packed.format
    scale = layout.store_of_scales.read(packed.tensors)
    off = (scale - ideal).abs()
    if layout.double_quant:
        step = packed.tensors["scale_absmax"].repeat_interleave(256)[: off.numel()].view_as(off)
        allowed = step * (WIDEST_GAP / 2 + SLACK) + SLACK * ideal
    else:
        allowed = EPSILON[layout.scale_dtype] * ideal + FLOOR[layout.scale_dtype]
    assert (off <= allowed * (1 + SLACK)).all()
    return off


def spread(grouped: Tensor, bound: Tensor, width: int) -> Tensor:
    """Spread bounds (rows, groups) or (1, 1) over the columns of their groups."""
    return bound.unsqueeze(-1).expand_as(grouped).flatten(1)[:, :width]


@settings(deadline=None, max_examples=300)
@given(
    layout=st.builds(
        Affine,
        bits=st.integers(1, 8),
        group_size=st.sampled_from(GROUPS),
        symmetric=st.booleans(),
        scale_dtype=st.sampled_from(DTYPES),
        double_quant=st.booleans(),
        axis=st.sampled_from([0, 1]),
    ),
    shape=shapes,
)
def test_affine_weights_move_by_a_step_at_most(layout: Affine, shape: tuple[int, int, int]) -> None:
    weight = drawn(*shape)
    grouped = layout.split(weight)
    grid = layout.minmax(grouped)
    packed = layout.store(grid.codes(grouped), grid, (shape[0], shape[1]))
    low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
    if layout.group_size == "tensor":
        low, high = low.amin().view(1, 1), high.amax().view(1, 1)
    ends = layout.top - layout.middle if layout.symmetric else layout.top
    ideal = (torch.maximum(-low, high) if layout.symmetric else high - low) / ends
    ideal = torch.where(ideal > 0, ideal, 1.0)
    off = bounded(packed, ideal)
    steps = 0.5 if layout.symmetric else 1.0
    bound = (ideal + off) * steps + ends * off
    error = packed.dequantize() - weight
    error = error if layout.axis else error.t()
    assert (error.abs() <= spread(grouped, bound * (1 + SLACK), error.shape[1])).all()


@settings(deadline=None, max_examples=150)
@given(
    layout=st.builds(
        Affine,
        bits=st.integers(1, 8),
        group_size=st.sampled_from(GROUPS),
        scale_dtype=st.sampled_from(DTYPES),
        zero_dtype=st.sampled_from(DTYPES),
        axis=st.sampled_from([0, 1]),
    ),
    shape=shapes,
)
def test_floating_zero_points_leave_half_a_step_and_their_own_rounding(
    layout: Affine, shape: tuple[int, int, int]
) -> None:
    weight = drawn(*shape)
    grouped = layout.split(weight)
    grid = layout.minmax(grouped)
    packed = layout.store(grid.codes(grouped), grid, (shape[0], shape[1]))
    stored = layout.grid_of(packed)
    off = EPSILON[layout.scale_dtype] * stored.scale * layout.top
    zero = EPSILON[str(layout.zero_dtype)] * stored.zero_point.abs() * stored.scale
    bound = (0.5 + SLACK) * stored.scale + 2 * (off + zero) + 1e-9
    error = packed.dequantize() - weight
    error = error if layout.axis else error.t()
    assert (error.abs() <= spread(grouped, bound, error.shape[1])).all()


def tables() -> list[str | tuple[float, ...]]:
    """The named tables, and one of every number of bits."""
    uneven = [tuple((torch.linspace(-1, 1, 1 << bits) ** 3).tolist()) for bits in range(1, 9)]
    return ["nf4", "fp4", *uneven, (-1.0, 0.0, 1.0)]


@settings(deadline=None, max_examples=150)
@given(
    layout=st.builds(
        Codebook,
        table=st.sampled_from(tables()),
        group_size=st.sampled_from(GROUPS),
        scale_dtype=st.sampled_from(DTYPES),
        double_quant=st.booleans(),
    ),
    shape=shapes,
)
def test_codebook_weights_move_by_half_the_widest_gap(
    layout: Codebook, shape: tuple[int, int, int]
) -> None:
    weight = drawn(*shape)
    grouped = layout.split(weight)
    packed = quantize_absmax(layout, weight)
    ideal = grouped.abs().amax(-1)
    ideal = ideal.amax().view(1, 1) if layout.group_size == "tensor" else ideal
    off = bounded(packed, ideal)
    values = torch.tensor(values_of(layout.table)).sort().values
    gap = float(values.diff().amax()) / 2
    bound = gap * (ideal + off) + off
    error = packed.dequantize() - weight
    assert (error.abs() <= spread(grouped, bound * (1 + SLACK), shape[1])).all()


@settings(deadline=None, max_examples=100)
@given(
    group=st.sampled_from(GROUPS), dtype=st.sampled_from(DTYPES), bits=st.sampled_from([None, 8]),
    shape=shapes,
)  # fmt: skip
def test_ternary_weights_move_by_half_a_scale_unless_they_are_larger_than_it(
    group: int | str, dtype: str, bits: int | None, shape: tuple[int, int, int]
) -> None:
    weight = drawn(*shape)
    packed = Bitnet(group, dtype, bits).quantize(weight)
    layout: Any = packed.format
    scale = spread(layout.split(weight), packed.tensors["scale"].float(), shape[1])
    bound = torch.maximum(scale / 2, weight.abs() - scale)
    assert ((packed.dequantize() - weight).abs() <= bound * (1 + SLACK)).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_no_other_code_is_nearer_to_any_weight(bits: int) -> None:
    """All codes tried for every weight, on the grid as it is stored."""
    weight = drawn(9, 37, bits)
    for symmetric, dtype, double in ((False, "float16", False), (True, "bfloat16", True)):
        layout = Affine(bits, 8, symmetric, dtype, double_quant=double)
        grouped = layout.split(weight)
        grid = layout.minmax(grouped)
        packed = layout.store(grid.codes(grouped), grid, (9, 37))
        stored = layout.grid_of(packed)
        every = torch.arange(layout.top + 1.0).view(-1, 1, 1, 1).expand(-1, *grouped.shape)
        distance = (stored.values(every) - grouped).abs().amin(0).flatten(1)[:, :37]
        found = (packed.dequantize() - weight).abs()
        torch.testing.assert_close(found, distance, rtol=0, atol=SLACK * float(weight.abs().max()))
