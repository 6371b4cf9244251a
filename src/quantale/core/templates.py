"""Text templates with columns in braces; the part from the answer on is what a model should write.

`[PROMPT]: {prompt}\\n[STORY]: {story}`: a brace holds the name of a column and nothing else. Spaces
in front of the answer belong to the answer, because tokenizers keep a space with the word behind
it: the prompt alone and the prompt with an answer then begin with the same tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from string import Formatter

TEXT = "text"
"""The field that always is the document's own text."""


@dataclass(frozen=True)
class Template:
    """A template that was checked; raises ValueError, which says what is wrong."""

    text: str
    answer: str | None = None
    """The field where the answer begins; None: the last one."""

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError(f"{self.text!r} names no column in braces")
        if self.answer is not None and self.answer not in self.fields:
            raise ValueError(f"the answer {self.answer!r} is none of {', '.join(self.fields)}")

    @property
    def fields(self) -> tuple[str, ...]:
        """The names in braces, in order, each once."""
        return tuple(dict.fromkeys(name for _, name in self._parts if name is not None))

    @property
    def answer_field(self) -> str:
        """The field where the answer begins."""
        return self.answer or self.fields[-1]

    @property
    def prompt_fields(self) -> tuple[str, ...]:
        """The names in front of the answer."""
        return tuple(dict.fromkeys(name for _, name in self._prompt_parts if name is not None))

    def prompt(self, values: Mapping[str, str]) -> str:
        """Return what is in front of the answer, filled in, without spaces at its end."""
        return _fill(self._prompt_parts, values).rstrip(" ")

    def filled(self, values: Mapping[str, str]) -> tuple[str, int]:
        """Return the whole text and the index where the answer begins."""
        return _fill(self._parts, values), len(self.prompt(values))

    @property
    def _prompt_parts(self) -> list[tuple[str, str | None]]:
        names = [name for _, name in self._parts]
        at = names.index(self.answer_field)
        return [*self._parts[:at], (self._parts[at][0], None)]

    @cached_property
    def _parts(self) -> list[tuple[str, str | None]]:
        """Literal texts, each with the name of the field behind it."""
        try:
            parsed = list(Formatter().parse(self.text))
        except ValueError as error:
            raise ValueError(f"{self.text!r} has a stray brace: {error}") from None
        for _, name, spec, conversion in parsed:
            if name == "" or spec or conversion:
                raise ValueError(f"{self.text!r}: a brace holds the name of a column, nothing else")
        return [(literal, name) for literal, name, _, _ in parsed]


def _fill(parts: list[tuple[str, str | None]], values: Mapping[str, str]) -> str:
    return "".join(literal + ("" if name is None else values[name]) for literal, name in parts)
