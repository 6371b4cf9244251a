"""The longest run of words that a story shares with the training texts.

Runs are compared by 64-bit hashes that grow by one word a step. A step keeps only places of the
training texts that some story still matches, so all but the first few steps touch little: the
whole is near linear in both. Two different runs share a hash with a probability of about 1e-19
for each pair, and the longest one found is read back word by word.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantale.evaluation.stories.words import words

_BASE = np.uint64(0x9E3779B97F4A7C15)
_TABLE_BITS = 24
_BREAK = -1
_FOREIGN = -2

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingWords:
    """The words of all training texts as numbers, a break behind each text."""

    codes: NDArray[np.int64]
    vocabulary: dict[str, int]

    @classmethod
    def of(cls, texts: Sequence[str]) -> "TrainingWords":
        """Read the words of all texts."""
        vocabulary: dict[str, int] = {}
        codes: list[int] = []
        for text in texts:
            codes += [vocabulary.setdefault(word, len(vocabulary)) for word in words(text)]
            codes.append(_BREAK)
        return cls(np.array(codes, dtype=np.int64), vocabulary)


@dataclass(frozen=True)
class Copy:
    """The longest shared run of one story."""

    length: int
    """In words; 0 where no word is shared."""
    start: int = 0
    """First word of the run in the story."""


def longest_copies(stories: Sequence[Sequence[str]], training: TrainingWords) -> list[Copy]:
    """Return the longest run of each story (its words in lower case) that a training text has."""
    own = _codes(stories, training.vocabulary)
    owners = np.repeat(np.arange(len(stories)), [len(story) + 1 for story in stories])
    first = np.concatenate([[0], np.cumsum([len(story) + 1 for story in stories])])
    lengths = np.zeros(len(stories), dtype=np.int64)
    starts = np.zeros(len(stories), dtype=np.int64)
    matched = np.flatnonzero(own >= 0)
    read = np.flatnonzero(training.codes >= 0)
    ours, theirs = _mixed(own[matched]), _mixed(training.codes[read])
    length = 0
    while True:
        matched, ours, read, theirs = _shared(matched, ours, read, theirs)
        if not matched.size:
            return _checked(own, training.codes, first, lengths, starts)
        length += 1
        lengths[owners[matched]] = length
        starts[owners[matched[::-1]]] = matched[::-1]
        matched, ours = _longer(own, matched, ours, length)
        read, theirs = _longer(training.codes, read, theirs, length)


def _codes(stories: Sequence[Sequence[str]], vocabulary: dict[str, int]) -> NDArray[np.int64]:
    codes = [
        code
        for story in stories
        for code in (*(vocabulary.get(word, _FOREIGN) for word in story), _BREAK)
    ]
    return np.array(codes, dtype=np.int64)


def _mixed(codes: NDArray[np.int64]) -> Hashes:
    """Return a well-spread 64-bit number for each code (the finaliser of splitmix64)."""
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * _BASE
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _shared(
    matched: Places, ours: Hashes, read: Places, theirs: Hashes
) -> tuple[Places, Hashes, Places, Hashes]:
    """Keep the places of either side whose run the other side has."""
    table = np.zeros(1 << _TABLE_BITS, dtype=np.bool_)
    table[ours >> np.uint64(64 - _TABLE_BITS)] = True
    likely = table[theirs >> np.uint64(64 - _TABLE_BITS)]
    read, theirs = read[likely], theirs[likely]
    wanted = np.unique(ours)
    kept = _among(theirs, wanted)
    read, theirs = read[kept], theirs[kept]
    found = _among(ours, np.unique(theirs))
    return matched[found], ours[found], read, theirs


def _among(hashes: Hashes, ordered: Hashes) -> NDArray[np.bool_]:
    if not ordered.size:
        return np.zeros(len(hashes), dtype=np.bool_)
    at = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    return ordered[at] == hashes


def _longer(
    codes: NDArray[np.int64], places: Places, hashes: Hashes, length: int
) -> tuple[Places, Hashes]:
    """Take one more word into every run; a run that meets a break or a foreign word ends."""
    following = codes[np.minimum(places + length, len(codes) - 1)]
    alive = following >= 0
    grown = hashes[alive] * _BASE + _mixed(following[alive])
    return places[alive], grown ^ (grown >> np.uint64(29))


def _checked(
    own: NDArray[np.int64],
    codes: NDArray[np.int64],
    first: Places,
    lengths: NDArray[np.int64],
    starts: Places,
) -> list[Copy]:
    found = [
        Copy(int(length), int(start - begin) if length else 0)
        for length, start, begin in zip(lengths, starts, first, strict=False)
    ]
    if found and max(lengths) > 0:
        best = int(np.argmax(lengths))
        run = own[starts[best] : starts[best] + lengths[best]]
        heads = np.flatnonzero(codes[: len(codes) - len(run) + 1] == run[0])
        assert any(np.array_equal(codes[head : head + len(run)], run) for head in heads)
    return found
