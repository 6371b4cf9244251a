"""What a training reads: batches of the training part, and held-out documents as rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from quantale.core.errors import DataError
from quantale.core.recipe_data import DataSection
from quantale.core.recipe_training import TrainSection
from quantale.data import packing
from quantale.data.batch import Batch
from quantale.data.documents import Documents
from quantale.data.examples import Example, Fitted, fit_length, lay_out, make_examples
from quantale.data.labels import Labelled, labelled
from quantale.stages.corpus import Corpus, first_documents
from quantale.tuning.settings import TrainData

Row = TypeVar("Row")


def training_data(
    section: TrainSection, corpus: Corpus, tokenizer: Any, context: int, seed: int
) -> TrainData:
    """Return the batches of every step and of every validation; raises DataError."""
    length = corpus.section.length or context
    if length > context:
        raise DataError(f"data.length {length} is more than the model's context of {context}")
    held_out = first_documents(corpus.validation, section.evaluate_documents)
    corpus = replace(corpus, validation=held_out)
    make = _class_data if corpus.section.learns_classes else _text_data
    return make(section, corpus, tokenizer, length, seed)


def _text_data(
    section: TrainSection, corpus: Corpus, tokenizer: Any, length: int, seed: int
) -> TrainData:
    data, size = corpus.section, section.batch_size
    filler = filling(tokenizer)
    fitted = _fitted(data, tokenizer, corpus.train, length)
    if data.packing == "pad":
        batches = packing.padded(fitted.examples, size, seed, filler)
    else:
        stream = lay_out(fitted.examples)
        batches = packing.windows(stream, length, size, seed, data.packing)
    rows = validation_rows(data, tokenizer, corpus.validation, length)
    masked = data.packing == "pad"
    validation = [packing.pad(part, filler, masked=masked) for part in _parts(rows, size)]
    record: dict[str, Any] = {
        "packing": data.packing,
        "length": length,
        "loss_on": data.learnt,
        "too_long": data.too_long or "split",
        **fitted.record(),
    }
    return TrainData(batches, validation, batches.rows / size, record)


def _fitted(data: DataSection, tokenizer: Any, documents: Documents, length: int) -> Fitted:
    """Return the training examples; windows split what is too long by themselves."""
    examples = make_examples(tokenizer, documents, data.learnt)
    too_long = data.too_long or "split"
    if data.packing == "pad" or too_long != "split":
        return fit_length(examples, length, too_long)
    longer = sum(one.inputs > length for one in examples)
    return Fitted(tuple(examples), len(examples), split=longer)


def validation_rows(
    data: DataSection, tokenizer: Any, documents: Documents, length: int
) -> tuple[Example, ...]:
    """Return held-out documents as rows, each learnt token a target once.

    A document begins a row, as in evaluation; what is longer goes on in rows of its own.
    """
    examples = make_examples(tokenizer, documents, data.learnt)
    return fit_length(examples, length, "split").examples


def filling(tokenizer: Any) -> int:
    """Return the token that fills rows up; what it is changes nothing."""
    known = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
    return next((token for token in known if token is not None), 0)


def class_names(data: DataSection, train: Documents) -> tuple[str, ...]:
    """Return the names of the classes in the order of their numbers."""
    return labelled(train, str(data.label), data.classes).classes


def _class_data(
    section: TrainSection, corpus: Corpus, tokenizer: Any, length: int, seed: int
) -> TrainData:
    data, filler = corpus.section, filling(tokenizer)
    names = class_names(data, corpus.train)
    train = labelled(corpus.train, str(data.label), names)
    rows, classes, counts = _class_rows(train, tokenizer, length, data.too_long or "cut")
    held_out = labelled(corpus.validation, str(data.label), names)
    checked, right, _ = _class_rows(held_out, tokenizer, length, "cut")

    def batch(step: int) -> Batch:
        chosen = packing.chosen_rows(len(rows), section.batch_size, seed, step)
        return packing.pad_classes([rows[i] for i in chosen], [classes[i] for i in chosen], filler)

    validation = [
        packing.pad_classes(part, numbers, filler)
        for part, numbers in zip(
            _parts(checked, section.batch_size), _parts(right, section.batch_size), strict=True
        )
    ]
    record: dict[str, Any] = {"length": length, "too_long": data.too_long or "cut", **counts}
    record["classes"] = {name: classes.count(number) for number, name in enumerate(names)}
    return TrainData(batch, validation, len(rows) / section.batch_size, record)


def _class_rows(
    data: Labelled, tokenizer: Any, length: int, too_long: str
) -> tuple[list[list[int]], list[int], dict[str, int]]:
    """Return tokens and class numbers, encoded as the head's route reads texts, and the counts.

    Raises DataError when nothing is left.
    """
    texts, rows = data.documents.texts, _with_symbols(tokenizer, data.documents.texts)
    numbers = [data.classes.index(label) for label in data.labels]
    long = [place for place, row in enumerate(rows) if len(row) > length]
    if too_long == "cut" and long:
        shorter = _with_symbols(tokenizer, [texts[i] for i in long], length)
        for place, row in zip(long, shorter, strict=True):
            rows[place] = row
    kept = [
        (row, number)
        for row, number in zip(rows, numbers, strict=True)
        if row and len(row) <= length
    ]
    if not kept:
        raise DataError(f"none of {len(numbers)} documents fits into {length} tokens; cut them")
    counts = {
        "documents": len(numbers),
        "dropped": len(numbers) - len(kept),
        "cut": len(long) if too_long == "cut" else 0,
        "tokens": sum(len(row) for row, _ in kept),
    }
    return [row for row, _ in kept], [number for _, number in kept], counts


def _with_symbols(tokenizer: Any, texts: list[str], length: int | None = None) -> list[list[int]]:
    """Encode as the tokenizer does by itself, its symbols included; cut at its own side."""
    cut = {} if length is None else {"truncation": True, "max_length": length}
    rows: list[list[int]] = tokenizer(texts, padding=False, verbose=False, **cut)["input_ids"]
    return rows


def _parts(rows: Sequence[Row], size: int) -> list[Sequence[Row]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
