"""The documents of a recipe, divided, and what each part is in tokens."""

from dataclasses import dataclass, replace

from quantale.core.errors import DataError
from quantale.core.recipe import DataSection, Recipe
from quantale.data.documents import WHOLE, Documents, split_documents
from quantale.data.load import load_documents, parse_data


@dataclass(frozen=True)
class Corpus:
    """The three parts of a recipe's data; no document is in two of them."""

    train: Documents
    validation: Documents
    test: Documents


def open_corpus(recipe: Recipe) -> Corpus:
    """Load and divide the documents of a recipe; raises DataError when a part is empty."""
    data = recipe.data
    train, validation, test = open_parts(data, recipe.seed)
    if data.test is not None:
        test = load_documents(data.test, split="test", limit=data.test_documents, seed=recipe.seed)
    return Corpus(train, validation, test)


def open_parts(data: DataSection, seed: int) -> tuple[Documents, Documents, Documents]:
    """Return the source's own splits, or a contiguous division of a source that has none.

    Training, validation and test, in this order.
    """
    limits = (data.train_documents, data.validation_documents, data.test_documents)
    named = parse_data(data.source).split is not None
    limit = None if named else limits[0]
    first = load_documents(data.source, split="train", limit=limit, seed=seed)
    if named or first.split == WHOLE:
        whole = first if limit is None else load_documents(data.source, seed=seed)
        parts = split_documents(whole, data.split)
        train, validation, test = (_first(*pair) for pair in zip(parts, limits, strict=True))
        return train, validation, test
    validation, test = (
        load_documents(data.source, split=split, limit=limit, seed=seed)
        for split, limit in zip(("validation", "test"), limits[1:], strict=True)
    )
    return first, validation, test


def _first(documents: Documents, limit: int | None) -> Documents:
    if limit is None or limit >= len(documents):
        return documents
    return Documents.collect(documents.items[:limit], documents.source, documents.split)


def first_documents(documents: Documents, limit: int) -> Documents:
    """Return the first documents; raises DataError when there are none."""
    if not len(documents):
        raise DataError(f"{documents.source}: no document in {documents.split!r}")
    return _first(replace(documents), limit)
