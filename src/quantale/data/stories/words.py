"""Words that every genre shares: names, kinds of characters, traits and interchangeable phrases.

The vocabulary stays small on purpose: a model of one million parameters has to master it in
minutes. Names differ between people and animals, so a name alone says what its bearer is.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cast:
    """Who may play a role: names by gender, and the words for what they are."""

    girls: tuple[str, ...]
    """Names that take "she"."""
    boys: tuple[str, ...]
    """Names that take "he"."""
    girl_kinds: tuple[str, ...]
    """What a character that takes "she" can be, such as "girl" or "rabbit"."""
    boy_kinds: tuple[str, ...]
    """What a character that takes "he" can be."""


_GIRLS = (
    *("Anna", "Daisy", "Ella", "Emma", "Lily", "Lucy"),
    *("Mia", "Nora", "Rosie", "Ruby", "Tara", "Zoe"),
)
_BOYS = (
    *("Ben", "Finn", "Hugo", "Jack", "Leo", "Max"),
    *("Noah", "Oscar", "Sam", "Theo", "Tim", "Tom"),
)
_SHE_ANIMALS = ("Bella", "Dot", "Fern", "Hazel", "Kiki", "Luna", "Molly", "Poppy")
_HE_ANIMALS = ("Bruno", "Chip", "Milo", "Otto", "Pip", "Rocky", "Teddy", "Toby")
_SPECIES = (
    *("bear", "fox", "hedgehog", "mouse"),
    *("rabbit", "raccoon", "squirrel"),
)
_SMALL = ("hedgehog", "mouse", "rabbit", "squirrel")
_BIRDS = ("robin", "owl", "sparrow")
_DRAGONS = ("Ember", "Flicker", "Smoky", "Spark", "Ash", "Cinder")

CASTS: Mapping[str, Cast] = {
    "child": Cast(_GIRLS, _BOYS, ("girl",), ("boy",)),
    "animal": Cast(_SHE_ANIMALS, _HE_ANIMALS, _SPECIES, _SPECIES),
    "small animal": Cast(_SHE_ANIMALS, _HE_ANIMALS, _SMALL, _SMALL),
    "bird": Cast(_SHE_ANIMALS, _HE_ANIMALS, _BIRDS, _BIRDS),
    "royal": Cast(_GIRLS, _BOYS, ("princess",), ("prince",)),
    "magician": Cast(_GIRLS, _BOYS, ("witch", "fairy"), ("wizard",)),
    "dragon": Cast(_DRAGONS[:3], _DRAGONS[3:], ("dragon",), ("dragon",)),
}

PHRASES: Mapping[str, tuple[str, ...]] = {
    "trait": ("brave", "kind", "clever", "cheerful", "curious", "gentle"),
    "day": ("one day", "one morning", "one sunny day", "on a warm day"),
    "glad": ("glad", "happy"),
    "little": ("little", "small", "young"),
    "then": ("then", "suddenly"),
    "atlast": ("at last", "in the end", "after a while"),
}
"""Slots that every plot may use."""
