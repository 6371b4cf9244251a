"""How different the stories of a set are from one another.

distinct-n: Li et al., "A Diversity-Promoting Objective Function for Neural Conversation Models",
arXiv 1510.03055, section 5.2. Self-BLEU: Zhu et al., "Texygen", arXiv 1802.01886, section 3.2.2.
Both depend on how many texts a set has and how long they are: compare equal sets only.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantale.evaluation.stories.words import ngrams

Words = Sequence[str]
Gram = tuple[str, ...]
_EPSILON = 0.1


@dataclass(frozen=True)
class SetValue:
    """A number of a whole set, and what each of its texts does to it."""

    value: float
    influence: NDArray[np.float64]
    """(texts,): value + (n - 1) x (mean of all leave-one-out values - the one without the text).

    Their mean is the value, and their spread over sqrt(n) the jackknife's standard error (Tukey
    1958), so that a set's number can be resampled by its texts.
    """


def distinct(texts: Sequence[Words], n: int) -> SetValue | None:
    """Return the distinct n-grams over all n-grams of a set; None where there is no n-gram.

    Removing a text takes away its n-grams, and those distinct ones that no other text has.
    """
    sizes, own = _owned(texts, n)
    total = int(sizes.sum())
    if total == 0:
        return None
    different = len({gram for text in texts for gram in ngrams(text, n)})
    left = np.maximum(total - sizes, 1)
    return _set_value(different / total, (different - own) / left)


def vocabulary(texts: Sequence[Words]) -> SetValue | None:
    """Return how many different words a set has; None where it has no word."""
    sizes, own = _owned(texts, 1)
    different = len({word for text in texts for word in text})
    return _set_value(float(different), different - own) if sizes.sum() else None


def self_bleu(texts: Sequence[Words], order: int = 4) -> list[float | None]:
    """Return the BLEU of each text with all the others as references, 0 to 1; high is alike.

    Clipped counts of 1- to `order`-grams with equal weights, the closest reference length, and
    0.1 in place of no match (method 1 of Chen and Cherry 2014). An order that a text is too short
    for is left out. None for an empty text, and where there is no other text.
    """
    if len(texts) < 2:
        return [None] * len(texts)
    tables = [_two_highest(texts, n) for n in range(1, order + 1)]
    lengths = sorted(len(text) for text in texts)
    return [_bleu(index, text, tables, lengths) for index, text in enumerate(texts)]


def _set_value(value: float, without: NDArray[np.float64]) -> SetValue:
    count = len(without)
    return SetValue(value, value + (count - 1) * (without.mean() - without))


def _owned(texts: Sequence[Words], n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the n-grams of each text, and how many different ones only it has."""
    owner: dict[Gram, int | None] = {}
    for index, text in enumerate(texts):
        for gram in set(ngrams(text, n)):
            owner[gram] = None if gram in owner else index
    own = Counter(index for index in owner.values() if index is not None)
    sizes = np.array([max(0, len(text) - n + 1) for text in texts], dtype=np.float64)
    return sizes, np.array([own[index] for index in range(len(texts))], dtype=np.float64)


def _two_highest(texts: Iterable[Words], n: int) -> dict[Gram, tuple[int, int, int]]:
    """Return for each n-gram its highest count in a text, that text, and the next highest."""
    found: dict[Gram, tuple[int, int, int]] = {}
    for index, text in enumerate(texts):
        for gram, count in Counter(ngrams(text, n)).items():
            highest, owner, second = found.get(gram, (0, -1, 0))
            if count > highest:
                found[gram] = (count, index, highest)
            elif count > second:
                found[gram] = (highest, owner, count)
    return found


def _bleu(
    index: int,
    text: Words,
    tables: Sequence[dict[Gram, tuple[int, int, int]]],
    lengths: Sequence[int],
) -> float | None:
    if not text:
        return None
    logs = []
    for n, table in enumerate(tables, start=1):
        grams = Counter(ngrams(text, n))
        if grams:
            matches = sum(min(c, _elsewhere(table[g], index)) for g, c in grams.items())
            logs.append(math.log((matches or _EPSILON) / grams.total()))
    closest = _closest(len(text), lengths)
    brevity = min(0.0, 1.0 - closest / len(text))
    return math.exp(brevity + sum(logs) / len(logs))


def _elsewhere(entry: tuple[int, int, int], index: int) -> int:
    highest, owner, second = entry
    return second if owner == index else highest


def _closest(length: int, lengths: Sequence[int]) -> int:
    """Return the nearest length of another text, the shorter one of two; `lengths` is sorted."""
    at = bisect_left(lengths, length)
    others = [*lengths[max(0, at - 1) : at], *lengths[at + 1 : at + 2]]
    return min(others, key=lambda other: (abs(other - length), other))
