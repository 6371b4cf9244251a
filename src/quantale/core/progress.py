"""How a long stage tells what it is doing, without knowing who listens.

Stages take a `Progress`; the command line draws it, a library call passes `Silent()`.
"""

from typing import Protocol


class Progress(Protocol):
    """A listener of one running verb; stages follow one another, they do not nest."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage of `total` units (None: unknown), which ends the previous one."""

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        """Report `n` finished units and, as fields, what is worth showing (loss, tokens/s)."""

    def note(self, text: str) -> None:
        """Show one line that stays: a warning, a decision, a finished stage."""


class Silent:
    """A listener that shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Ignore the stage."""

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        """Ignore the units."""

    def note(self, text: str) -> None:
        """Ignore the line."""
