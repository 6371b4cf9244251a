"""How a plot becomes a story: draw a cast and fillers, then fill one alternative of every beat.

A template names its slots in braces. `{hero}` and `{friend}` are names; `{he}`, `{him}`, `{his}`
are the hero's pronouns and `{he2}`, `{him2}`, `{his2}` the friend's. Hero and friend never share
a gender, so a pronoun always points to one of them. For every slot `x` there are also `{a_x}`
(with "a" or "an") and `{X}` (first letter in upper case).
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

from quantale.data.stories.words import CASTS, PHRASES, Cast

T = TypeVar("T")
Beat = tuple[str, ...]
"""Interchangeable templates for one step of a plot; an empty one makes the step optional."""


@dataclass(frozen=True)
class Plot:
    """One way a story can go."""

    name: str
    """Unique within its genre."""
    hero: str
    """Key of `CASTS`."""
    prompts: Beat
    """What a person might ask to get this story."""
    slots: Mapping[str, tuple[str, ...]]
    """Fillers; a key "a|b" takes fillers "x|y" and fills both slots together.

    Every story of the plot must mention the filler of the first slot: it decides the split.
    """
    paragraphs: tuple[tuple[Beat, ...], ...]
    friend: str = ""
    """Key of `CASTS`, or empty for a hero alone."""


@dataclass(frozen=True)
class Character:
    """A named character; `she` decides the pronouns."""

    name: str
    kind: str
    she: bool


@dataclass(frozen=True)
class Choices:
    """What was drawn for one story before a word is written."""

    characters: tuple[Character, ...]
    """The hero and, where the plot has one, the friend."""
    fillers: Mapping[str, str]
    """Slot name to words."""
    key: str
    """Plot, names and first filler: all stand in the text, so equal texts have equal keys."""


@final
class Picker:
    """Uniform choices that stay the same over Python versions.

    Only `random()` of a seeded generator is promised to be stable, so nothing else is used.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed).random

    def pick(self, options: Sequence[T]) -> T:
        """Return one of the options."""
        return options[int(self._random() * len(options))]


def draw(plot: Plot, picker: Picker) -> Choices:
    """Choose the characters and the filler of every slot."""
    hero = _character(CASTS[plot.hero], picker.pick((True, False)), "", picker)
    characters = [hero]
    if plot.friend:
        characters.append(_character(CASTS[plot.friend], not hero.she, hero.kind, picker))
    fillers: dict[str, str] = {}
    for slots in (plot.slots, PHRASES):
        for names, options in slots.items():
            chosen = picker.pick(options).split("|")
            fillers.update(zip(names.split("|"), chosen, strict=True))
    first = fillers[next(iter(plot.slots)).split("|")[0]]
    key = "/".join([plot.name, *(character.name for character in characters), first])
    return Choices(tuple(characters), fillers, key)


def _character(cast: Cast, she: bool, taken: str, picker: Picker) -> Character:
    names, kinds = (cast.girls, cast.girl_kinds) if she else (cast.boys, cast.boy_kinds)
    kind = picker.pick(tuple(kind for kind in kinds if kind != taken) or kinds)
    return Character(picker.pick(names), kind, she)


def tell(plot: Plot, choices: Choices, picker: Picker) -> tuple[str, str]:
    """Write the story and its prompt; paragraphs are separated by one line break."""
    slots = Slots(_words(choices))
    paragraphs = []
    for beats in plot.paragraphs:
        sentences = [_fill(picker.pick(beat), slots) for beat in beats]
        paragraphs.append(" ".join(sentence for sentence in sentences if sentence))
    return "\n".join(paragraphs), _fill(picker.pick(plot.prompts), slots)


def _words(choices: Choices) -> dict[str, str]:
    words = dict(choices.fillers)
    for role, mark, character in zip(
        ("hero", "friend"), ("", "2"), choices.characters, strict=False
    ):
        pronouns = ("she", "her", "her") if character.she else ("he", "him", "his")
        words |= {role: character.name, "kind" + mark: character.kind}
        words |= {name + mark: word for name, word in zip(_PRONOUNS, pronouns, strict=True)}
    return words


_PRONOUNS = ("he", "him", "his")


@final
class Slots:
    """Slot values for `format_map`, with the derived forms made when a template asks for them."""

    def __init__(self, words: Mapping[str, str]) -> None:
        self._words = words

    def __getitem__(self, name: str) -> str:
        if name[0].isupper():
            return _capital(self[name[0].lower() + name[1:]])
        if name.startswith("a_"):
            return with_article(self[name[2:]])
        words = self._words[name]
        return words.format_map(self) if "{" in words else words


def _fill(template: str, slots: Slots) -> str:
    return _capital(template.format_map(slots))


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def with_article(words: str) -> str:
    """Put "a" or "an" in front; the tables hold no word whose first letter misleads."""
    return f"{'an' if words[:1] in 'aeiou' else 'a'} {words}"
