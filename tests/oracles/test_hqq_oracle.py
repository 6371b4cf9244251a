"""HQQ against its equations, written out for one group in float64, and against the package."""

from pathlib import Path

import pytest
import torch
from peer_libraries import run_peer
from torch import Tensor

from quantale.quant.methods.hqq import Hqq

P, BETA, TURNS, GROUP = 0.7, 10.0, 20, 64
WITHIN = 1.02
"""Of the package's error."""
PACKAGE = """
import sys
from hqq.core.quantize import Quantizer
from safetensors.torch import load_file, save_file

made = {}
for name, weight in load_file(sys.argv[1]).items():
    for axis in (0, 1):
        for bits in (8, 4, 3, 2, 1):
            codes, meta = Quantizer.quantize(
                weight, nbits=bits, group_size=64, axis=axis, device="cpu", bitpack=False,
                round_zero=bits == 4,  # as hqq_base_quant_config has it
            )
            for half in (False, True):
                scale, zero = (
                    meta[key].half().float() if half else meta[key] for key in ("scale", "zero")
                )
                values = ((codes - zero) * scale).reshape(meta["shape"]).contiguous()
                made[f"{name} {axis} {bits} {'float16' if half else 'float32'}"] = values
save_file(made, sys.argv[2])
"""


def solve(group: list[float], bits: int) -> list[float]:
    """One group by the article's two sub-problems; returns what its codes stand for."""
    top = 2**bits - 1
    scale = (max(group) - min(group)) / top
    zero = -min(group) / scale
    zero = round(zero) if bits == 4 else zero
    found: list[tuple[float, list[float]]] = []
    for _ in range(TURNS + 1):
        codes = [min(max(round(w / scale + zero), 0), top) for w in group]
        values = [(code - zero) * scale for code in codes]
        errors = [w - value for w, value in zip(group, values, strict=True)]
        found.append((sum(abs(error) for error in errors), values))
        sparse = [shrink(error) for error in errors]
        terms = [code - (w - e) / scale for code, w, e in zip(codes, group, sparse, strict=True)]
        zero = sum(terms) / len(terms)
    return min(found)[1]


def shrink(error: float) -> float:
    """Generalized soft threshold: sign(e) max(|e| - |e|^(p - 1) / beta, 0)."""
    size = abs(error)
    if size == 0:
        return 0.0
    kept = max(size - size ** (P - 1) / BETA, 0.0)
    return kept if error > 0 else -kept


def matrices() -> dict[str, Tensor]:
    """Gaussian and heavy-tailed weights of the usual size, and large ones."""
    generator = torch.Generator().manual_seed(0)
    gauss = torch.randn(256, 512, generator=generator)
    tails = torch.randn(256, 512, generator=generator).abs().square()
    spread = torch.randn(256, 1, generator=generator).exp()
    return {
        "gauss": 0.02 * gauss,
        "heavy": 0.02 * gauss * tails,
        "uneven rows": 0.02 * gauss * spread,
        "large": gauss.clone(),
    }


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [0.02, 1.0, 20.0])
def test_every_group_is_the_solution_of_the_equations(
    bits: int, size: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantale.quant.methods.hqq._ENOUGH", -1.0)  # all turns, whatever they gain
    weight = torch.randn(6, 24, generator=torch.Generator().manual_seed(bits)) * size
    found = Hqq(bits, 12, "float32").quantize(weight).dequantize()
    parts = weight.double().view(-1, 12).tolist()
    wanted = [value for part in parts for value in solve(part, bits)]
    error = (found - weight).abs().view(-1, 12).sum(-1)
    expected = (torch.tensor(wanted).view_as(weight) - weight).abs().view(-1, 12).sum(-1)
    torch.testing.assert_close(error, expected, rtol=2e-3, atol=1e-6 * size)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_stopping_early_costs_next_to_nothing(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = matrices()["heavy"][:32]
    early = (Hqq(bits, GROUP).quantize(weight).dequantize() - weight).abs().sum()
    monkeypatch.setattr("quantale.quant.methods.hqq._ENOUGH", -1.0)
    whole = (Hqq(bits, GROUP).quantize(weight).dequantize() - weight).abs().sum()
    assert float(early) <= 1.005 * float(whole)


@pytest.mark.parametrize("axis", [0, 1])
def test_padding_has_no_part_in_a_groups_zero_point(axis: int) -> None:
    weight = torch.randn(70, 70, generator=torch.Generator().manual_seed(1)) + 2
    whole = (Hqq(3, 64, "float32", axis=axis).quantize(weight).dequantize() - weight).abs()
    last = weight[:, 64:].contiguous() if axis else weight[64:].contiguous()
    alone = (Hqq(3, "row", "float32", axis=axis).quantize(last).dequantize() - last).abs()
    found = whole[:, 64:] if axis else whole[64:]
    torch.testing.assert_close(found.sum(axis), alone.sum(axis), rtol=2e-3, atol=1e-6)


@pytest.mark.peers
def test_the_error_is_the_packages_or_less(tmp_path: Path) -> None:
    given = matrices()
    made = run_peer(PACKAGE, given, tmp_path)
    ratios = {}
    for name, theirs in made.items():
        label, axis, bits, dtype = name.rsplit(" ", 3)
        weight = given[label]
        order = _their_groups(weight) if axis == "0" else torch.arange(len(weight))
        packed = Hqq(int(bits), GROUP, dtype, axis=int(axis)).quantize(weight[order])
        ours = packed.dequantize() - weight[order]
        for power in (P, 2.0):
            error = ours.abs().pow(power).sum() / (theirs - weight).abs().pow(power).sum()
            ratios[f"{name} {power}"] = float(error)
    assert len(ratios) == len(given) * 2 * 5 * 2 * 2
    assert {name: ratio for name, ratio in ratios.items() if ratio > WITHIN} == {}


def _their_groups(weight: Tensor) -> Tensor:
    """Order of rows in which neighbours are what the package groups along axis 0."""
    return torch.arange(len(weight)).view(GROUP, -1).t().flatten()


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_whole_zero_point_keeps_small_columns_where_they_are(bits: int) -> None:
    """Columns that are small because their inputs are large: what matters is weight times input."""
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
    inputs = torch.ones(64)
    inputs[::16] = 100.0
    weight /= inputs
    errors = [
        float(
            ((Hqq(bits, 64, round_zero=whole).quantize(weight).dequantize() - weight) * inputs)
            .square()
            .sum()
        )
        for whole in (True, False)
    ]
    assert errors[0] < 0.75 * errors[1]


def test_zero_points_begin_whole_at_four_bits_as_in_the_package() -> None:
    weight = matrices()["heavy"][:16]
    for bits in (2, 3, 4, 8):
        usual, other = (Hqq(bits, GROUP, round_zero=r) for r in (bits == 4, bits != 4))
        found = Hqq(bits, GROUP).quantize(weight).dequantize()
        assert torch.equal(found, usual.quantize(weight).dequantize())
        assert not torch.equal(found, other.quantize(weight).dequantize())


def test_scales_that_are_quantized_twice_stay_those_of_the_first_grid() -> None:
    """Storing them again at every turn would move them, and the error with them."""
    weight = matrices()["uneven rows"]
    once = Hqq(4, GROUP, double_quant=True, iterations=0).quantize(weight)
    turned = Hqq(4, GROUP, double_quant=True).quantize(weight)
    for name in ("scale", "scale_absmax", "scale_mean"):
        assert torch.equal(once.tensors[name], turned.tensors[name])
