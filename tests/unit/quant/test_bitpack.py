"""Packing is exact for every width and every shape."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.quant.bitpack import pack, packed_width, unpack


@settings(deadline=None, max_examples=150)
@given(
    bits=st.integers(1, 8),
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=2),
    count=st.integers(0, 70),
    seed=st.integers(0, 2**31),
)
def test_codes_come_back_and_take_the_bytes_they_should(
    bits: int, shape: list[int], count: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(1 << bits, (*shape, count), generator=generator)
    stored = pack(codes, bits)
    assert stored.dtype == torch.uint8
    assert stored.shape == (*shape, packed_width(count, bits))
    assert torch.equal(unpack(stored, bits, count).long(), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_layout_is_one_little_endian_bit_stream(bits: int) -> None:
    codes = np.random.default_rng(bits).integers(0, 1 << bits, 19)
    stream = np.concatenate([[code >> i & 1 for i in range(bits)] for code in codes])
    expected = np.packbits(stream.astype(np.uint8), bitorder="little")
    assert pack(torch.from_numpy(codes), bits).tolist() == expected.tolist()


@pytest.mark.parametrize(("bits", "code"), [(4, 16), (3, -1), (8, 256)])
def test_a_code_outside_the_range_is_an_error(bits: int, code: int) -> None:
    with pytest.raises(UsageError, match="codes of"):
        pack(torch.tensor([0, code]), bits)


@pytest.mark.parametrize("bits", [0, 9])
def test_other_widths_are_errors(bits: int) -> None:
    with pytest.raises(UsageError, match="1 to 8"):
        pack(torch.tensor([0]), bits)
