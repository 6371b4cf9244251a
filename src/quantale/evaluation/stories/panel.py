"""From stories to the panel: a table of metrics with intervals over prompts, models paired.

Never one score. The corpus' own stories are one more writer in the table, cut as the models' are.
A prompt is the unit: what a model wrote for it is averaged first, then prompts are resampled. The
numbers of a set (distinct-n, vocabulary, self-BLEU) are made for each draw, one story a prompt, so
that writers with one and with several stories a prompt have sets of one size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError
from quantale.core.records import Measurement
from quantale.evaluation import stats
from quantale.evaluation.stats import Bootstrap, Difference
from quantale.evaluation.stories.copies import longest_copies
from quantale.evaluation.stories.diversity import SetValue, distinct, self_bleu, vocabulary
from quantale.evaluation.stories.genre import GenreClassifier
from quantale.evaluation.stories.intervals import mean_over_prompts
from quantale.evaluation.stories.metrics import (
    METRICS,
    Metric,
    Prompt,
    Reference,
    Story,
    Value,
    story_metrics,
)

TASK = "stories"
CORPUS = "corpus"
"""Name of the writer that is the corpus itself."""

Floats = NDArray[np.float64]
Scored = tuple[Story, dict[str, Value]]


@dataclass(frozen=True)
class Panel:
    """Every metric of every writer by prompt."""

    prompts: tuple[str, ...]
    """Ids, in the order of the columns below."""
    columns: Mapping[tuple[str, str], Floats]
    """(writer, metric) to (prompts,), NaN where there is no value."""
    scored: tuple[Scored, ...] = ()
    """Each story with the metrics that it has by itself."""


def own_stories(prompts: Sequence[Prompt]) -> list[Story]:
    """Return the corpus' stories as those of one more writer."""
    return [Story(CORPUS, one.id, 0, one.own, one.own_ended) for one in prompts]


def make_panel(
    stories: Sequence[Story],
    prompts: Sequence[Prompt],
    reference: Reference,
    classifier: GenreClassifier | None = None,
) -> Panel:
    """Score every story; raises DataError for a story of an unknown prompt, or a missing one."""
    known = {prompt.id: prompt for prompt in prompts}
    odd = next((one.prompt for one in stories if one.prompt not in known), None)
    if odd is not None:
        raise DataError(f"a story of the prompt {odd!r} came, which is none of the prompts")
    scored = [(one, story_metrics(one, known[one.prompt], reference)) for one in stories]
    _add_shared(scored, known, reference, classifier)
    columns: dict[tuple[str, str], Floats] = {}
    for writer in dict.fromkeys(one.model for one in stories):
        own = [(story, values) for story, values in scored if story.model == writer]
        table = _by_prompt(writer, own, list(known))
        columns |= {(writer, name): column for name, column in _columns(own, table)}
    return Panel(tuple(known), columns, tuple(scored))


def measurements(
    panel: Panel,
    base: str | None,
    protocol: str,
    how: Bootstrap | None = None,
    metrics: Sequence[Metric] = METRICS,
    task: str = TASK,
) -> list[Measurement]:
    """Return one record for each writer and metric, with paired differences in `extra`.

    `extra` holds, to the base and to the corpus, the difference with its interval over prompts
    that both have a value for, and its p-value, Holm-corrected over the writers compared with the
    same one. A metric that a writer has no value of is left out.
    """
    how = how or Bootstrap()
    writers = list(dict.fromkeys(writer for writer, _ in panel.columns))
    found = []
    for metric in metrics:
        mine = {w: c for w in writers if (c := _column(panel, w, metric.name)) is not None}
        extras: dict[str, dict[str, float | str | int]] = {writer: {} for writer in mine}
        for other, mark in ((base, "base"), (CORPUS, "corpus")):
            if other in mine:
                _add_differences(extras, mine, str(other), mark, how)
        for writer, column in mine.items():
            estimate = mean_over_prompts(column[~np.isnan(column)], how).estimate
            found.append(
                Measurement(
                    model=writer,
                    task=task,
                    protocol=protocol,
                    metric=metric.name,
                    value=estimate.value,
                    unit=metric.unit,
                    n=estimate.n,
                    stderr=_finite(estimate.stderr),
                    ci_low=_end(estimate.low, metric.unit),
                    ci_high=_end(estimate.high, metric.unit),
                    seed=how.seed,
                    extra=extras[writer],
                )
            )
    return found


