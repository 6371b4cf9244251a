"""Patterns over dotted module names: `transformer.h.[0-2].**`.

A pattern has parts between dots, as a name has. `*` stands for any text within one part, `**` as
a part for any number of parts, none included, `[2]`, `[0-2]` and `[0,4-6]` as a part for the
numbers of blocks, and `{a,b}` anywhere for either text.
"""

import re
from dataclasses import dataclass

from quantale.core.errors import UsageError

_MAX_ALTERNATIVES = 100
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBERS = re.compile(r"\[(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)\]")
_TEXT = re.compile(r"[\w*-]+")
_BARE = {"*", "**"}


@dataclass(frozen=True)
class Glob:
    """A pattern that was read; raises UsageError for one that is malformed."""

    pattern: str
    """As it was written."""

    def __post_init__(self) -> None:
        for parts in self._alternatives():
            for part in parts:
                self._check(part)

    def fits(self, name: str) -> bool:
        """Say whether a dotted name matches."""
        return any(_fits(parts, name.split(".")) for parts in self._alternatives())

    def names(self, name: str) -> bool:
        """Say whether a name matches, and its last part is more than a bare `*` or `**`."""
        named = (parts for parts in self._alternatives() if parts[-1] not in _BARE)
        return any(_fits(parts, name.split(".")) for parts in named)

    def _alternatives(self) -> list[list[str]]:
        """Return the patterns without braces that this one stands for, each in its parts."""
        open_ones, done = [self.pattern], list[str]()
        while open_ones:
            text = open_ones.pop(0)
            match = _BRACES.search(text)
            if match is None:
                done.append(text)
                continue
            head, tail = text[: match.start()], text[match.end() :]
            open_ones += [head + choice + tail for choice in match[1].split(",")]
            if len(open_ones) + len(done) > _MAX_ALTERNATIVES:
                raise UsageError(f"{self.pattern!r} has more than {_MAX_ALTERNATIVES} alternatives")
        return [text.split(".") for text in done]

    def _check(self, part: str) -> None:
        if "**" in part and part != "**":
            raise UsageError(f"{self.pattern!r}: '**' should be a whole part, {part!r} came")
        if not _TEXT.fullmatch(part) and not _NUMBERS.fullmatch(part):
            raise UsageError(
                f"{self.pattern!r} is no pattern of module names: {part!r} should be a word, with "
                "* where anything may stand, ** or a range such as [0-2]"
            )
        for low, high in _ranges(part):
            if low > high:
                raise UsageError(f"{self.pattern!r}: the range {low}-{high} is empty")


def _fits(parts: list[str], name: list[str]) -> bool:
    """Walk the parts with the set of positions in the name that they can have come to."""
    reached = {0}
    for part in parts:
        if part == "**":
            reached = set(range(min(reached), len(name) + 1))
        else:
            reached = {i + 1 for i in reached if i < len(name) and _part_fits(part, name[i])}
        if not reached:
            return False
    return len(name) in reached


def _part_fits(part: str, word: str) -> bool:
    if part.startswith("["):
        return word.isdecimal() and any(low <= int(word) <= high for low, high in _ranges(part))
    pieces = map(re.escape, part.split("*"))
    return re.fullmatch(".*".join(pieces), word) is not None


def _ranges(part: str) -> list[tuple[int, int]]:
    """Return the bounds of "[0,4-6]", both inclusive; none for another part."""
    match = _NUMBERS.fullmatch(part)
    pairs = (item.partition("-") for item in match[1].split(",")) if match else ()
    return [(int(low), int(high or low)) for low, _, high in pairs]
