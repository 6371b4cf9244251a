"""The first sentence says what the numbers say, and no more."""

import dataclasses

import pytest

from quantale.report.headline import headline
from quantale.report.model import Estimate, Outcome, ReportData, VariantRow


def experiment(*rows: VariantRow, ties: tuple[tuple[str, str], ...] | None = None) -> ReportData:
    base = VariantRow(
        "fp32", "none", 4_000_000, bits_per_byte=Estimate(1.0, 0.98, 1.02, 100),
        perplexity=Estimate(5.0, 4.8, 5.2, 100), ms_per_token=Estimate(2.0, 1.9, 2.1, 10),
    )  # fmt: skip
    return ReportData("t", "fp32", (base, *rows), ties=ties)


def variant(
    name: str, size: int, loss: float, verdict: Outcome | None, ms: float | None = None
) -> VariantRow:
    return VariantRow(
        name, "rtn", size, bits_per_byte=Estimate(1.0 + loss, 0.9, 1.1, 100), verdict=verdict,
        delta_bits_per_byte=Estimate(loss, loss - 0.001, loss + 0.001, 100),
        ms_per_token=None if ms is None else Estimate(ms, ms - 0.05, ms + 0.05, 10),
    )  # fmt: skip


def test_the_smallest_variant_inside_the_margin_is_named() -> None:
    data = experiment(
        variant("w8", 1_000_000, 0.002, "PASS"),
        variant("w4", 500_000, 0.003, "PASS"),
        variant("w3", 400_000, 0.2, "FAIL"),
    )
    found = headline(data)
    assert found.title == "w4 is 8.0× smaller than fp32 and stays inside the 1\u00a0% margin."
    assert found.subject is data.variants[2]
    assert "3.50\u00a0MB (88\u00a0%) saved." in found.deck[0]


def test_a_tie_with_the_base_says_cannot_be_told_apart() -> None:
    found = headline(experiment(variant("w8", 1_000_000, 0.0005, "PASS")))
    assert found.title == "w8 is 4.0× smaller than fp32, and the two cannot be told apart."
    assert "differs by +0.0005 bits per byte" in " ".join(found.deck)


def test_slower_is_said_in_the_headline() -> None:
    found = headline(experiment(variant("w4", 500_000, 0.003, "PASS", ms=3.0)))
    assert found.title.endswith(", but is slower than fp32 here.")
    assert "It is slower than fp32 here: 3.00\u00a0ms a token against 2.00\u00a0ms." in found.deck


def test_speeds_whose_intervals_overlap_are_not_ranked() -> None:
    found = headline(experiment(variant("w4", 500_000, 0.003, "PASS", ms=2.1)))
    assert "slower" not in found.title
    assert "Its speed and that of fp32 cannot be told apart here." in found.deck


def test_faster_is_said_only_beyond_the_intervals() -> None:
    found = headline(experiment(variant("w4", 500_000, 0.003, "PASS", ms=1.0)))
    assert found.title.endswith(", and is faster here.")


def test_documents_that_cannot_tell_are_the_headline_when_nothing_passes() -> None:
    unsure = dataclasses.replace(variant("w4", 500_000, 0.02, "CANNOT TELL"), n_to_tell=1234)
    found = headline(experiment(unsure, variant("w3", 400_000, 0.2, "FAIL")))
    assert found.title == (
        "These 100 documents cannot tell whether any variant stays inside the 1\u00a0% margin."
    )
    assert "For it these documents cannot tell; about 1,234 would." in found.deck


def test_a_failure_is_said_plainly() -> None:
    rows = variant("w4", 500_000, 0.1, "FAIL"), variant("w3", 400_000, 0.2, "FAIL")
    found = headline(experiment(*rows))
    assert found.title == "No variant stays inside the 1\u00a0% margin; w4 comes closest."


def test_a_variant_larger_than_the_base_is_not_called_smaller() -> None:
    found = headline(experiment(variant("w9", 5_000_000, 0.003, "PASS")))
    assert found.title.startswith("w9 is no smaller than fp32")


@pytest.mark.parametrize(("seeds", "said"), [(1, True), (2, True), (3, False)])
def test_fewer_than_three_seeds_speak_about_files_only(seeds: int, said: bool) -> None:
    data = experiment(variant("w4", 500_000, 0.003, "PASS"))
    found = headline(dataclasses.replace(data, training_seeds=seeds))
    assert any("not the methods" in sentence for sentence in found.deck) == said


def test_quality_ties_among_variants_are_named() -> None:
    rows = variant("w8", 1_000_000, 0.0025, "PASS"), variant("w4", 500_000, 0.003, "PASS")
    assert (
        "Its quality cannot be told apart from that of w8."
        in headline(experiment(*rows, ties=(("w4", "w8"),))).deck
    )
    assert not any("told apart" in text for text in headline(experiment(*rows, ties=())).deck)
