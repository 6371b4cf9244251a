"""Stories of the built-in corpus, and what ruins them."""

import random
import re

from quantale.data.corpora.storygen import write_story

_SENTENCE = re.compile(r"(?<=[.!?])[\"”]?\s+")


def tales(count: int = 120, split: str = "test") -> list[str]:
    """Return stories of the built-in corpus."""
    return [write_story(0, split, index).text for index in range(count)]


def shuffled(text: str, seed: int) -> str:
    """Return the sentences in another order."""
    parts = _SENTENCE.split(text)
    return " ".join(random.Random(seed).sample(parts, len(parts)))


def renamed(text: str, names: frozenset[str]) -> str:
    """Return the second half with other names in the place of these."""
    half = len(text) // 2
    pattern = re.compile(rf"\b({'|'.join(names)})\b", re.IGNORECASE)
    return text[:half] + pattern.sub("Zebediah", text[half:])


def looped(text: str) -> str:
    """Return the first half, and then its last six words again and again."""
    words = text.split()
    half = words[: len(words) // 2]
    return " ".join(half + half[-6:] * 8)


def gibberish(count: int, seed: int) -> str:
    """Return words that no child's story has, in sentences of five."""
    rng = random.Random(seed)
    words = ("obfuscation", "methodology", "electromagnetic", "bureaucratically", "quintessential",
             "heterogeneity", "incontrovertible", "photosynthesis", "jurisprudence")  # fmt: skip
    said = rng.choices(words, k=count)
    return " ".join(w + ("." if i % 5 == 4 else "") for i, w in enumerate(said))
