"""The outline of the C library's heap: what is used again, what stays as a hole, what is mapped."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from quantale.tuning.heap_model import HeapModel
from quantale.tuning.live_bytes import counting


def test_a_block_takes_the_smallest_hole_that_is_large_enough() -> None:
    heap = HeapModel(2**20)
    places = [heap.take(size) for size in (1280, 64, 640, 64)]
    heap.give(places[0], 1280)
    heap.give(places[2], 640)
    assert heap.resident == heap.peak == 2048  # freed, and still there
    assert heap.take(256) == places[2]
    assert heap.take(64) == places[2] + 256
    assert heap.take(640) == places[0]
    assert heap.resident == 2048


def test_a_hole_is_too_small_for_a_block_of_its_own_size() -> None:
    heap = HeapModel(2**20)
    first, _ = heap.take(640), heap.take(64)
    heap.give(first, 640)
    assert heap.take(640) == 704
    assert heap.resident == 1344


def test_neighbours_that_are_free_become_one() -> None:
    heap = HeapModel(2**20)
    places = [heap.take(640) for _ in range(4)]
    for place in (places[0], places[2], places[1]):
        heap.give(place, 640)
    assert heap.take(2 * 640) == 0
    heap.give(places[3], 640)
    assert heap.take(1920) == 2 * 640  # what is free below the top grows
    assert heap.resident == 5 * 640


def test_large_blocks_are_mapped_and_leave_nothing_behind() -> None:
    heap = HeapModel(4096)
    place = heap.take(8192)
    assert heap.resident == 8192
    heap.give(place, 8192)
    assert (heap.resident, heap.peak) == (0, 8192)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5000)), max_size=60))
def test_blocks_never_overlap_and_are_all_resident(orders: list[tuple[bool, int]]) -> None:
    heap = HeapModel(4096)
    there: list[tuple[int, int]] = []
    for takes, size in orders:
        if takes or not there:
            there.append((heap.take(size), size))
        else:
            heap.give(*there.pop(size % len(there)))
        spans = sorted((place, place + n) for place, n in there if place >= 0)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        assert heap.resident >= sum(n for _, n in there)


def test_tensors_count_from_their_first_to_their_last_reference() -> None:
    with counting(2**25) as live:
        first = torch.zeros(100)
        second = first.view(10, 10) + 1
        assert live.now == 800
        del first
        assert live.now == 400
        third = second[0]
        del second
        assert (live.now, live.peak) == (400, 800)  # a view keeps its storage
        del third
        assert live.now == 0
        assert bool((torch.zeros(3) + torch.ones(3)).isfinite().all())  # told, not computed
