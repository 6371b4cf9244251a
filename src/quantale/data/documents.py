"""What every corpus delivers: documents in a fixed order, with a digest of their texts."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Literal, Protocol

from quantale.core.errors import DataError, UsageError, nearest

SPLITS = ("train", "validation", "test")
DEFAULT_RATIOS = (0.8, 0.1, 0.1)
WHOLE = "all"
"""`Documents.split` of a source that has no splits of its own, such as a local file."""


@dataclass(frozen=True)
class Document:
    """One text that is scored, windowed and sampled on its own."""

    text: str
    id: str
    """Unique within its source."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What else is known of it: the other columns of a row, or the genre of a story."""
    answer: int = 0
    """Index in the text where the answer begins; what is in front of it is given. 0: all of it."""


@dataclass(frozen=True)
class Documents:
    """Documents in a fixed order."""

    items: tuple[Document, ...]
    source: str
    """The data expression without split and range."""
    split: str
    """"train", "validation", "test", another split of a Hub data set, or `WHOLE`."""
    sha256: str
    """Over the texts in order, each behind its length."""
    marked: bool = False
    """Whether names of special tokens in the texts stand for the tokens, as in a written-out chat.

    Such a text carries its beginning and end itself.
    """

    @classmethod
    def collect(
        cls, items: Iterable[Document], source: str, split: str, *, marked: bool = False
    ) -> "Documents":
        """Build a collection with its digest; raises DataError when there is no document."""
        kept = tuple(items)
        if not kept:
            raise DataError(f"{source} has no document in {split!r}; check the data and the range")
        digest = hashlib.sha256()
        for item in kept:
            encoded = item.text.encode()
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
            if item.answer:
                digest.update(f"answer {item.answer}".encode())
        return cls(kept, source, split, digest.hexdigest(), marked)

    @property
    def texts(self) -> list[str]:
        """The texts in order."""
        return [item.text for item in self.items]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Selection:
    """A parsed data expression: which documents of which source are wanted."""

    name: str
    """Corpus name, Hub name or path."""
    column: str | None = None
    """Where the text is; None for the source's usual column."""
    split: str | None = None
    """The split that the expression names in brackets."""
    default_split: str = "train"
    """Taken by sources that have splits when `split` is None."""
    start: int = 0
    stop: int | None = None
    """End of the range of documents, exclusive; None for all that there are."""
    seed: int = 0
    """For generated corpora only."""


class Corpus(Protocol):
    """A plug-in of `quantale.data.corpora`; made without arguments."""

    def read(self, selection: Selection) -> Documents:
        """Return the selected documents; raises DataError or HubError."""
        ...


def select(documents: Documents, selection: Selection) -> Documents:
    """Apply the split (80/10/10) and the range of a selection to a source without splits."""
    if selection.split is not None:
        if selection.split not in SPLITS:
            known = ", ".join(SPLITS)
            hint = nearest(selection.split, SPLITS)
            raise UsageError(f"a file can be split into {known}, not {selection.split!r}{hint}")
        documents = split_documents(documents, DEFAULT_RATIOS)[SPLITS.index(selection.split)]
    if selection.start == 0 and selection.stop is None:
        return documents
    items = documents.items[selection.start : selection.stop]
    return Documents.collect(items, documents.source, documents.split)


By = Literal["characters", "documents"]
"""What the shares of a split are of."""


def split_documents(
    documents: Documents,
    ratios: tuple[float, float, float],
    *,
    by: By = "characters",
    shuffle_seed: int | None = None,
) -> tuple[Documents, Documents, Documents]:
    """Cut into train, validation and test: contiguous, at document boundaries.

    shuffle_seed: of the order before the cut; None: as they come. A share of 0 gives an empty
    part. Raises DataError when another part would be empty.
    """
    if min(ratios) < 0 or abs(sum(ratios) - 1) > 1e-6:
        raise UsageError(f"a split needs three shares that sum to 1, got {ratios}")
    if shuffle_seed is not None:
        documents = shuffled(documents, shuffle_seed)
    ends = list(accumulate(len(item.text) if by == "characters" else 1 for item in documents.items))
    first = _cut(ends, ratios[0])
    second = max(first, _cut(ends, ratios[0] + ratios[1]))
    bounds = (0, first, second, len(ends))
    train, validation, test = (
        _part(documents, slice(*bounds[i : i + 2]), split, ratios[i])
        for i, split in enumerate(SPLITS)
    )
    return train, validation, test


def shuffled(documents: Documents, seed: int) -> Documents:
    """Return the documents in a random order that is a function of their ids and the seed."""
    keys = (hashlib.sha256(f"{seed}/{item.id}".encode()).digest() for item in documents.items)
    order = sorted(zip(keys, range(len(documents)), strict=True))
    items = (documents.items[number] for _, number in order)
    return Documents.collect(items, documents.source, documents.split, marked=documents.marked)


def repeated_texts(parts: Mapping[str, Documents]) -> dict[str, int]:
    """Count the documents of each part whose text stands in an earlier part: "train/test": 3."""
    known: dict[str, set[str]] = {}
    found: dict[str, int] = {}
    for name, part in parts.items():
        for earlier, texts in known.items():
            found[f"{earlier}/{name}"] = sum(text in texts for text in part.texts)
        known[name] = set(part.texts)
    return found


def _cut(ends: list[int], share: float) -> int:
    """Number of documents before the boundary that is nearest to the share."""
    target = share * ends[-1]
    above = bisect_left(ends, target)
    below_end = ends[above - 1] if above else 0
    if above < len(ends) and ends[above] - target < target - below_end:
        return above + 1
    return above


def _part(documents: Documents, rows: slice, split: str, share: float) -> Documents:
    items = documents.items[rows]
    if items or share > 0:
        if not items:
            raise DataError(
                f"{documents.source} has {len(documents)} documents, too few for a {split} part"
                f" of {share:.0%}; use more data or another split"
            )
        return Documents.collect(items, documents.source, split)
    return Documents((), documents.source, split, hashlib.sha256().hexdigest())