def _add_shared(
    scored: Sequence[Scored],
    prompts: Mapping[str, Prompt],
    reference: Reference,
    classifier: GenreClassifier | None,
) -> None:
    """Add what is quicker for all stories at once."""
    stories = [story for story, _ in scored]
    copies = longest_copies([story.words for story in stories], reference.training)
    for (_, values), copy in zip(scored, copies, strict=True):
        values["longest_copy"] = float(copy.length)
    if classifier is None:
        return
    guesses = classifier.predict([story.text for story in stories])
    for (story, values), guess in zip(scored, guesses, strict=True):
        genre = prompts[story.prompt].genre
        values["genre_accuracy"] = None if genre is None else float(guess == genre)


def _by_prompt(writer: str, own: Sequence[Scored], prompts: Sequence[str]) -> list[list[Scored]]:
    """Return one row a prompt, in draw order; raises DataError for rows of unequal length."""
    rows: dict[str, list[Scored]] = {prompt: [] for prompt in prompts}
    for story, values in sorted(own, key=lambda pair: pair[0].draw):
        rows[story.prompt].append((story, values))
    if len({len(row) for row in rows.values()}) != 1:
        raise DataError(f"{writer!r} has not equally many stories of every prompt")
    return list(rows.values())


def _columns(own: Sequence[Scored], table: list[list[Scored]]) -> list[tuple[str, Floats]]:
    """Return every metric of one writer as (prompts,)."""
    draws = [[row[draw][0].words for row in table] for draw in range(len(table[0]))]
    for column, texts in enumerate(draws):
        for row, value in zip(table, self_bleu(texts), strict=True):
            row[column][1]["self_bleu"] = value
    names = dict.fromkeys(name for _, values in own for name in values)
    found = [(name, _means(table, name)) for name in names]
    sets = {f"distinct_{n}": [distinct(texts, n) for texts in draws] for n in (1, 2, 3)}
    sets["vocabulary"] = [vocabulary(texts) for texts in draws]
    return found + [(name, _influences(values, len(table))) for name, values in sets.items()]


def _means(table: list[list[Scored]], name: str) -> Floats:
    rows = [[v for _, values in row if (v := values.get(name)) is not None] for row in table]
    return np.array([sum(row) / len(row) if row else math.nan for row in rows])


def _influences(values: Sequence[SetValue | None], prompts: int) -> Floats:
    kept = [value.influence for value in values if value is not None]
    return np.mean(kept, axis=0) if kept else np.full(prompts, math.nan)


def _column(panel: Panel, writer: str, metric: str) -> Floats | None:
    column = panel.columns.get((writer, metric))
    return None if column is None or np.isnan(column).all() else column


def _add_differences(
    extras: Mapping[str, dict[str, float | str | int]],
    columns: Mapping[str, Floats],
    other: str,
    mark: str,
    how: Bootstrap,
) -> None:
    """Write `to_MARK`, its ends, n and corrected p-value into the extras of every other writer."""
    found: dict[str, Difference] = {}
    for writer, column in columns.items():
        change = column - columns[other]
        kept = change[~np.isnan(change)]
        if writer not in (other, CORPUS) and len(kept):
            found[writer] = mean_over_prompts(kept, how)
    adjusted = stats.holm([one.p_value() for one in found.values()])
    for (writer, one), p in zip(found.items(), adjusted, strict=True):
        estimate = one.estimate
        extras[writer] |= {f"to_{mark}": estimate.value, f"to_{mark}_n": estimate.n}
        extras[writer] |= {f"to_{mark}_p_holm": p} if estimate.n > 1 else {}
        if math.isfinite(estimate.stderr):
            extras[writer] |= {f"to_{mark}_low": estimate.low, f"to_{mark}_high": estimate.high}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _end(value: float, unit: str) -> float | None:
    """Return an end of an interval; that of a share lies between 0 and 1."""
    return _finite(min(1.0, max(0.0, value)) if unit == "share" and math.isfinite(value) else value)
