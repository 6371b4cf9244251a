"""Story metrics against brute force: every pair of texts, every run, every leave-one-out."""

import math
import random
from collections import Counter

import numpy as np
import pytest

from quantale.evaluation.stories.copies import TrainingWords, longest_copies
from quantale.evaluation.stories.diversity import distinct, self_bleu, vocabulary
from quantale.evaluation.stories.repetition import longest_loop, seq_rep

LETTERS = "abcde"


def random_texts(seed: int, count: int, longest: int, letters: str = LETTERS) -> list[list[str]]:
    rng = random.Random(seed)
    return [rng.choices(letters, k=rng.randint(1, longest)) for _ in range(count)]


def grams(text: list[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(text[i : i + n]) for i in range(len(text) - n + 1)]


def brute_bleu(text: list[str], others: list[list[str]]) -> float:
    """Papineni et al. (2002) written out, one reference after the other."""
    logs = []
    for n in range(1, 5):
        own = Counter(grams(text, n))
        if own:
            best = {g: max(Counter(grams(other, n))[g] for other in others) for g in own}
            matches = sum(min(count, best[g]) for g, count in own.items())
            logs.append(math.log((matches or 0.1) / sum(own.values())))
    closest = min((len(other) for other in others), key=lambda m: (abs(m - len(text)), m))
    brevity = 1.0 if len(text) > closest else math.exp(1 - closest / len(text))
    return brevity * math.exp(sum(logs) / len(logs))


@pytest.mark.parametrize("seed", range(8))
def test_self_bleu_is_bleu_with_all_other_texts_as_references(seed: int) -> None:
    texts = random_texts(seed, count=9, longest=14)
    expected = [brute_bleu(t, texts[:i] + texts[i + 1 :]) for i, t in enumerate(texts)]
    assert self_bleu(texts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_influence_of_a_text_is_its_leave_one_out_difference(n: int) -> None:
    texts = random_texts(n, count=12, longest=9, letters="abcdefghij")

    def value(some: list[list[str]]) -> float:
        every = [gram for text in some for gram in grams(text, n)]
        return len(set(every)) / len(every)

    found = distinct(texts, n)
    assert found is not None
    assert found.value == pytest.approx(value(texts))
    without = np.array([value(texts[:i] + texts[i + 1 :]) for i in range(12)])
    expected = value(texts) + 11 * (without.mean() - without)
    assert found.influence == pytest.approx(expected)
    assert found.influence.mean() == pytest.approx(found.value)
    words = vocabulary(texts)
    assert words is not None
    assert words.value == len({letter for text in texts for letter in text})


def brute_copy(story: list[str], texts: list[list[str]]) -> int:
    """The longest common substring by dynamic programming, text after text."""
    best = 0
    for text in texts:
        ends = [0] * (len(text) + 1)
        for word in story:
            ends = [0] + [ends[j] + 1 if text[j] == word else 0 for j in range(len(text))]
            best = max(best, *ends)
    return best


@pytest.mark.parametrize("seed", range(12))
def test_the_longest_copy_is_the_longest_common_run(seed: int) -> None:
    texts = random_texts(seed, count=6, longest=40)
    stories = random_texts(seed + 100, count=7, longest=30, letters=LETTERS + "z")
    training = TrainingWords.of([" ".join(text) for text in texts])
    found = longest_copies(stories, training)
    assert [copy.length for copy in found] == [brute_copy(story, texts) for story in stories]
    for story, copy in zip(stories, found, strict=True):
        run = story[copy.start : copy.start + copy.length]
        assert len(run) == copy.length
        assert not run or any(tuple(run) in grams(text, len(run)) for text in texts)


def brute_loop(text: list[str]) -> int:
    best = 0
    for start in range(len(text)):
        for end in range(start + 2, len(text) + 1):
            part = text[start:end]
            for period in range(1, len(part) // 2 + 1):
                if all(part[i] == part[i - period] for i in range(period, len(part))):
                    best = max(best, len(part))
    return best


@pytest.mark.parametrize("seed", range(40))
def test_the_longest_loop_is_the_longest_stretch_with_a_period(seed: int) -> None:
    text = random.Random(seed).choices("abc", k=seed)
    assert longest_loop(text) == brute_loop(text)


@pytest.mark.parametrize("seed", range(10))
def test_seq_rep_counts_n_grams_seen_before(seed: int) -> None:
    text = random.Random(seed).choices("abc", k=40)
    seen: set[tuple[str, ...]] = set()
    again = 0
    for gram in grams(text, 4):
        again += gram in seen
        seen.add(gram)
    assert seq_rep(text) == pytest.approx(again / 37)
