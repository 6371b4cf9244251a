"""What is worked on in parts of some rows is what would come of the whole."""

import pytest
import torch
from torch import Tensor

from quantale.quant import bitpack, rows
from quantale.quant.apply import Method
from quantale.quant.calibration import LayerStats
from quantale.quant.hessian import factorize
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor

METHODS: list[Method] = [
    Rtn(3, 16),
    Rtn(8, "row", symmetric=True, clip="mse"),
    Rtn(4, 16, clip="activations"),
    Rtn(4, "tensor"),
    Rtn(4, 16, double_quant=True),
    Hqq(4, 16, iterations=1),
    Hqq(2, 8, axis=0),
    Nf4(16),
    Nf4(16, double_quant=True),
    Binary(16),
    Bitnet("row"),
    Bitnet("tensor"),
    Gptq(3, 16, act_order=False, clip="none"),
]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quantized(method: Method) -> PackedTensor:
    stats = LayerStats(40)
    stats.add(drawn(200, 40, seed=1))
    return method.quantize(drawn(24, 40), stats)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_parts_of_rows_give_the_codes_of_the_whole(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = quantized(method)
    expected = whole.dequantize()
    monkeypatch.setattr(rows, "CHUNK", 7 * 40)
    monkeypatch.setattr("quantale.quant.methods.gptq._SWEPT", 7 * 40)
    monkeypatch.setattr(bitpack, "_CHUNK", 100)
    parts = quantized(method)
    assert set(parts.tensors) == set(whole.tensors)
    assert all(torch.equal(parts.tensors[name], whole.tensors[name]) for name in whole.tensors)
    assert torch.equal(parts.dequantize(), expected)
    assert parts.format.tensors(parts.shape) == {
        name: (tuple(tensor.shape), tensor.dtype) for name, tensor in parts.tensors.items()
    }


@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_packed_in_parts_lie_where_they_would(
    bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = torch.randint(1 << bits, (5, 3, 13), generator=torch.Generator().manual_seed(2))
    whole = bitpack.pack(codes, bits)
    monkeypatch.setattr(bitpack, "_CHUNK", 30)
    assert torch.equal(bitpack.pack(codes, bits), whole)
    assert torch.equal(bitpack.unpack(whole, bits, 13), codes.to(torch.uint8))


def test_an_order_of_columns_gives_the_factor_of_the_reordered_hessian(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inputs = drawn(300, 70, seed=3)
    hessian = inputs.t() @ inputs
    order = torch.randperm(70, generator=torch.Generator().manual_seed(4))
    plain = factorize(hessian[order][:, order], 0.01)
    monkeypatch.setattr(rows, "CHUNK", 500)
    found = factorize(hessian, 0.01, order)
    assert torch.equal(found.unit, plain.unit)
    assert torch.equal(found.power, plain.power)


def test_chunks_cover_every_row_once() -> None:
    for count, width, limit in ((10, 3, 7), (1, 1000, 7), (0, 4, 8), (8, 2, 4)):
        found = [row for part in rows.chunks(count, width, limit) for row in range(count)[part]]
        assert found == list(range(count))
