"""How many bytes a process really holds for the blocks that it asks for: glibc's heap in outline.

Blocks from a threshold on are mapped and come back at once. Smaller ones are cut out of a heap: the
smallest free block that is large enough, else new memory at the top. Torch asks for aligned blocks,
and the library looks for so much more that a block's own place is too small for another of its size
(small objects of the program sit in the gaps): what was freed serves smaller blocks, or joins a
free neighbour. It stays resident until it is used again. So tensors that come and go between those
that stay leave holes, and a training holds more than its tensors. See malloc(3), mallopt(3), and
`core/heap.py` for what trainings ask of the library: nothing is given back while they last.
"""

from bisect import bisect_left, insort

_ALIGNED = 64
"""Bytes to which torch aligns blocks."""
_SLACK = 2 * _ALIGNED
"""What a free block must have beside a block that is cut out of it: alignment and two headers."""


class HeapModel:
    """The blocks of one process."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._mapped = 0
        self._top = 0
        self._starts: dict[int, int] = {}
        """Sizes of free blocks by where they start."""
        self._ends: dict[int, int] = {}
        """Where free blocks start, by where they end."""
        self._sizes: list[tuple[int, int]] = []
        """(size, start) of free blocks, sorted."""
        self.peak = 0
        """The most bytes that were resident."""

    @property
    def resident(self) -> int:
        """Bytes of mapped blocks and of the heap up to its top."""
        return self._mapped + self._top

    def take(self, size: int) -> int:
        """Return the place of a new block; negative where it is mapped."""
        size = -(-max(size, 1) // _ALIGNED) * _ALIGNED
        if size >= self._threshold:
            self._mapped += size
            place = -size
        else:
            place = self._cut(size)
        self.peak = max(self.peak, self.resident)
        return place

    def give(self, place: int, size: int) -> None:
        """Take a block back."""
        if place < 0:
            self._mapped += place
            return
        self._free(place, -(-max(size, 1) // _ALIGNED) * _ALIGNED)

    def _cut(self, size: int) -> int:
        index = bisect_left(self._sizes, (size + _SLACK, -1))
        if index < len(self._sizes):
            there, start = self._sizes[index]
            self._forget(start)
            self._remember(start + size, there - size)
            return start
        start = self._top
        if start in self._ends:  # the free block below the top grows
            start = self._ends[start]
            self._forget(start)
        self._top = start + size
        return start

    def _free(self, start: int, size: int) -> None:
        end = start + size
        if end in self._starts:
            size += self._starts[end]
            self._forget(end)
        if start in self._ends:
            before = self._ends[start]
            size += start - before
            self._forget(before)
            start = before
        self._remember(start, size)

    def _remember(self, start: int, size: int) -> None:
        self._starts[start], self._ends[start + size] = size, start
        insort(self._sizes, (size, start))

    def _forget(self, start: int) -> None:
        size = self._starts.pop(start)
        del self._ends[start + size]
        del self._sizes[bisect_left(self._sizes, (size, start))]
