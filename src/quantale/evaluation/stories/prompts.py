"""From documents to prompts: what a model is given, and what the corpus wrote itself."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import Formatter

from quantale.core.errors import DataError
from quantale.evaluation.stories.characters import character_names
from quantale.evaluation.stories.metrics import Prompt
from quantale.evaluation.stories.words import names, words

_SENTENCE_END = re.compile(r"[.!?]+[\"'”’)]*(?=\s)|(?<=\S)(?=\n)")
_ASKING = ("prompt", "characters", "opening")

Cut = Callable[[str], tuple[str, bool]]
"""Shortens a text to what a model may write; the flag says whether all of it is left."""


@dataclass(frozen=True)
class Asking:
    """How documents become prompts."""

    template: str = "{opening}"
    """Text with {genre}, {characters}, {prompt} and {opening} in braces."""
    opening_words: int = 12

    @property
    def fields(self) -> frozenset[str]:
        """The names in the template."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.template) if name)


@dataclass(frozen=True)
class Draft:
    """A prompt before its corpus' story is cut."""

    id: str
    given: str
    opening: str
    rest: str
    """The story behind the opening."""
    fields: Mapping[str, str]
    """In lower case: genre, characters, prompt, as far as the document has them."""


def draft(identity: str, text: str, fields: Mapping[str, str], asking: Asking) -> Draft:
    """Fill in the template for one document; raises DataError for a field that it lacks.

    Field names are compared in lower case.
    """
    known = {name.lower(): value for name, value in fields.items()}
    opening, rest = "", text
    if "opening" in asking.fields:
        opening, rest = split_opening(text, asking.opening_words)
    filled = {**known, "opening": opening}
    missing = sorted(asking.fields - filled.keys())
    if missing:
        raise DataError(
            f"document {identity} has no {missing[0]!r}, which the template names; it has "
            f"{', '.join(sorted(known)) or 'no fields'}"
        )
    given = asking.template.format_map({name: filled[name] for name in asking.fields})
    return Draft(identity, given, opening, rest, known)


def split_opening(text: str, least_words: int) -> tuple[str, str]:
    """Return the first sentences with so many words at least, and the rest.

    The rest is empty where the whole text is needed, and keeps the white space in front of it.
    """
    if least_words == 0:
        return "", text
    for match in _SENTENCE_END.finditer(text):
        if len(words(text[: match.end()])) >= least_words:
            return text[: match.end()], text[match.end() :]
    return text, ""


def finish(one: Draft, asking: Asking, cut: Cut) -> Prompt:
    """Return the prompt with the corpus' story cut as the models' are.

    Names are those of the field "characters" and of the opening, as far as the model reads them.
    """
    own, ended = cut(one.rest)
    asked = {"opening": one.opening, **one.fields}
    listed = character_names(one.fields.get("characters", "")) | names(one.opening)
    read = {re.sub(r"['’]s?$", "", word) for word in words(one.given)}
    return Prompt(
        id=one.id,
        given=one.given,
        asked="\n".join(asked[name] for name in _ASKING if name in asking.fields),
        names=frozenset(listed & read),
        genre=one.fields.get("genre"),
        own=own,
        opening=one.opening,
        own_ended=ended,
    )
