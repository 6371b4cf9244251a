"""Requests that wait for a slot: a bounded line, and a guess how long it takes."""

import math
import threading
from collections import deque

from quantale.core.errors import QuantaleError
from quantale.inference.request import QueueFull
from quantale.inference.row import Row

_LONGEST = 60
_WEIGHT = 0.2
"""Of the newest request in the running mean of what one takes."""


class Line:
    """A bounded line of rows, for many threads that hand in and one that takes."""

    def __init__(self, places: int, slots: int) -> None:
        self._places, self._slots = places, slots
        self._changed = threading.Condition()
        self._rows: deque[Row] = deque()
        self._busy = 0
        self._seconds = 1.0
        self._closed = False

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def is_closed(self) -> bool:
        """Say whether nothing is taken any more."""
        return self._closed

    @property
    def busy(self) -> int:
        """How many rows are being written."""
        return self._busy

    def join(self, row: Row) -> None:
        """Stand in line; raises QueueFull when slots and places are taken."""
        with self._changed:
            if self._closed:
                raise QuantaleError("the engine is closed")
            self._drop_cancelled()
            if len(self._rows) + self._busy >= self._places + self._slots:
                raise QueueFull(self._guess())
            self._rows.append(row)
            self._changed.notify_all()

    def wait(self) -> None:
        """Sleep until there is a row or the line is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._rows or self._closed)

    def next(self) -> Row | None:
        """Take the first row, which is busy from now on; None where none waits."""
        with self._changed:
            self._drop_cancelled()
            if not self._rows:
                return None
            self._busy += 1
            return self._rows.popleft()

    def leave(self, seconds: float) -> None:
        """Say that a row taken is done, and how long it was written."""
        with self._changed:
            self._busy -= 1
            self._seconds += _WEIGHT * (seconds - self._seconds)

    def close(self) -> None:
        """Take no more and wake who waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def empty(self) -> list[Row]:
        """Return everybody who still stands there."""
        with self._changed:
            rows = list(self._rows)
            self._rows.clear()
            return rows

    def _drop_cancelled(self) -> None:
        for row in [row for row in self._rows if row.stream.is_cancelled]:
            self._rows.remove(row)
            row.close("cancelled")

    def _guess(self) -> int:
        rounds = 1 + len(self._rows) / self._slots
        return max(1, min(_LONGEST, math.ceil(rounds * self._seconds)))
