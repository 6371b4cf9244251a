"""Sliders whose values come from anywhere."""

import math

import pytest

from quantale.serve.controls import Controls, room
from quantale.stages.answering import Settings

CONTROLS = Controls.of(256)


def test_the_defaults_are_those_of_the_sliders() -> None:
    asked = CONTROLS.settings(0.8, 0, 1.0, 120, 42)
    assert asked == Settings(0.8, None, None, 120, 42)


@pytest.mark.parametrize(
    "value", [None, "7", [], {}, True, math.nan, object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_number_is_the_default(value: object) -> None:
    assert CONTROLS.settings(*[value] * 5) == Settings(0.8, None, None, 120, 42)


def test_what_is_beyond_a_range_is_its_end() -> None:
    assert CONTROLS.settings(*[1e308] * 5) == Settings(2.0, 200, None, 255, 2**31 - 1)
    assert CONTROLS.settings(*[-1e308] * 5) == Settings(0.0, None, 0.05, 1, 0)
    assert CONTROLS.settings(*[math.inf] * 5).length == 255


@pytest.mark.parametrize(("context", "most"), [(1, 1), (2, 1), (64, 63), (100_000, 1000)])
def test_a_length_fits_the_shortest_context(context: int, most: int) -> None:
    assert Controls.of(context).length.high == most
    assert 1 <= Controls.of(context).length.default <= most


def test_an_answer_gets_its_length_or_half_of_the_context() -> None:
    assert room(256, 100) == 156
    assert room(256, 255) == 128
    assert room(1, 1) == 1
