"""The panel: writers side by side, paired by prompt, and what moves when a writer gets worse."""

import dataclasses
import math

import numpy as np
import pytest
from story_texts import looped, renamed, shuffled

from quantale.core.errors import DataError, UsageError
from quantale.data.corpora.storygen import write_story
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.stories.characters import character_names
from quantale.evaluation.stories.copies import TrainingWords
from quantale.evaluation.stories.genre import GenreClassifier, train_classifier
from quantale.evaluation.stories.intervals import mean_over_prompts
from quantale.evaluation.stories.metrics import METRICS, Prompt, Reference, Story
from quantale.evaluation.stories.panel import (
    CORPUS,
    Panel,
    make_panel,
    measurements,
    own_stories,
)
from quantale.evaluation.stories.words import words

COUNT = 80
HOW = Bootstrap(resamples=1000)


def prompts() -> list[Prompt]:
    """Each is asked by its prompt and characters; the corpus answers with the whole story."""
    found = []
    for index in range(COUNT):
        document = write_story(0, "test", index)
        fields = document.fields
        given = f"{fields['prompt']} {fields['characters']}"
        names = character_names(fields["characters"])
        found.append(
            Prompt(
                document.id, given, fields["prompt"], names, fields["genre"], document.text,
            )
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def reference() -> Reference:
    texts = [write_story(0, "train", index).text for index in range(400)]
    return Reference(TrainingWords.of(texts), {word for text in texts for word in words(text)})


@pytest.fixture(scope="module")
def classifier() -> GenreClassifier:
    documents = [write_story(0, "train", index) for index in range(400)]
    texts = [document.text for document in documents]
    return train_classifier(texts, [document.fields["genre"] for document in documents], seed=0)


def bad_writers(asked: list[Prompt]) -> list[Story]:
    """Four writers that are the corpus, each with one fault."""
    found = []
    for index, prompt in enumerate(asked):
        other = asked[(index + 7) % COUNT]
        texts = {
            "shuffled": shuffled(prompt.own, index),
            "looped": looped(prompt.own),
            "renamed": renamed(prompt.own, prompt.names),
            "elsewhere": other.own,
        }
        found += [Story(name, prompt.id, 0, text, ended=True) for name, text in texts.items()]
    return found


@pytest.fixture(scope="module")
def panel(reference: Reference, classifier: GenreClassifier) -> Panel:
    asked = prompts()
    return make_panel([*own_stories(asked), *bad_writers(asked)], asked, reference, classifier)


@pytest.fixture(scope="module")
def found(panel: Panel) -> dict[tuple[str, str], dict[str, float]]:
    records = measurements(panel, CORPUS, "test", HOW)
    return {
        (one.model, one.metric): {"value": one.value, **one.extra}  # type: ignore[dict-item]
        for one in records
    }


FAULTS = (
    ("shuffled", "entity_continuity", -1),
    ("looped", "seq_rep_4", 1),
    ("looped", "longest_loop", 1),
    ("looped", "distinct_3", -1),
    ("looped", "type_token_ratio", -1),
    ("renamed", "persistence", -1),
    ("renamed", "new_names", 1),
    ("renamed", "unknown_words", 1),
    ("elsewhere", "prompt_recall", -1),
    ("elsewhere", "genre_accuracy", -1),
    ("elsewhere", "persistence", -1),
)


@pytest.mark.parametrize(("writer", "metric", "sign"), FAULTS)
def test_a_fault_moves_its_metric_and_the_interval_leaves_zero_out(
    found: dict[tuple[str, str], dict[str, float]], writer: str, metric: str, sign: int
) -> None:
    one = found[writer, metric]
    ends = (one["to_base_low"] * sign, one["to_base_high"] * sign)
    assert min(ends) > 0
    assert one["to_base_p_holm"] < 0.05


UNMOVED = (
    ("shuffled", "vocabulary"),
    ("shuffled", "distinct_1"),
    ("shuffled", "prompt_recall"),
    ("elsewhere", "seq_rep_4"),
    ("elsewhere", "entity_continuity"),
)


@pytest.mark.parametrize(("writer", "metric"), UNMOVED)
def test_a_fault_leaves_what_it_does_not_concern(
    found: dict[tuple[str, str], dict[str, float]], writer: str, metric: str
) -> None:
    one = found[writer, metric]
    assert one["to_base_low"] <= 1e-9
    assert one["to_base_high"] >= -1e-9


def test_every_metric_has_a_record_for_every_writer(panel: Panel) -> None:
    records = measurements(panel, None, "test", HOW)
    assert {one.metric for one in records} == {metric.name for metric in METRICS}
    assert len(records) == 5 * len(METRICS)
    assert all(one.n <= COUNT and one.protocol == "test" for one in records)
    for one in records:
        assert one.ci_low is not None
        assert one.ci_high is not None
        assert one.ci_low <= one.value <= one.ci_high


def test_the_base_differs_from_itself_by_nothing(reference: Reference) -> None:
    asked = prompts()[:30]
    twins = [Story(name, p.id, 0, p.own, ended=True) for name in ("a", "b") for p in asked]
    records = measurements(make_panel(twins, asked, reference), "a", "test", HOW)
    changes = [one.extra for one in records if one.model == "b"]
    assert all((e["to_base"], e["to_base_p_holm"]) == (0, 1) for e in changes)


def test_several_draws_are_averaged_and_sets_hold_one_story_a_prompt(
    reference: Reference,
) -> None:
    asked = prompts()[:20]
    once = [Story("m", p.id, 0, p.own, ended=True) for p in asked]
    twice = [*once, *(dataclasses.replace(s, draw=1) for s in once)]
    single, double = (make_panel(s, asked, reference).columns for s in (once, twice))
    assert single.keys() == double.keys()
    for key, column in single.items():
        np.testing.assert_allclose(column, double[key], err_msg=str(key))


def test_a_wrong_table_of_stories_is_refused(reference: Reference) -> None:
    asked = prompts()[:3]
    stories = own_stories(asked)
    with pytest.raises(DataError, match="equally many"):
        make_panel(stories[:2], asked, reference)
    with pytest.raises(DataError, match="none of the prompts"):
        make_panel(stories, asked[:2], reference)


def test_the_classifier_beats_its_floor_on_stories_it_never_saw(
    classifier: GenreClassifier,
) -> None:
    documents = [write_story(0, "test", index) for index in range(120)]
    guesses = classifier.predict([document.text for document in documents])
    right = np.mean([g == d.fields["genre"] for g, d in zip(guesses, documents, strict=True)])
    assert right > 0.8 > 2 * classifier.floor
    assert len(classifier.genres) == 6
    nonsense = classifier.predict(["xyzzy plugh"] * 20)
    assert len(set(nonsense)) == 1
    assert classifier.predict([]) == []


def test_a_classifier_of_one_genre_is_refused() -> None:
    with pytest.raises(UsageError, match="two genres"):
        train_classifier(["a", "b"], ["x", "x"], seed=0)


def test_rare_events_have_a_finite_interval_that_holds_their_share() -> None:
    values = np.zeros(100)
    values[3] = 1.0
    estimate = mean_over_prompts(values, HOW).estimate
    assert math.isfinite(estimate.high)
    assert 0 <= estimate.low <= 0.01 < estimate.high < 0.06
    few = np.array([1 / 21] + [0.0] * 11)
    estimate = mean_over_prompts(few, HOW).estimate
    assert 0 <= estimate.low < few.mean() < estimate.high <= few.max()
