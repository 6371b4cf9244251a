"""Words, sentences, syllables and names of a text: one definition for every story metric.

A word is a run of letters, with apostrophes and hyphens inside; it is compared in lower case. No
tokenizer of a model is asked, so that models with different ones can share a table.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")
_POSSESSIVE = re.compile(r"['’]s?$")
_VOWELS = re.compile(r"[aeiouy]+")

_FUNCTION_WORDS = """
    a about after again all along also although am an and another any are around as at away
    back be because been before began being both but by came can cannot come could day did do does
    down each even ever every first for from get go goes going got had has have he her here hers
    herself him himself his how i if in into is it its itself just knew know let like little long
    made make many may me more most much must my never new next no nobody not nothing now of off
    oh old on once one only or other our out over own people place put ran said sat saw say see she
    should so some something soon still such take than that the their them themselves then there
    these they thing things this those though thought three through time to together told too took
    turned two under until up upon us very want wanted was way we well went were what when where
    which while who why will with without would yes yet you your
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry no subject; they never count as content."""


@dataclass(frozen=True)
class Sentence:
    """The words of one sentence as they are written."""

    written: tuple[str, ...]

    @cached_property
    def content(self) -> frozenset[str]:
        """What the sentence is about: its stems, without function words."""
        return content_stems(self.written)


def words(text: str) -> list[str]:
    """Return all words in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def sentences(text: str) -> list[Sentence]:
    """Return the sentences that have a word; a line break ends one too."""
    found = (tuple(_WORD.findall(part)) for part in _SENTENCE_END.split(text))
    return [Sentence(written) for written in found if written]


def content_stems(written: Sequence[str]) -> frozenset[str]:
    """Return the stems of the words that are no function words, with three letters at least."""
    lowered = (_POSSESSIVE.sub("", word.lower()) for word in written)
    return frozenset(stem(word) for word in lowered if word not in FUNCTION_WORDS and len(word) > 2)


def stem(word: str) -> str:
    """Return a word without a plural or past ending: "foxes" and "fox" are the same thing.

    Step 1 of Porter (1980), without the rules that restore an "e"; a stem keeps three letters.
    """
    for ending in ("ies", "ing", "ed", "es", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def syllables(word: str) -> int:
    """Count groups of vowels, a final silent "e" left out; every word has one at least."""
    lowered = word.lower()
    count = len(_VOWELS.findall(lowered))
    silent = lowered.endswith("e") and not lowered.endswith(("le", "ee"))
    return max(1, count - silent)


def names(text: str) -> frozenset[str]:
    """Return the names in a text: written with a capital inside a sentence, and never without.

    In lower case and without possessive endings. "I" and titles of one letter are none.
    """
    inside: set[str] = set()
    small: set[str] = set()
    for sentence in sentences(text):
        for position, word in enumerate(sentence.written):
            bare = _POSSESSIVE.sub("", word)
            if bare[:1].islower():
                small.add(bare.lower())
            elif position > 0 and len(bare) > 1 and bare[1:].islower():
                inside.add(bare.lower())
    return frozenset(inside - small - FUNCTION_WORDS)


def ngrams(sequence: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Return all runs of n neighbours, in order."""
    return list(zip(*(sequence[i:] for i in range(n)), strict=False))
