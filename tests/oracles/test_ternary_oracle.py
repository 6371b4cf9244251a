"""BitNet b1.58 against the formulas of its papers, written out number by number."""

import pytest
import torch
from torch import Tensor

from quantale.quant.methods.bitnet import Bitnet

OUT, IN = 12, 40


def weight(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(OUT, IN, generator=generator) * 0.07 + 0.01


def absmean(values: list[float]) -> tuple[list[int], float]:
    """Equations 1 to 3 of arXiv 2402.17764: RoundClip(w / gamma, -1, 1), gamma = mean |w|."""
    gamma = sum(abs(value) for value in values) / len(values)
    return [max(-1, min(1, round(value / gamma))) for value in values], gamma


def bit_linear(x: list[float], rows: list[list[int]], gamma: float) -> list[float]:
    """Equations 4, 5 and 11 of arXiv 2310.11453 with eight bits, one input vector."""
    largest = max(max(abs(value) for value in x), 1e-5)
    codes = [max(-128, min(127, round(value * 127 / largest))) for value in x]
    sums = [sum(code * trit for code, trit in zip(codes, row, strict=True)) for row in rows]
    return [total * gamma * largest / 127 for total in sums]


def test_one_scale_for_the_whole_weight_is_the_papers() -> None:
    values = weight()
    trits, gamma = absmean(values.flatten().double().tolist())
    packed = Bitnet().quantize(values)
    expected = torch.tensor(trits, dtype=torch.float32).view(OUT, IN)
    assert float(packed.tensors["scale"]) == pytest.approx(gamma, rel=1e-6)
    assert torch.equal(packed.dequantize(), expected * packed.tensors["scale"])


@pytest.mark.parametrize("group_size", ["row", 16, 7])
def test_smaller_groups_are_the_papers_formula_group_by_group(group_size: int | str) -> None:
    values = weight(1)
    size = IN if group_size == "row" else int(group_size)
    packed = Bitnet(group_size).quantize(values)
    for row in range(OUT):
        for group, start in enumerate(range(0, IN, size)):
            part = values[row, start : start + size].double().tolist()
            trits, gamma = absmean(part)
            scale = packed.tensors["scale"][row, group]
            assert float(scale) == pytest.approx(gamma, rel=1e-6)
            found = packed.dequantize()[row, start : start + size] / scale
            assert found.round().int().tolist() == trits


@pytest.mark.parametrize("scale", [1.0, 1e-4, 3e3])
def test_a_layer_computes_what_bit_linear_computes(scale: float) -> None:
    values = weight(2)
    trits, gamma = absmean(values.flatten().double().tolist())
    rows = [trits[row * IN : (row + 1) * IN] for row in range(OUT)]
    x = torch.randn(9, IN, generator=torch.Generator().manual_seed(3)) * scale
    x[4] = 0.0
    bias = torch.arange(OUT) * 0.1 * scale
    packed = Bitnet().quantize(values)
    found = packed.format.apply(x, packed, bias)
    expected = torch.tensor([bit_linear(row, rows, gamma) for row in x.double().tolist()])
    torch.testing.assert_close(found, expected + bias, rtol=2e-6, atol=2e-6 * scale)
    assert torch.equal(found[4], bias)


def test_without_rounded_inputs_it_is_a_plain_product() -> None:
    packed = Bitnet(activation_bits=None).quantize(weight(4))
    x = torch.randn(5, IN, generator=torch.Generator().manual_seed(5))
    expected = x.double() @ packed.dequantize().double().t()
    torch.testing.assert_close(packed.format.apply(x, packed, None), expected.float())
