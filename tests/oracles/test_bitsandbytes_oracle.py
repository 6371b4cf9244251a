"""NF4, FP4 and double quantization against the bitsandbytes library, bit for bit.

bitsandbytes has two programs for the CPU: portable ones in PyTorch, whose arithmetic is that of its
CUDA kernels, and compiled ones. The compiled second-level quantizer takes a neighbour of the
nearest code for some scales (0.15 % of those below); equality is asked of the portable one.
"""

import pytest
import torch
from torch import Tensor

from quantale.quant import bitpack
from quantale.quant.methods.fp4 import Fp4
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.packed import PackedTensor
from quantale.quant.scales import ScaleStore, dynamic_map

bnb = pytest.importorskip("bitsandbytes", reason="the oracle is the bitsandbytes library")
METHODS: dict[str, type[Nf4] | type[Fp4]] = {"nf4": Nf4, "fp4": Fp4}
SECOND_BLOCK = 256

every_table = pytest.mark.parametrize("table", METHODS)
every_block = pytest.mark.parametrize("block", [64, 128])


@pytest.fixture(autouse=True)
def no_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its layout for AVX512 overwrites weights in place, see its issue 2078."""
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: False)


def weights(table: str) -> Tensor:
    """Gaussian and heavy-tailed rows, a row of zeros, and every value of the table once."""
    generator = torch.Generator().manual_seed(11)
    gauss = torch.randn(128, 512, generator=generator) * 0.02
    heavy = gauss * torch.randn(128, 512, generator=generator).abs().pow(3)
    lines = torch.zeros(2, 512)
    lines[1] = bnb.functional.get_4bit_type(table, "cpu").repeat(32) * 0.3
    return torch.cat([gauss, heavy, lines])


def codes_of(packed: PackedTensor, block: int) -> Tensor:
    """Our codes, flat."""
    return bitpack.unpack(packed.tensors["weight"], 4, block).flatten()


def codes_in(stored: Tensor) -> Tensor:
    """The library's codes, flat: the first of a pair is the high half of its byte."""
    return torch.stack([stored.flatten() >> 4, stored.flatten() & 15], -1).flatten()


@every_table
@every_block
def test_codes_scales_and_weights_are_those_of_the_library(table: str, block: int) -> None:
    weight = weights(table)
    stored, state = bnb.functional.quantize_4bit(weight, blocksize=block, quant_type=table)
    packed = METHODS[table](block).quantize(weight)
    wanted, found = codes_in(stored), codes_of(packed, block)
    zero = weight.flatten() == 0  # FP4 has two zeros; which one is of no effect
    assert torch.equal(found[~zero], wanted[~zero])
    assert torch.equal(packed.tensors["scale"].flatten(), state.absmax)
    theirs = bnb.functional.dequantize_4bit(stored, state)
    assert torch.equal(packed.dequantize(), theirs)


@every_table
@every_block
def test_double_quantization_is_that_of_the_library(table: str, block: int) -> None:
    weight = weights(table)
    plain = METHODS[table](block).quantize(weight).tensors["scale"]
    _, state = bnb.functional.quantize_4bit(
        weight, blocksize=block, compress_statistics=True, quant_type=table
    )
    packed = METHODS[table](block, double_quant=True).quantize(weight)
    assert float(packed.tensors["scale_mean"]) == float(state.offset)
    assert torch.equal(packed.tensors["scale_absmax"], state.state2.absmax)
    codes, absmax = _portable((plain - state.offset).flatten())
    assert torch.equal(packed.tensors["scale"].flatten(), codes)
    assert torch.equal(packed.tensors["scale_absmax"], absmax)
    compiled = state.absmax
    assert (codes != compiled).float().mean() <= 0.005
    assert (codes.int() - compiled.int()).abs().max() <= 1


@every_table
def test_doubly_quantized_weights_are_the_librarys_bit_for_bit(table: str) -> None:
    weight = weights(table)
    stored, state = bnb.functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=True, quant_type=table
    )
    packed = METHODS[table](64, double_quant=True).quantize(weight)
    theirs = bnb.functional.dequantize_4bit(stored, state).view(len(weight), -1, 64)
    same = packed.tensors["scale"] == state.absmax.view(len(weight), -1)
    assert torch.equal(packed.dequantize().view_as(theirs)[same], theirs[same])


def test_the_map_of_scales_is_the_librarys_and_its_codes_are_read_alike() -> None:
    assert torch.equal(dynamic_map(), bnb.functional.create_dynamic_map())
    values = torch.randn(3, 400, generator=torch.Generator().manual_seed(3))
    codes, state = bnb.functional.quantize_blockwise(values, blocksize=SECOND_BLOCK)
    tensors = {"scale": codes, "scale_absmax": state.absmax, "scale_mean": torch.tensor([0.25])}
    expected = bnb.functional.dequantize_blockwise(codes, state) + 0.25
    assert torch.equal(ScaleStore("float32", True).read(tensors), expected)


def _portable(values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and block maxima of the library's own program in PyTorch."""
    program = torch.ops.bitsandbytes.quantize_blockwise.default
    key = torch._C.DispatchKey.CompositeExplicitAutograd
    found = program._op_dk(key, values, bnb.functional.create_dynamic_map(), SECOND_BLOCK)
    return found[0], found[1]
