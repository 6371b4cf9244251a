"""Each story metric: a value worked out by hand, and a control that must move it."""

from collections.abc import Callable

import numpy as np
import pytest
from story_texts import gibberish, looped, renamed, shuffled, tales

from quantale.data.corpora.storygen import write_story
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories.characters import (
    character_names,
    entity_continuity,
    persistence,
    strangers,
)
from quantale.evaluation.stories.copies import TrainingWords, longest_copies
from quantale.evaluation.stories.diversity import distinct, self_bleu, vocabulary
from quantale.evaluation.stories.intervals import mean_over_prompts
from quantale.evaluation.stories.reading import (
    prompt_recall,
    reading_grade,
    type_token_ratio,
    unknown_share,
)
from quantale.evaluation.stories.repetition import longest_loop, seq_rep
from quantale.evaluation.stories.words import names, sentences, stem, syllables, words


def paired_interval(before: list[float | None], after: list[float | None]) -> tuple[float, float]:
    """Return the 95 % interval of after minus before over the texts that have both."""
    pairs = [(a, b) for b, a in zip(before, after, strict=True) if a is not None and b is not None]
    assert len(pairs) > 30
    change = np.array([a - b for a, b in pairs])
    estimate = mean_over_prompts(change, Bootstrap()).estimate
    return estimate.low, estimate.high


def test_words_keep_inner_apostrophes_and_drop_digits_and_marks() -> None:
    assert words("Tom's well-known cat, aged 9, isn't here!") == [
        "tom's", "well-known", "cat", "aged", "isn't", "here"
    ]  # fmt: skip
    assert words("Éva läuft") == ["éva", "läuft"]


def test_a_sentence_ends_at_a_mark_behind_a_quote_and_at_a_line_break() -> None:
    found = sentences('"Come!" said Mia. Ben came\nThey ran')
    assert [sentence.written for sentence in found] == [
        ("Come",), ("said", "Mia"), ("Ben", "came"), ("They", "ran")
    ]  # fmt: skip


def test_stems_join_the_forms_of_a_word() -> None:
    assert stem("foxes") == stem("fox")
    assert stem("stories") == stem("story")
    assert stem("walked") == stem("walking") == stem("walks")
    assert stem("glass") == "glass"


def test_names_stand_with_a_capital_inside_a_sentence_and_never_without() -> None:
    text = "Bear met Lily. Then Lily saw a bear and the Moon. I like Tom's moon."
    assert names(text) == {"lily", "tom"}


def test_syllables_are_groups_of_vowels_without_a_silent_e() -> None:
    counted = {"cat": 1, "table": 2, "made": 1, "banana": 3, "tree": 1, "the": 1, "b": 1}
    assert {word: syllables(word) for word in counted} == counted


def test_seq_rep_by_hand_and_for_a_text_that_is_too_short() -> None:
    assert seq_rep(words("a b c d a b c d")) == pytest.approx(1 - 4 / 5)
    assert seq_rep(["a"] * 7) == pytest.approx(1 - 1 / 4)
    assert seq_rep(words("a b c d e")) == 0
    assert seq_rep(words("a b c")) is None


def test_the_longest_loop_by_hand() -> None:
    assert longest_loop(words("and so and so and")) == 5
    assert longest_loop(words("he was very very very sad")) == 3
    assert longest_loop(words("the cat saw the dog")) == 0
    assert longest_loop([]) == 0


def test_loops_raise_repetition() -> None:
    plain = tales()
    broken = [looped(text) for text in plain]
    measures: tuple[Callable[[list[str]], float | None], ...] = (seq_rep, longest_loop)
    for measure in measures:
        before, after = ([measure(words(t)) for t in texts] for texts in (plain, broken))
        assert paired_interval(before, after)[0] > 0.1


def test_distinct_by_hand() -> None:
    texts = [words("a b a"), words("a c")]
    found = [distinct(texts, n) for n in (1, 2, 3)]
    assert [one.value for one in found if one] == pytest.approx([3 / 5, 3 / 3, 1.0])
    assert distinct([["a"]], 2) is None
    assert vocabulary([[], []]) is None


def test_alike_stories_lower_distinct_n_and_raise_self_bleu() -> None:
    various = [words(text) for text in tales(40)]
    alike = [various[index % 4] for index in range(40)]
    for n in (1, 2, 3):
        more, less = distinct(various, n), distinct(alike, n)
        assert more is not None
        assert less is not None
        assert less.value < more.value / 2
    means = [np.mean([v for v in self_bleu(t) if v is not None]) for t in (various, alike)]
    assert means[0] < 0.9
    assert means[1] == pytest.approx(1.0)


def test_self_bleu_by_hand() -> None:
    """Unigrams 2/3, pairs 1/2, threes none of one: 0.1; equal lengths."""
    found = self_bleu([words("a b x"), words("a b y")])
    assert found[0] == pytest.approx((2 / 3 * 1 / 2 * 0.1) ** (1 / 3))
    assert self_bleu([["a"]]) == [None]
    assert self_bleu([[], ["a"]])[0] is None


