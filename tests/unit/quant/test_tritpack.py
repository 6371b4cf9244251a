"""Five trits a byte: every byte, every length, and the reading that kernels rely on."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.quant.tritpack import pack, packed_width, unpack


def test_all_243_groups_of_five_come_back_from_bytes_that_differ() -> None:
    every = torch.tensor(list(itertools.product((-1, 0, 1), repeat=5)))
    stored = pack(every)
    assert stored.shape == (243, 1)
    assert len(set(stored.flatten().tolist())) == 243
    assert torch.equal(unpack(stored, 5).long(), every)


def test_a_byte_is_the_fraction_of_its_number_in_fixed_point() -> None:
    for trits in itertools.product((-1, 0, 1), repeat=5):
        number = sum((trit + 1) * 3 ** (4 - place) for place, trit in enumerate(trits))
        byte = int(pack(torch.tensor(trits)))
        assert byte == -(-256 * number // 243)
        assert [(byte * 3**place % 256) * 3 // 256 - 1 for place in range(5)] == list(trits)


@settings(deadline=None, max_examples=100)
@given(
    shape=st.lists(st.integers(1, 4), max_size=2),
    count=st.integers(0, 33),
    seed=st.integers(0, 2**31),
)
def test_any_length_comes_back(shape: list[int], count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    trits = torch.randint(-1, 2, (*shape, count), generator=generator)
    stored = pack(trits)
    assert stored.dtype == torch.uint8
    assert stored.shape == (*shape, packed_width(count))
    assert packed_width(count) == (count + 4) // 5
    assert torch.equal(unpack(stored, count).long(), trits)


@pytest.mark.parametrize("value", [2, -2, 3])
def test_other_numbers_than_trits_are_an_error(value: int) -> None:
    with pytest.raises(UsageError, match="trits are -1, 0 or 1"):
        pack(torch.tensor([0, value]))
