"""Hub data sets behind a fake of `datasets.load_dataset`, which is all that needs the network."""

from dataclasses import dataclass, field

import datasets
import pytest

from quantale.core.errors import DataError, HubError
from quantale.data.load import load_documents


@dataclass
class FakeHub:
    """Returns one table whatever is asked, or raises, and remembers the questions."""

    answer: datasets.Dataset | Exception
    asked: list[tuple[str, str | None, str]] = field(default_factory=list)

    def load_dataset(self, name: str, config: str | None, *, split: str) -> datasets.Dataset:
        self.asked.append((name, config, split))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def install(monkeypatch: pytest.MonkeyPatch, answer: datasets.Dataset | Exception) -> FakeHub:
    fake = FakeHub(answer)
    monkeypatch.setattr(datasets, "load_dataset", fake.load_dataset)
    return fake


def table() -> datasets.Dataset:
    texts = ["One", "", "Two", "Three"]
    return datasets.Dataset.from_dict({"text": texts, "label": [0, 1, 2, 3]})


def test_rows_become_documents_and_blank_texts_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install(monkeypatch, table())
    documents = load_documents("owner/name[validation]")
    assert documents.texts == ["One", "Two", "Three"]
    assert documents.items[1].fields == {"label": "2"}
    assert (documents.source, documents.split) == ("owner/name", "validation")
    assert fake.asked == [("owner/name", None, "validation")]


def test_a_range_counts_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, table())
    assert load_documents("owner/name[2:9]").texts == ["Two", "Three"]
    assert load_documents("owner/name", limit=1).texts == ["One"]
    with pytest.raises(DataError, match="no document"):
        load_documents("owner/name[7:9]")


def test_corpus_names_stand_for_hub_names_configurations_and_splits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = install(monkeypatch, table())
    load_documents("wikitext-2", split="test")
    load_documents("tinystories", split="test")
    load_documents("ag-news[validation]", split="test")
    assert fake.asked == [
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "test"),
        ("roneneldan/TinyStories", None, "validation[50%:]"),
        ("fancyzhx/ag_news", None, "train[118000:]"),
    ]


def test_a_missing_column_names_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, table())
    with pytest.raises(DataError, match="no column 'labels', it has label, text; did you mean"):
        load_documents("owner/name#labels")


def test_an_unknown_split_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, ValueError('Unknown split "x". Should be one of ["train"].\nMore.'))
    with pytest.raises(DataError, match="owner/name cannot give 'x': Unknown split") as caught:
        load_documents("owner/name[x]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "failure",
    [
        ConnectionError("no route"),
        RuntimeError("Dataset scripts are no longer supported"),
        datasets.exceptions.DatasetNotFoundError("no such data set"),
    ],
)
def test_what_the_hub_cannot_deliver_is_a_hub_error(
    monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    install(monkeypatch, failure)
    with pytest.raises(HubError, match="which work offline"):
        load_documents("owner/name")
