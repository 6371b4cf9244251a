"""Progress on stderr: live bars for a person, occasional plain lines for a log."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

_EVERY = 10.0
"""Seconds between two plain lines of one stage."""


@dataclass
class Lines:
    """Plain lines: the start of a stage, news every ten seconds, and its end."""

    stream: TextIO
    clock: Callable[[], float] = time.monotonic
    name: str = ""
    total: int | None = None
    done: int = 0
    begun: float = 0.0
    told: float = 0.0
    fields: dict[str, float | int | str] = field(default_factory=dict)

    def stage(self, name: str, total: int | None = None) -> None:
        """Close the running stage and begin another."""
        self.close()
        self.name, self.total, self.done, self.fields = name, total, 0, {}
        self.begun = self.told = self.clock()
        self._write(f"{name} ...")

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        """Count, and write a line when the last one is long ago."""
        self.done += n
        self.fields = {**self.fields, **fields}
        if self.clock() - self.told >= _EVERY:
            self.told = self.clock()
            self._write(f"{self.name}: {self._state()}")

    def note(self, text: str) -> None:
        """Write the line."""
        self._write(text)

    def close(self) -> None:
        """Write how the running stage ended."""
        if self.name:
            self._write(f"{self.name}: {self._state()}, {self.clock() - self.begun:.1f} s")
        self.name = ""

    def _state(self) -> str:
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        shown = show_fields(self.fields)
        left = self._left()
        return " ".join(part for part in (count, shown, left) if part)

    def _left(self) -> str:
        if not self.total or not self.done or self.done >= self.total:
            return ""
        seconds = (self.clock() - self.begun) * (self.total - self.done) / self.done
        return f"({seconds:.0f} s left)"

    def _write(self, text: str) -> None:
        self.stream.write(f"{text}\n")
        self.stream.flush()


class Bars:
    """One live bar a stage, drawn by rich on stderr; finished ones stay."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}", markup=False),
            console=Console(stderr=True),
        )
        self._bars.start()
        self._task: int | None = None
        self._fields: dict[str, float | int | str] = {}

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a bar; the one before stays as it is."""
        self._fields = {}
        self._task = int(self._bars.add_task(name, total=total, shown=""))

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        """Move the bar."""
        from rich.progress import TaskID

        if self._task is None:
            self.stage("working")
        self._fields = {**self._fields, **fields}
        task = TaskID(self._task or 0)
        self._bars.update(task, advance=n, shown=show_fields(self._fields))

    def note(self, text: str) -> None:
        """Print the line above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bars.stop()


def show_fields(fields: dict[str, float | int | str]) -> str:
    """Return "loss=2.31 tokens/s=12000": underscores before s, ms read as "per"."""
    return " ".join(f"{key}={_number(value)}" for key, value in fields.items())


def _number(value: float | int | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 10_000 else _whole(value)


def _whole(value: float | int | str) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
