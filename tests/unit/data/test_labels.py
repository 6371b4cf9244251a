"""Labels of documents: names, numbers, and what is neither."""

import pytest

from quantale.core.errors import DataError, UsageError
from quantale.data.documents import Document, Documents
from quantale.data.labels import labelled

NAMES = ("World", "Sports", "Business")


def documents(*labels: str, column: str = "label") -> Documents:
    items = [Document(f"text {i}", f"d{i}", {column: one}) for i, one in enumerate(labels)]
    return Documents.collect(items, "news.csv", "all")


def test_numbers_count_the_classes_and_names_are_themselves() -> None:
    assert labelled(documents("0", "2", "Sports"), "label", NAMES).labels == (
        "World", "Business", "Sports",
    )  # fmt: skip


def test_without_names_the_labels_that_occur_are_the_classes() -> None:
    assert labelled(documents("10", "9", "2")).classes == ("2", "9", "10")
    assert labelled(documents("b", "a", "b")).classes == ("a", "b")


def test_the_digest_covers_labels_and_the_order_of_classes() -> None:
    first = labelled(documents("0", "1", "2"), "label", NAMES)
    assert first.sha256 == labelled(documents("0", "1", "2"), "label", NAMES).sha256
    assert first.sha256 != labelled(documents("0", "1", "1"), "label", NAMES).sha256
    assert first.sha256 != labelled(documents("2", "1", "0"), "label", NAMES[::-1]).sha256


@pytest.mark.parametrize(
    ("given", "column", "said"),
    [
        (documents("3"), "label", "'3', which is none of World"),
        (documents("sport"), "label", "none of World, Sports, Business and no number below 3"),
        (documents("0", column="labels"), "label", "did you mean 'labels'"),
    ],
)
def test_a_document_without_a_known_label_is_named(
    given: Documents, column: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        labelled(given, column, NAMES)


@pytest.mark.parametrize("names", [("a",), ("a", "a")])
def test_classes_are_two_or_more_and_all_different(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="two names or more"):
        labelled(documents("0"), "label", names)
