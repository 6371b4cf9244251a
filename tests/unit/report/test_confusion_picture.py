"""The picture of a confusion matrix: its size, its colours, its bytes."""

import io

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from quantale.report.confusion_picture import confusion_png
from quantale.report.palette import LIGHT

NAMES = ["World", "Sports", "Sci/Tech"]


def shades(matrix: list[list[int]]) -> set[str]:
    """Return the names of the heat colours that fill whole patches of the picture."""
    pixels = imread(io.BytesIO(confusion_png(NAMES, matrix)))[:, :, :3]
    found = set()
    for name, colour in LIGHT.items():
        alike = np.abs(pixels - np.array(to_rgb(colour))).max(axis=2) < 1 / 255
        if name.startswith("heat") and alike.sum() > 2000:
            found.add(name)
    return found


def test_cells_are_coloured_by_the_root_of_their_share() -> None:
    assert shades([[10, 0, 0], [0, 10, 0], [0, 0, 10]]) == {"heat-0", "heat-8"}
    assert shades([[75, 25, 0], [0, 100, 0], [0, 0, 100]]) == {
        "heat-0",
        "heat-4",
        "heat-7",
        "heat-8",
    }


def test_the_same_counts_give_the_same_bytes_and_a_class_without_rows_is_drawn() -> None:
    matrix = [[3, 1, 0], [0, 0, 0], [1, 0, 5]]
    first = confusion_png(NAMES, matrix)
    assert first == confusion_png(NAMES, matrix)
    assert first.startswith(b"\x89PNG")
    assert first != confusion_png(NAMES, [[3, 1, 0], [0, 0, 0], [1, 1, 5]])
