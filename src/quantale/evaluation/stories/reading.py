"""Vocabulary and reading level of one story."""

from collections.abc import Collection, Sequence

from quantale.evaluation.stories.words import content_stems, sentences, syllables, words


def reading_grade(text: str) -> float | None:
    """Return the school grade of Flesch and Kincaid (1975); None without a word.

    0.39 x words a sentence + 11.8 x syllables a word - 15.59. Below 0 for very simple text.
    """
    counted = words(text)
    if not counted:
        return None
    per_word = sum(map(syllables, counted)) / len(counted)
    return 0.39 * len(counted) / len(sentences(text)) + 11.8 * per_word - 15.59


def type_token_ratio(sequence: Sequence[str], window: int = 50) -> float | None:
    """Return the mean share of different words in every window (MATTR, Covington & McFall 2010).

    Unlike the plain ratio it does not fall with length. A text shorter than the window is one
    window; None without a word.
    """
    if not sequence:
        return None
    size = min(window, len(sequence))
    starts = range(len(sequence) - size + 1)
    return sum(len(set(sequence[i : i + size])) for i in starts) / (len(starts) * size)


def unknown_share(sequence: Sequence[str], known: Collection[str]) -> float | None:
    """Return the share of words that a vocabulary lacks: invented, misspelt or from elsewhere."""
    return sum(word not in known for word in sequence) / len(sequence) if sequence else None


def prompt_recall(story: str, prompt: str, apart: Collection[str] = ()) -> float | None:
    """Return the share of the prompt's content words that the story takes up, by stems.

    apart: names, in lower case, which are counted elsewhere. None for a prompt without content.
    """
    wanted = content_stems(tuple(words(prompt))) - content_stems(tuple(apart))
    return len(wanted & content_stems(tuple(words(story)))) / len(wanted) if wanted else None
