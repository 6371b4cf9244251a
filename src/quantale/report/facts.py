"""Nested facts about protocol and machine as lines for a reader."""

from collections.abc import Iterator, Mapping
from typing import Any


def flat(source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (label, text) for every leaf; None is left out."""
    for key, value in source.items():
        if isinstance(value, Mapping):
            yield from flat(value)
        elif isinstance(value, list | tuple):
            yield str(key).replace("_", " "), ", ".join(map(str, value))
        elif value is not None:
            yield str(key).replace("_", " "), str(value)
