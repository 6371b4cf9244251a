"""Whether a story keeps its people: names that stay, and nobody who comes out of nowhere."""

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise

from quantale.evaluation.stories.words import FUNCTION_WORDS, names, sentences, stem, words

PARTS = 3
_SINGULAR = frozenset(("he", "him", "his", "himself", "she", "her", "hers", "herself"))
_INDEFINITE = frozenset(("a", "an"))
_DEFINITE = frozenset(("the", "this", "that", "his", "her", "their"))
_PERSON = "somebody"
_REACH = 2
"""Words after an article that may be its noun: "a red ball"."""


def character_names(listed: str) -> frozenset[str]:
    """Return the names in a list of characters, such as "Lily the girl, Tom the boy".

    Of each entry the words with a capital, in lower case; an entry without one is no name.
    """
    capital = re.findall(r"\b[^\W\d_a-z][^\W\d_]+", listed)
    return frozenset(word.lower() for word in capital) - FUNCTION_WORDS


def persistence(story: str, given: Collection[str]) -> float | None:
    """Return how long the given names stay: the mean share of a story's thirds that name each.

    given: names in lower case that the writer was told. None without a name, and for a story of
    fewer than three words.
    """
    said = words(story)
    if not given or len(said) < PARTS:
        return None
    cuts = [len(said) * part // PARTS for part in range(PARTS + 1)]
    parts = [_bare(said[a:b]) for a, b in pairwise(cuts)]
    return sum(name in part for name in given for part in parts) / (len(given) * PARTS)


def strangers(story: str, given: str) -> int:
    """Return how many names a story has that its prompt has not."""
    return len(names(story) - _bare(words(given)))


def entity_continuity(story: str, given: str = "") -> float | None:
    """Return the share of entities that are introduced before the text refers to them.

    An entity is a thing that the text calls both "a ball" and "the ball" (or "her ball"), and the
    one whom "he" or "she" stands for, introduced by a name or a noun with an article. After the
    discourse-new and pronoun models of Elsner and Charniak, "Coreference-inspired Coherence
    Modeling", ACL 2008. given: what came before the story, read too, but an entity counts only if
    the story itself refers to it or introduces it. None where nothing is referred to.
    """
    introduced, referred = _first_places(f"{given}\n{story}")
    begin = len(words(given))
    pairs = [
        (introduced.get(entity), place)
        for entity, place in referred.items()
        if entity == _PERSON or entity in introduced
    ]
    own = [
        (first, place)
        for first, place in pairs
        if max(place, -1 if first is None else first) >= begin
    ]
    kept = sum(first is not None and first < place for first, place in own)
    return kept / len(own) if own else None


def _first_places(text: str) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the word at which each entity is first introduced, and first referred to."""
    introduced: dict[str, int] = {}
    referred: dict[str, int] = {}
    known = names(text)
    place = 0
    for sentence in sentences(text):
        lowered = [word.lower() for word in sentence.written]
        for index, word in enumerate(lowered):
            here = place + index
            if word in _SINGULAR:
                referred.setdefault(_PERSON, here)
            if word in known or word in _INDEFINITE:
                introduced.setdefault(_PERSON, here)
            table = introduced if word in _INDEFINITE else referred if word in _DEFINITE else None
            if table is not None:
                for noun in _nouns(lowered[index + 1 : index + 1 + _REACH]):
                    table.setdefault(noun, here)
        place += len(lowered)
    return introduced, referred


def _nouns(following: list[str]) -> Iterator[str]:
    for word in following:
        if word in FUNCTION_WORDS:
            return
        yield stem(word)


def _bare(said: Collection[str]) -> frozenset[str]:
    return frozenset(re.sub(r"['’]s?$", "", word) for word in said)
