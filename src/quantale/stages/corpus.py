"""The documents of a recipe: divided, and written as its template says."""

from dataclasses import dataclass, field, replace
from typing import Any

from quantale.core.errors import DataError
from quantale.core.recipe import Recipe
from quantale.core.recipe_data import DataSection
from quantale.data.documents import WHOLE, Documents, repeated_texts, split_documents
from quantale.data.hub_names import HUB_NAMES
from quantale.data.load import load_documents, parse_data
from quantale.data.templates import answers_of, fill_chat, fill_template
from quantale.models.load import load_tokenizer, local_folder


@dataclass(frozen=True)
class Corpus:
    """The three parts of a recipe's data; no document is in two of them."""

    train: Documents
    validation: Documents
    test: Documents
    section: DataSection = field(default_factory=DataSection)
    """How training reads them."""

    @property
    def reading(self) -> dict[str, Any]:
        """What the bytes of a training depend on besides the documents."""
        names = {"loss_on", "packing", "length", "too_long", "label", "classes"}
        return self.section.model_dump(mode="json", include=names)

    def answers(self) -> "Corpus":
        """Return the parts with the answers alone, as the source has them."""
        train, validation, test = map(answers_of, (self.train, self.validation, self.test))
        return Corpus(train, validation, test, self.section)

    def repeated(self) -> dict[str, int]:
        """Count texts that stand in two parts."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return repeated_texts(parts)


def open_corpus(recipe: Recipe) -> Corpus:
    """Load, divide and write the documents of a recipe; raises DataError when a part is empty."""
    data = recipe.data
    train, validation, test = open_parts(data, recipe.seed)
    parts = [(train, data.source), (validation, data.source), (test, data.source)]
    if data.test is not None:
        limit = data.test_documents
        parts[2] = (
            load_documents(data.test, split="test", limit=limit, seed=recipe.seed),
            data.test,
        )
    tokenizer = _chat_tokenizer(recipe) if data.chat else None
    train, validation, test = (_written(part, data, text, tokenizer) for part, text in parts)
    return Corpus(train, validation, test, data)


def _written(part: Documents, data: DataSection, source: str, tokenizer: Any) -> Documents:
    """Return a part as the template writes it; `source` may name the column of the text."""
    template = data.parsed_template
    if template is None or not len(part):
        return part
    asked = parse_data(source)
    known = HUB_NAMES.get(asked.name)
    column = asked.column or (None if known is None else known.column)
    if data.chat:
        return fill_chat(part, template, tokenizer, column)
    return fill_template(part, template, column)


def _chat_tokenizer(recipe: Recipe) -> Any:
    return load_tokenizer(local_folder(str(recipe.tokenizer.path or recipe.model.path)))


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
        parts = split_documents(whole, data.split, by=data.split_by, shuffle_seed=data.shuffle_seed)
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
    items = documents.items[:limit]
    return Documents.collect(items, documents.source, documents.split, marked=documents.marked)


def first_documents(documents: Documents, limit: int) -> Documents:
    """Return the first documents; raises DataError when there are none."""
    if not len(documents):
        raise DataError(f"{documents.source}: no document in {documents.split!r}")
    return _first(replace(documents), limit)