def test_the_reading_grade_by_hand() -> None:
    """Six words in two sentences, seven syllables."""
    assert reading_grade("The cat sat. A happy dog.") == pytest.approx(
        0.39 * 3 + 11.8 * 7 / 6 - 15.59
    )
    assert reading_grade("12 !") is None


def test_long_rare_words_raise_the_reading_grade_and_are_unknown() -> None:
    plain = tales()
    strange = [gibberish(80, seed) for seed in range(len(plain))]
    before, after = ([reading_grade(text) for text in texts] for texts in (plain, strange))
    assert paired_interval(before, after)[0] > 5
    known = {word for text in tales(400, "train") for word in words(text)}
    shares = [[unknown_share(words(text), known) for text in texts] for texts in (plain, strange)]
    assert paired_interval(*shares)[0] > 0.9


def test_the_type_token_ratio_by_hand_and_independent_of_length() -> None:
    assert type_token_ratio(words("a b a c"), window=2) == pytest.approx(1.0)
    assert type_token_ratio(words("a a b b"), window=2) == pytest.approx((1 + 2 + 1) / 6)
    text = words(" ".join(tales(1)))[:60]
    longer = type_token_ratio(text * 5)
    assert longer == pytest.approx(type_token_ratio(text) or 0, abs=0.05)
    assert type_token_ratio([]) is None


def test_prompt_recall_by_hand() -> None:
    asked = "Write about a fox and the red kites."
    assert prompt_recall("A kite flew over two foxes.", asked) == pytest.approx(2 / 4)
    assert prompt_recall("Lily ran.", "Lily saw the fox.", apart={"lily"}) == 0
    assert prompt_recall("A fox.", "the and of") is None


def test_a_story_of_another_prompt_lowers_prompt_recall() -> None:
    documents = [write_story(0, "test", index) for index in range(120)]
    asked = [document.fields["prompt"] for document in documents]
    texts = [document.text for document in documents]
    own = [prompt_recall(*pair) for pair in zip(texts, asked, strict=True)]
    other = [prompt_recall(*pair) for pair in zip(texts[7:] + texts[:7], asked, strict=True)]
    assert paired_interval(own, other)[1] < -0.2


def test_character_names_are_the_words_with_a_capital() -> None:
    assert character_names("Lily the girl, Tom the boy") == {"lily", "tom"}
    assert character_names("the old woman, a toad") == frozenset()
    assert character_names("the West Wind") == {"west", "wind"}


def test_persistence_by_hand() -> None:
    story = "Lily ran home. Then she slept well. Tom's dog saw Tom."
    assert persistence(story, {"lily"}) == pytest.approx(1 / 3)
    assert persistence(story, {"lily", "tom"}) == pytest.approx((1 + 1) / 6)
    assert persistence(story, ()) is None
    assert persistence("Lily", {"lily"}) is None


def test_other_names_in_the_second_half_lower_persistence_and_are_strangers() -> None:
    documents = [write_story(0, "test", index) for index in range(120)]
    given = [character_names(document.fields["characters"]) for document in documents]
    texts = [document.text for document in documents]
    broken = [renamed(text, own) for text, own in zip(texts, given, strict=True)]
    stays, leaves = (
        [persistence(*pair) for pair in zip(some, given, strict=True)] for some in (texts, broken)
    )
    assert paired_interval(stays, leaves)[1] < -0.2
    asked = [document.fields["characters"] for document in documents]
    before, after = (
        [float(strangers(*pair)) for pair in zip(some, asked, strict=True)]
        for some in (texts, broken)
    )
    assert paired_interval(list(before), list(after))[0] > 0.5


def test_entity_continuity_by_hand() -> None:
    """The ball and the boy come in before "the ball" and "he"; the kite does not."""
    good = "A boy had a ball. The ball was red. He ran."
    bad = "The ball was red. He ran. A boy had a ball."
    assert entity_continuity(good) == 1
    assert entity_continuity(bad) == 0
    assert entity_continuity(good + " The kite flew. It was a kite.") == pytest.approx(2 / 3)
    assert entity_continuity("The ball was red.", "A boy had a ball.") == 1
    assert entity_continuity("Trees grow.") is None


def test_shuffled_sentences_lower_entity_continuity() -> None:
    plain = tales()
    broken = [shuffled(text, seed) for seed, text in enumerate(plain)]
    before, after = ([entity_continuity(text) for text in texts] for texts in (plain, broken))
    assert paired_interval(before, after)[1] < -0.1


def test_copied_training_text_raises_the_longest_copy() -> None:
    training = tales(300, "train")
    index = TrainingWords.of(training)
    fresh = [words(text) for text in tales()]
    planted = [
        words(text)[:20] + words(training[i])[10:50] + words(text)[20:]
        for i, text in enumerate(tales())
    ]
    before, after = (
        [float(copy.length) for copy in longest_copies(texts, index)] for texts in (fresh, planted)
    )
    assert min(after) >= 40
    assert paired_interval(list(before), list(after))[0] > 10


def test_a_copy_never_runs_over_the_end_of_a_training_text() -> None:
    index = TrainingWords.of(["a b c", "d e f"])
    found = longest_copies([words("b c d e"), [], ["q"]], index)
    assert [(copy.length, copy.start) for copy in found] == [(2, 0), (0, 0), (0, 0)]
    assert longest_copies([], index) == []
