"""The methods that ask bitsandbytes against the library's own layers."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quantale.core.errors import EnvironmentLackingError, NumericalError, UsageError
from quantale.quant import bnb_library
from quantale.quant.formats.llm_int8 import LlmInt8
from quantale.quant.kernels.bnb import Bnb
from quantale.quant.methods.bnb_int8 import BnbInt8
from quantale.quant.methods.bnb_nf4 import BnbNf4
from quantale.quant.methods.fp4 import Fp4
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.packed import PackedTensor

bnb = pytest.importorskip("bitsandbytes", reason="the oracle is the bitsandbytes library")
CONSTANT = 2e-5
"""Relative error of 6.200124e-5, which the library takes for 1 / 127^2."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No packing of 4-bit weights in place, no line a layer about float16."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)
    logger = logging.getLogger("bitsandbytes")
    before = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(before)


def drawn(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def inputs(rows: int, width: int, outliers: int) -> Tensor:
    """Inputs of which some columns reach the threshold in one row or in all."""
    x = drawn(rows, width, seed=1)
    x[0, :outliers] = 9.0
    x[:, : outliers // 2] -= 20.0
    return x


def eight_bit_layer(weight: Tensor, bias: Tensor, threshold: float) -> Any:
    layer = bnb.nn.Linear8bitLt(
        weight.shape[1], weight.shape[0], has_fp16_weights=False, threshold=threshold
    )
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer.to("cpu").eval()


@pytest.mark.parametrize("width", [64, 200])
def test_codes_and_scales_of_eight_bits_are_the_librarys(width: int) -> None:
    weight = drawn(40, width)
    layer = eight_bit_layer(weight, torch.zeros(40), 6.0)
    packed = BnbInt8().quantize(weight)
    layout = packed.format
    assert isinstance(layout, LlmInt8)
    assert torch.equal(layout.codes(packed), layer.weight.CB)
    assert torch.equal(packed.tensors["scale"].flatten(), layer.weight.SCB)
    expected = bnb.functional.int8_vectorwise_dequant(layer.weight.CB, layer.weight.SCB)
    assert torch.equal(packed.dequantize(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("threshold", [6.0, 0.0])
@pytest.mark.parametrize("outliers", [0, 1, 5])
@pytest.mark.parametrize("rows", [1, 17])
def test_a_layer_computes_what_the_librarys_layer_computes(
    rows: int, outliers: int, threshold: float, dtype: torch.dtype
) -> None:
    weight, bias = drawn(48, 200), drawn(1, 48, seed=2)[0].to(dtype)
    x = inputs(rows, 200, outliers).to(dtype)
    packed = BnbInt8(threshold).quantize(weight)
    with torch.no_grad():
        expected = eight_bit_layer(weight, bias, threshold).to(dtype)(x).float()
    found = packed.format.apply(x, packed, bias).float()
    sizes = x.float().abs() @ packed.dequantize().abs().t() + bias.float().abs()
    # in 16 bits the library also rounds the two parts of a sum, and the outliers' weights
    allowed = (CONSTANT if dtype == torch.float32 else 2 * torch.finfo(dtype).eps) * sizes
    assert ((found - expected).abs() <= allowed).all()


@pytest.mark.parametrize("outliers", [0, 3])
def test_rounded_inputs_are_the_papers(outliers: int) -> None:
    """Equation 8 of arXiv 2208.07339, written out: int8 products, and outlier columns apart."""
    weight, x = drawn(8, 30), inputs(5, 30, outliers)
    packed = BnbInt8().quantize(weight)
    dense, half = packed.dequantize().double(), x.half().double()
    columns = (half.abs() >= 6).any(0)
    regular = half.masked_fill(half.abs() >= 6, 0)
    step = regular.abs().amax(1, keepdim=True) / 127
    codes = torch.round(regular / step)
    expected = (codes * step)[:, ~columns] @ dense[:, ~columns].t()
    expected += x.double()[:, columns] @ dense[:, columns].t()
    assert int(columns.sum()) == outliers
    torch.testing.assert_close(packed.format.apply(x, packed, None), expected.float())


def test_rare_inputs_stay_finite() -> None:
    packed = BnbInt8().quantize(drawn(8, 30))
    x = drawn(4, 30)
    x[1] = 0.0
    x[2, 3] = 1e30
    x[3] = 1e-30
    found = packed.format.apply(x, packed, None)
    assert torch.isfinite(found).all()
    assert torch.equal(found[1], torch.zeros(8) + x[1, 3] * packed.dequantize()[:, 3])
    assert torch.isfinite(BnbInt8(0.0).quantize(drawn(8, 30)).format.apply(x, packed, None)).all()


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("width", [128, 100, 40])
def test_nf4_is_the_librarys_row_by_row(width: int, double: bool) -> None:
    """A row alone, padded with zeros, is what the library makes of it."""
    weight = drawn(12, width)
    packed = BnbNf4(64, double).quantize(weight)
    padded = nn.functional.pad(weight, (0, -width % 64))
    stored, state = bnb.functional.quantize_4bit(
        padded, blocksize=64, compress_statistics=double, quant_type="nf4"
    )
    expected = bnb.functional.dequantize_4bit(stored, state)[:, :width]
    assert torch.equal(packed.dequantize(), expected)
    if not double:
        own = Nf4(64).quantize(weight)
        assert all(torch.equal(own.tensors[n], packed.tensors[n]) for n in own.tensors)


def test_a_missing_package_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for method in (BnbNf4, BnbInt8):
        with pytest.raises(EnvironmentLackingError, match=r"pip install 'quantale\[bnb\]'"):
            method()
    monkeypatch.setattr(bnb_library, "functions", bnb_library.functions.__wrapped__)
    assert "bitsandbytes" in Bnb().lacks()[0]


def test_settings_outside_their_range_are_errors() -> None:
    with pytest.raises(UsageError, match="group_size must be one of 32"):
        BnbNf4(48)
    with pytest.raises(UsageError, match="threshold"):
        BnbInt8(-1.0)
    with pytest.raises(NumericalError, match="float16"):
        BnbInt8().quantize(drawn(4, 8) * 1e6)


KERNELS: dict[str, PackedTensor] = {
    "nf4": Nf4(64).quantize(drawn(24, 128)),
    "nf4 doubly": BnbNf4(32).quantize(drawn(24, 128)),
    "fp4": Fp4(128).quantize(drawn(24, 128)),
    "int8": BnbInt8().quantize(drawn(24, 128)),
}


@pytest.mark.parametrize("rows", [0, 1, 9])
@pytest.mark.parametrize("name", KERNELS)
def test_the_librarys_products_are_the_formats(name: str, rows: int) -> None:
    """Called on the CPU, where it refuses because the library is not fast there."""
    kernel, packed = Bnb(), KERNELS[name]
    x, bias = inputs(max(rows, 1), 128, 2)[:rows], drawn(1, 24, seed=3)[0]
    before, prepared = x.clone(), kernel.prepare(packed)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        found = kernel.linear(x.to(dtype), packed, bias, prepared)
        expected = packed.format.apply(x.to(dtype), packed, bias.to(dtype))
        assert found.dtype == dtype
        assert found.shape == expected.shape
        sizes = x.abs() @ packed.dequantize().abs().t() + bias.abs()
        eps = CONSTANT if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
        assert ((found - expected).abs().float() <= eps * sizes).all()
    assert torch.equal(x, before)


def test_the_cpu_is_refused_with_a_reason_unless_it_multiplies_whole_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantale.quant.kernels import bnb as kernels

    monkeypatch.setattr(kernels, "_integer_products", lambda: False)
    for packed in KERNELS.values():
        assert any("CUDA device" in r for r in Bnb().refuses(drawn(1, 128), packed))
    monkeypatch.setattr(kernels, "_integer_products", lambda: True)
    assert Bnb().refuses(drawn(1, 128), KERNELS["int8"]) == []
    assert any("CUDA device" in r for r in Bnb().refuses(drawn(1, 128), KERNELS["nf4"]))


def test_blocks_that_do_not_divide_the_width_are_refused() -> None:
    packed = Nf4(64).quantize(drawn(8, 100))
    assert any("divide the width; 64 of 100" in r for r in Bnb().refuses(drawn(1, 100), packed))


@pytest.mark.gpu
@pytest.mark.parametrize("rows", [1, 9])
@pytest.mark.parametrize("name", KERNELS)
def test_on_a_gpu_it_runs_and_gives_the_formats_result(name: str, rows: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    packed = KERNELS[name]
    there = PackedTensor(
        packed.format, packed.shape, {n: t.to("cuda") for n, t in packed.tensors.items()}
    )
    x, kernel = inputs(rows, 128, 2).half().cuda(), Bnb()
    assert kernel.refuses(x, there) == []
    found = kernel.linear(x, there, None, kernel.prepare(there)).float().cpu()
    expected = packed.format.apply(x.float().cpu(), packed, None)
    assert float((found - expected).norm()) <= 0.01 * float(expected.norm())
