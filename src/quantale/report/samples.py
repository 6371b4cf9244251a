"""The same prompt told by every variant, and the word where each leaves the base."""

import re
from dataclasses import dataclass

from quantale.report.model import ReportData


@dataclass(frozen=True)
class Telling:
    """One variant's continuation, split where it first differs from the base's."""

    name: str
    same: str
    """The part that equals the base's, with its trailing space."""
    first: str
    """The first word that differs; empty when nothing does, or for the base."""
    rest: str
    words_alike: int
    is_base: bool

    @property
    def text(self) -> str:
        """The whole text, as it was generated but for its end."""
        return self.same + self.first + self.rest

    @property
    def is_identical(self) -> bool:
        """Say whether the whole text equals the base's."""
        return not self.is_base and not self.first and not self.rest


@dataclass(frozen=True)
class Prompt:
    """A prompt with its tellings, the base first."""

    text: str
    tellings: tuple[Telling, ...]


def side_by_side(data: ReportData) -> tuple[Prompt, ...]:
    """Return every prompt that the base continued, with the variants that did too."""
    found = []
    for index, prompt in enumerate(data.prompts):
        texts = {row.name: row.samples[index] for row in data.variants if index < len(row.samples)}
        if texts:
            base = texts.pop(data.base, None)
            tellings = [] if base is None else [_base(data.base, base)]
            tellings += [_telling(name, text, base) for name, text in texts.items()]
            found.append(Prompt(prompt, tuple(tellings)))
    return tuple(found)


def _base(name: str, text: str) -> Telling:
    return Telling(name, "", "", text, 0, is_base=True)


def _telling(name: str, text: str, base: str | None) -> Telling:
    words = re.findall(r"\s*\S+", text)
    expected = [] if base is None else base.split()
    alike = _shared([word.strip() for word in words], expected)
    same, left = "".join(words[:alike]), words[alike:]
    if not left:
        first = "\u2026" if alike < len(expected) else ""
        return Telling(name, same, first, "", alike, is_base=False)
    first = left[0].lstrip()
    same += left[0][: len(left[0]) - len(first)]
    return Telling(name, same, first, "".join(left[1:]), alike, is_base=False)


def _shared(words: list[str], base: list[str]) -> int:
    for index, (own, other) in enumerate(zip(words, base, strict=False)):
        if own != other:
            return index
    return min(len(words), len(base))
