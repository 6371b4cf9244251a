"""How much a text repeats itself.

seq-rep-n is that of Welleck et al., "Neural Text Generation with Unlikelihood Training", arXiv
1908.04319, section 6.1, over words in place of tokens, so that tokenizers do not matter.
"""

from collections.abc import Sequence

import numpy as np

from quantale.evaluation.stories.words import ngrams


def seq_rep(sequence: Sequence[str], n: int = 4) -> float | None:
    """Return 1 - distinct n-grams / n-grams of one text, 0 to 1; None below n words."""
    grams = ngrams(sequence, n)
    return 1.0 - len(set(grams)) / len(grams) if grams else None


def longest_loop(sequence: Sequence[str]) -> int:
    """Return the words of the longest stretch that says one phrase at least twice in a row.

    "and so and so and" has a loop of five words: a phrase of two, with a part of it again at the
    end. 0 where no word or phrase follows itself.
    """
    known: dict[str, int] = {}
    codes = np.array([known.setdefault(word, len(known)) for word in sequence])
    best = 0
    for period in range(1, len(codes) // 2 + 1):
        run = _longest_run(codes[period:] == codes[:-period])
        if run >= period:
            best = max(best, run + period)
    return best


def _longest_run(same: np.ndarray) -> int:
    breaks = np.flatnonzero(~same)
    edges = np.concatenate([[-1], breaks, [len(same)]])
    return int(np.diff(edges).max()) - 1
