"""The metrics of the story panel: what each is called, counted in, and made from."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from quantale.evaluation.stories.characters import entity_continuity, persistence, strangers
from quantale.evaluation.stories.copies import TrainingWords
from quantale.evaluation.stories.reading import (
    prompt_recall,
    reading_grade,
    type_token_ratio,
    unknown_share,
)
from quantale.evaluation.stories.repetition import longest_loop, seq_rep
from quantale.evaluation.stories.words import words


@dataclass(frozen=True)
class Prompt:
    """What a story is written from, and what the corpus wrote itself."""

    id: str
    given: str
    """The text that a model continues, template included."""
    asked: str
    """The part of it that asks for something: the prompt and the opening, no labels."""
    names: frozenset[str]
    """Names of characters in `given`, in lower case."""
    genre: str | None
    own: str
    """The corpus' own continuation, as long as a model may write."""
    opening: str = ""
    """The beginning of the story that `given` ends with; not scored, but read before it."""
    own_ended: bool = True
    """Whether all that the corpus has did fit."""


@dataclass(frozen=True)
class Story:
    """One continuation of one prompt."""

    model: str
    prompt: str
    """Id of the prompt."""
    draw: int
    """Which of several continuations of the prompt, from 0."""
    text: str
    """Without the prompt."""
    ended: bool
    """Whether the writer stopped by itself."""
    words: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(words(self.text)))


@dataclass(frozen=True)
class Metric:
    """A column of the panel."""

    name: str
    unit: str
    meaning: str
    """A few words for a reader of the page."""


METRICS: Final = (
    Metric("ended", "share", "ends by itself within the tokens given"),
    Metric("words", "words", "length of the story"),
    Metric("distinct_1", "share", "different words over all words of the set"),
    Metric("distinct_2", "share", "the same for pairs of words"),
    Metric("distinct_3", "share", "the same for three words in a row"),
    Metric("self_bleu", "share", "likeness to the other stories of the set"),
    Metric("seq_rep_4", "share", "four words in a row that the story had before"),
    Metric("longest_loop", "words", "longest phrase said again and again"),
    Metric("vocabulary", "words", "different words in the set"),
    Metric("type_token_ratio", "share", "different words in any 50 in a row"),
    Metric("unknown_words", "share", "words that no training text has"),
    Metric("reading_grade", "grade", "school grade by Flesch and Kincaid"),
    Metric("prompt_recall", "share", "content words of the prompt that come back"),
    Metric("persistence", "share", "thirds of the story that name the given characters"),
    Metric("new_names", "names", "names that were not given"),
    Metric("entity_continuity", "share", "entities introduced before they are referred to"),
    Metric("genre_accuracy", "share", "genre found by the classifier"),
    Metric("longest_copy", "words", "longest run of words from a training text"),
)
"""In the order of the panel."""

BY_NAME: Final[Mapping[str, Metric]] = {metric.name: metric for metric in METRICS}

Value = float | None


@dataclass(frozen=True)
class Reference:
    """What stories are held against."""

    training: TrainingWords
    known: Collection[str]
    """The words of the training texts."""


def story_metrics(story: Story, prompt: Prompt, reference: Reference) -> dict[str, Value]:
    """Return the metrics that one story has by itself; None where it has no value."""
    made: dict[str, Callable[[], Value]] = {
        "ended": lambda: float(story.ended),
        "words": lambda: float(len(story.words)),
        "seq_rep_4": lambda: seq_rep(story.words),
        "longest_loop": lambda: float(longest_loop(story.words)),
        "type_token_ratio": lambda: type_token_ratio(story.words),
        "unknown_words": lambda: unknown_share(story.words, reference.known),
        "reading_grade": lambda: reading_grade(story.text),
        "prompt_recall": lambda: prompt_recall(story.text, prompt.asked, prompt.names),
        "persistence": lambda: persistence(story.text, prompt.names),
        "new_names": lambda: float(strangers(story.text, prompt.given)),
        "entity_continuity": lambda: entity_continuity(story.text, prompt.opening),
    }
    return {name: make() for name, make in made.items()}
