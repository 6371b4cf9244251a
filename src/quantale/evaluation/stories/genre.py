"""A genre classifier of our own: TF-IDF of words and logistic regression of scikit-learn.

It is trained on the corpus' own stories, cut as the generated ones are. Its accuracy on held-out
stories of the corpus is the ceiling of what a generated story can reach; the share of the most
frequent genre is the floor.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quantale.core.errors import EnvironmentLackingError, UsageError

_MOST_STORIES = 5_000
_MOST_TERMS = 20_000


@dataclass(frozen=True)
class GenreClassifier:
    """A fitted pipeline and what it knows."""

    pipeline: Any
    genres: tuple[str, ...]
    stories: int
    """How many stories it was trained on."""
    floor: float
    """Share of the most frequent genre among them."""

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the likeliest genre of every text."""
        return [str(genre) for genre in self.pipeline.predict(list(texts))] if texts else []


def train_classifier(texts: Sequence[str], genres: Sequence[str], seed: int) -> GenreClassifier:
    """Fit on the first 5,000 texts; raises UsageError for fewer than two genres.

    Words and pairs of words, sublinear term frequency, C = 10; with few stories of a genre its
    weight is raised, so that rare genres are not forgotten.
    """
    texts, genres = list(texts[:_MOST_STORIES]), list(genres[:_MOST_STORIES])
    counted = Counter(genres)
    if len(counted) < 2:
        raise UsageError(f"a genre classifier needs two genres, {sorted(counted)} came")
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise EnvironmentLackingError(
            "genre accuracy needs scikit-learn: pip install scikit-learn"
        ) from error
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=_MOST_TERMS),
        LogisticRegression(C=10.0, class_weight="balanced", max_iter=1000, random_state=seed),
    )
    pipeline.fit(texts, genres)
    floor = max(counted.values()) / len(genres)
    return GenreClassifier(pipeline, tuple(sorted(counted)), len(genres), floor)
