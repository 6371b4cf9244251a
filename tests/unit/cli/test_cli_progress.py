"""Progress as plain lines and as bars."""

import io

import pytest

from quantale.cli.progress import Bars, Lines
from quantale.core.progress import Progress, Silent


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_line_comes_every_ten_seconds_and_at_both_ends() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Lines(stream, clock)
    lines.stage("train", 100)
    for step in range(50):
        clock.now += 0.5
        lines.advance(1, loss=2.0 - step / 100)
    lines.note("bf16 is not native here")
    lines.close()
    assert stream.getvalue().splitlines() == [
        "train ...",
        "train: 20/100 loss=1.81 (40 s left)",
        "train: 40/100 loss=1.61 (30 s left)",
        "bf16 is not native here",
        "train: 50/100 loss=1.51 (25 s left), 25.0 s",
    ]


def test_a_new_stage_closes_the_one_before() -> None:
    stream = io.StringIO()
    lines = Lines(stream, Clock())
    lines.stage("a")
    lines.advance(3)
    lines.stage("b", 2)
    lines.close()
    lines.close()
    assert stream.getvalue().splitlines() == ["a ...", "a: 3, 0.0 s", "b ...", "b: 0/2, 0.0 s"]


def test_bars_draw_on_stderr_only(capsys: pytest.CaptureFixture[str]) -> None:
    bars = Bars()
    bars.stage("train", 10)
    bars.advance(4, loss=1.5, step="[red]4")
    bars.note("a [note]")
    bars.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a [note]" in shown.err


def test_every_listener_fits_the_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    written = io.StringIO()
    listeners: tuple[Progress, ...] = (Silent(), Lines(written))
    for listener in listeners:
        listener.stage("x")
        listener.advance(2, loss=1.0)
        listener.note("y")
    assert "y" in written.getvalue()
    assert capsys.readouterr() == ("", "")
