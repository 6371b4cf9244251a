"""The built-in corpus: short children's stories from a seeded grammar, without end and offline.

A story is a function of (seed, split, index) alone. Its split is decided by a hash of its plot,
the names of its characters and the filler that the plot turns on, all of which stand in the text:
two splits can therefore never share a story, whatever the seeds, and a test story is about a
combination that no training story has.
"""

import hashlib
from typing import final

from quantale.core.errors import UsageError, nearest
from quantale.data.documents import SPLITS, Document, Documents, Selection
from quantale.data.stories import adventure, animals, bedtime, fantasy, friendship, mystery
from quantale.data.stories.grammar import Picker, Plot, draw, tell

DEFAULT_COUNT = 1000
"""Documents when the data expression sets no end."""

GENRES: dict[str, tuple[Plot, ...]] = {
    "adventure": adventure.PLOTS,
    "animals": animals.PLOTS,
    "bedtime": bedtime.PLOTS,
    "fantasy": fantasy.PLOTS,
    "friendship": friendship.PLOTS,
    "mystery": mystery.PLOTS,
}

_TENTHS = ("train",) * 8 + ("validation", "test")


@final
class Storygen:
    """Generated stories with the fields genre, characters and prompt."""

    def read(self, selection: Selection) -> Documents:
        """Return stories `start` to `stop` of the split; raises UsageError for another split."""
        split = selection.split or selection.default_split
        if split not in SPLITS:
            known = ", ".join(SPLITS)
            raise UsageError(f"storygen has {known}, not {split!r}{nearest(split, SPLITS)}")
        if selection.column is not None:
            raise UsageError("storygen has one text a document; remove '#' and the column")
        stop = selection.start + DEFAULT_COUNT if selection.stop is None else selection.stop
        stories = (write_story(selection.seed, split, i) for i in range(selection.start, stop))
        return Documents.collect(stories, selection.name, split)


def write_story(seed: int, split: str, index: int) -> Document:
    """Write one story of 60 to 180 words."""
    identity = f"{seed}/{split}/{index}"
    picker = Picker(_hash(identity))
    genre = picker.pick(tuple(GENRES))
    while True:
        plot = picker.pick(GENRES[genre])
        choices = draw(plot, picker)
        if _TENTHS[_hash(f"{genre}/{choices.key}") % len(_TENTHS)] == split:
            break
    text, prompt = tell(plot, choices, picker)
    who = ", ".join(f"{character.name} the {character.kind}" for character in choices.characters)
    fields = {"genre": genre, "characters": who, "prompt": prompt}
    return Document(text, f"storygen/{identity}", fields)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
