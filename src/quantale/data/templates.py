"""Documents made of columns: by a template, or as the turns of a chat."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from jinja2 import TemplateError

from quantale.core.errors import DataError, UsageError, nearest
from quantale.core.templates import TEXT, Template
from quantale.data.documents import Document, Documents
from quantale.data.rows import folded

MODEL_ROLE = "assis" + "tant"
"""What chat templates call the model."""


def fill_template(documents: Documents, template: Template, column: str | None = None) -> Documents:
    """Return the documents as the template writes them, each with the start of its answer.

    column: a name of the text beside {text}. Names are compared without case. Raises DataError for
    a document without a column that the template names.
    """
    items = []
    for item in documents.items:
        text, answer = template.filled(_values(item, template, column))
        items.append(replace(item, text=text, answer=answer))
    return Documents.collect(items, documents.source, documents.split)


def fill_chat(
    documents: Documents, template: Template, tokenizer: Any, column: str | None = None
) -> Documents:
    """Return the documents as chats in the tokenizer's own template: one question, one answer.

    The prompt of the template becomes the user's turn and the rest the model's; white space around
    either is dropped. A text is what `apply_chat_template` makes of the two turns, without the
    white space behind the token that ends the last one. Raises UsageError for a tokenizer without
    a chat template, and DataError for a document that spells one of its special tokens.
    """
    if tokenizer is None or not tokenizer.chat_template:
        raise UsageError("the model has no chat template: leave data.chat out")
    symbols = sorted(tokenizer.all_special_tokens)
    items = []
    for item in documents.items:
        text, answer = template.filled(_values(item, template, column))
        spelt = next((symbol for symbol in symbols if symbol in text), None)
        if spelt is not None:
            raise DataError(f"document {item.id!r} spells the special token {spelt}: take it out")
        items.append(_chat(item, text[:answer].strip(), text[answer:].strip(), tokenizer))
    return Documents.collect(items, documents.source, documents.split, marked=True)


def answers_of(documents: Documents) -> Documents:
    """Return the documents with their answers alone as text, without outer spaces."""
    if not any(item.answer for item in documents.items):
        return documents
    items = (
        replace(item, text=item.text[item.answer :].strip(" "), answer=0)
        for item in documents.items
    )
    return Documents.collect(items, documents.source, documents.split)


def _chat(item: Document, question: str, answer: str, tokenizer: Any) -> Document:
    user = {"role": "user", "content": question}
    both = [user, {"role": MODEL_ROLE, "content": answer}]
    try:
        given = tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(both, tokenize=False).rstrip()
    except (TemplateError, TypeError, ValueError) as error:
        raise UsageError(f"the model's chat template cannot be filled: {error}") from error
    if not whole.startswith(given):
        raise UsageError(
            "the model's chat template does not put the answer behind the prompt that it makes for"
            " generating, so the answer's tokens cannot be told; train without data.chat"
        )
    return replace(item, text=whole, answer=len(given))


def _values(item: Document, template: Template, column: str | None) -> Mapping[str, str]:
    known = dict(_known(item, column))
    found: dict[str, str] = {}
    for name in template.fields:
        if folded(name) not in known:
            listed = ", ".join(sorted(known))
            hint = nearest(folded(name), known)
            raise DataError(
                f"document {item.id!r} has no column {name!r}, which the template names; it has"
                f" {listed}{hint}"
            )
        found[name] = known[folded(name)]
    return found


def _known(item: Document, column: str | None) -> Iterator[tuple[str, str]]:
    yield folded(TEXT), item.text
    if column is not None:
        yield folded(column), item.text
    for name, value in item.fields.items():
        yield folded(name), value
