"""GPTQ against optimal brain quantization done by brute force: every inverse computed anew."""

import pytest
import torch
from torch import Tensor

from quantale.quant.calibration import LayerStats
from quantale.quant.formats.affine import Affine
from quantale.quant.methods import gptq
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor

OUT, IN, ROWS = 24, 48, 400


def correlated_inputs(seed: int, strength: float, rows: int = ROWS, width: int = IN) -> Tensor:
    """Rows whose columns share a few strong directions."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(rows, 6, generator=generator) @ torch.randn(6, width, generator=generator)
    return strength * shared + torch.randn(rows, width, generator=generator)


def stats_of(x: Tensor) -> LayerStats:
    stats = LayerStats(x.shape[1])
    stats.add(x)
    return stats


def output_error(weight: Tensor, packed: PackedTensor, x: Tensor) -> float:
    return float(((packed.dequantize() - weight) @ x.t()).square().sum())


def brute_force(weight: Tensor, hessian: Tensor, method: Gptq) -> PackedTensor:
    """Optimal brain quantization in a fixed order: solve least squares anew after each column.

    After column j is fixed, the columns still free move to the exact minimum of the damped
    quadratic, which is -inv(H_FF) H_Fj times the error of column j.
    """
    layout = Affine(method.bits, method.group_size, method.symmetric, method.scale_dtype)
    width = weight.shape[1]
    hessian = hessian.double()
    hessian = hessian + method.damp * hessian.diagonal().mean() * torch.eye(width)
    order = list(range(width))
    if method.act_order:
        order = torch.argsort(hessian.diagonal(), descending=True, stable=True).tolist()
    size = layout.size(width)
    static = method.act_order or method.static_groups
    original = layout.minmax(layout.split(weight))
    scales, zeros = original.scale.clone(), original.zero_point.clone()
    current, codes = weight.double().clone(), torch.zeros_like(weight)
    for position, j in enumerate(order):
        group = j // size
        if not static and j % size == 0 and layout.groups(width) > 1:
            part = current[:, group * size : (group + 1) * size].float().unsqueeze(1)
            grid = layout.minmax(part)
            scales[:, group], zeros[:, group] = grid.scale[:, 0], grid.zero_point[:, 0]
        scale, zero = (
            scales[:, min(group, scales.shape[1] - 1)],
            zeros[:, min(group, zeros.shape[1] - 1)],
        )
        code = torch.clamp(torch.round(current[:, j].float() / scale) + zero, 0, layout.top)
        codes[:, j] = code
        error = current[:, j] - ((code - zero) * scale).double()
        free = order[position + 1 :]
        if free:
            free_part = hessian[free][:, free]
            current[:, free] += torch.outer(error, torch.linalg.solve(free_part, hessian[free, j]))
    final = type(original)(scales, zeros, layout.top)
    return layout.store(layout.split(codes), final, (weight.shape[0], width))


@pytest.mark.parametrize("bits", [8, 4, 3])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group_size", ["row", 16, 20])
def test_gptq_is_within_two_percent_of_brute_force(
    bits: int, act_order: bool, group_size: int | str
) -> None:
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(1))
    x = correlated_inputs(2, 0.5)
    method = Gptq(bits, group_size, act_order=act_order, scale_dtype="float32", block_size=16)
    stats = stats_of(x)

    ours = output_error(weight, method.quantize(weight, stats), x)
    exact = output_error(weight, brute_force(weight, stats.hessian, method), x)

    assert ours == pytest.approx(exact, rel=0.02)


def strongly_correlated_ratio() -> float:
    """Error that GPTQ leaves over that of round-to-nearest, inputs of rank 6 and little noise."""
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(3))
    x = correlated_inputs(4, 3.0, rows=2000, width=64)
    exact = Gptq(4, scale_dtype="float32").quantize(weight, stats_of(x))
    nearest = Rtn(4, scale_dtype="float32").quantize(weight)
    return output_error(weight, exact, x) / output_error(weight, nearest, x)


def test_on_strongly_correlated_inputs_little_of_the_error_is_left() -> None:
    assert strongly_correlated_ratio() <= 0.35


def test_a_version_that_never_updates_the_inverse_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The defect of a public project: row j of the first inverse is used for every column."""

    def frozen_inverse(hessian: Tensor, damp: float) -> Tensor:
        hessian = hessian.double()
        damped = hessian + damp * hessian.diagonal().mean() * torch.eye(hessian.shape[0])
        return torch.linalg.inv(damped)

    honest = strongly_correlated_ratio()
    monkeypatch.setattr(gptq, "inverse_factor", frozen_inverse)
    broken = strongly_correlated_ratio()

    assert honest <= 0.35 < broken


def test_the_factor_holds_every_inverse_of_the_shrinking_hessian() -> None:
    x = correlated_inputs(5, 1.0).double()
    hessian = x.t() @ x
    factor = gptq.inverse_factor(hessian, 0.01)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(IN)
    for j in (0, 7, IN - 1):
        inverse = torch.linalg.inv(damped[j:, j:])
        torch.testing.assert_close(factor[j, j:] * factor[j, j], inverse[0])


def test_blocks_of_columns_change_speed_and_not_the_result() -> None:
    weight = torch.randn(OUT, IN, generator=torch.Generator().manual_seed(6))
    stats = stats_of(correlated_inputs(7, 0.5))
    whole = Gptq(4, 16, block_size=IN).quantize(weight, stats)
    small = Gptq(4, 16, block_size=16).quantize(weight, stats)
    same = (whole.tensors["weight"] == small.tensors["weight"]).float().mean()
    assert same > 0.99
