"""Names beside points without collisions: greedy, deterministic, in pixels.

Each label tries a ring of places around its point, near ones first, and takes the first that is
free of other labels, points and bars; when none is free it takes the least crowded.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_CHARACTER = 0.6
"""Mean width of a character in font sizes, generous so that other typefaces fit too."""


@dataclass(frozen=True)
class Box:
    """A rectangle; y grows upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: "Box") -> float:
        """Return the shared area."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def outside(self, room: "Box") -> float:
        """Return the area that lies outside the room."""
        area = (self.right - self.left) * (self.top - self.bottom)
        return area - self.overlap(room)


@dataclass(frozen=True)
class Placed:
    """Where a label went: its middle left or right end, and whether it needs a leader line."""

    text: str
    x: float
    y: float
    align: str
    """"left" or "right": which end of the text is at x."""
    far: bool


def place(
    anchors: Sequence[tuple[str, float, float]], obstacles: Iterable[Box], room: Box, font: float
) -> list[Placed]:
    """Return one place for each (text, x, y), in the order given."""
    taken = list(obstacles)
    placed = []
    for text, x, y in anchors:
        options = _options(text, x, y, font)
        best = min(options, key=lambda option: _cost(_box(option, font), taken, room))
        taken.append(_box(best, font))
        placed.append(best)
    return placed


def fitted(text: str, room: float, font: float) -> str:
    """Return the text, shortened in its middle when it would not fit into the room."""
    most = max(6, int(room / (font * _CHARACTER)))
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}\u2026{text[-tail:]}"


def _options(text: str, x: float, y: float, font: float) -> list[Placed]:
    """Places in order of preference: right, left, then rows further up and down."""
    found = []
    for rows in (0, 1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6):
        reach = font * (0.85 if rows == 0 else 0.7)
        height = y + rows * font * 1.15
        far = abs(rows) > 1
        found.append(Placed(text, x + reach, height, "left", far))
        found.append(Placed(text, x - reach, height, "right", far))
    return found


def _box(label: Placed, font: float) -> Box:
    width = len(label.text) * font * _CHARACTER
    left = label.x if label.align == "left" else label.x - width
    return Box(left, label.y - font * 0.6, left + width, label.y + font * 0.6)


def _cost(box: Box, taken: Sequence[Box], room: Box) -> float:
    return sum(box.overlap(other) for other in taken) + 3 * box.outside(room)
