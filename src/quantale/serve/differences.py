"""Where texts that began alike part: words as runs that are shared, new, or the point of parting.

While two texts are mostly alike, every word that is not the other's is marked. Once they have
gone separate ways only the first such word is: marking all the rest would say nothing.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

Kind = Literal["same", "parts", "new", "free"]
ALIKE = 0.5
"""Share of words in common from which two texts count as mostly alike."""
_WORDS = re.compile(r"\s*\S+")
_LONGEST = 2_000  # words that are aligned; the comparison takes their square


@dataclass(frozen=True)
class Run:
    """A piece of a text and what it is beside the other one."""

    text: str
    kind: Kind
    """same: the other has it too; parts: the first word that it has not; new: a later word of
    that kind; free: not compared any more."""


def marked(text: str, base: str, *, is_whole: bool) -> list[Run]:
    """Return a text as runs beside a base; joined they are the text.

    is_whole: both are finished. Otherwise the end of the shorter one is no difference yet.
    """
    words, others = _split(text), _split(base)
    if not is_whole:
        words, others = _settled(words), _settled(others)
    alike = _shared(words, others)
    tail = text[len("".join(words)) :]
    if is_whole and alike == len(words):
        return list(_joined([Run(text, "same")]))
    if not is_whole and alike in (len(words), len(others)):
        head = "".join(words[:alike])
        return list(_joined([Run(head, "same"), Run(text[len(head) :], "free")]))
    if is_whole and len(words) + len(others) <= 2 * _LONGEST:
        aligned = SequenceMatcher(None, _bare(others), _bare(words), autojunk=False)
        if aligned.ratio() >= ALIKE:
            return list(_joined([*_aligned(words, aligned), Run(tail, "same")]))
    head, rest = "".join(words[:alike]), "".join(words[alike + 1 :])
    return list(_joined([Run(head, "same"), *_parting(words[alike]), Run(rest + tail, "free")]))


def verdict(text: str, base: str) -> str:
    """Return in words how a finished text differs from a finished base."""
    if text == base:
        return "the same as the first"
    runs = marked(text, base, is_whole=True)
    odd = sum(len(run.text.split()) for run in runs if run.kind in ("parts", "new"))
    if not any(run.kind == "free" for run in runs):
        return "ends before the first" if not odd else _count(odd)
    alike = _shared(_split(text), _split(base))
    return f"leaves the first at word {alike + 1}"


def _count(words: int) -> str:
    return "1 word differs" if words == 1 else f"{words} words differ"


def _split(text: str) -> list[str]:
    """Return words with the white space in front of them."""
    return _WORDS.findall(text)


def _settled(words: list[str]) -> list[str]:
    """Drop the last word, which may still grow."""
    return words[:-1]


def _bare(words: Sequence[str]) -> list[str]:
    return [word.strip() for word in words]


def _shared(words: Sequence[str], others: Sequence[str]) -> int:
    pairs = zip(_bare(words), _bare(others), strict=False)
    odd = (index for index, (own, other) in enumerate(pairs) if own != other)
    return next(odd, min(len(words), len(others)))


def _aligned(words: Sequence[str], aligned: "SequenceMatcher[str]") -> Iterator[Run]:
    has_parted = False
    for tag, _, _, start, stop in aligned.get_opcodes():
        for word in words[start:stop]:
            if tag == "equal":
                yield Run(word, "same")
            else:
                yield from _parting(word, "new" if has_parted else "parts")
                has_parted = True


def _parting(word: str, kind: Kind = "parts") -> list[Run]:
    """Mark a word without the white space in front of it."""
    bare = word.lstrip()
    return [Run(word[: len(word) - len(bare)], "same"), Run(bare, kind)]


def _joined(runs: Sequence[Run]) -> Iterator[Run]:
    """Join neighbours of a kind and drop what is empty."""
    text, kind = "", None
    for run in runs:
        if run.text and run.kind != kind:
            if text and kind is not None:
                yield Run(text, kind)
            text, kind = "", run.kind
        text += run.text
    if text and kind is not None:
        yield Run(text, kind)
