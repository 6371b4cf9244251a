"""Numbers as words, Markdown, and where a sample leaves the base."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.report import markdown, numerals
from quantale.report.model import Estimate, ReportData, VariantRow
from quantale.report.samples import side_by_side


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.00 kB"), (999_900, "1.00 MB"),
     (10_890_000, "10.9 MB"), (327_700_000, "328 MB"), (8.03e9, "8.03 GB")],
)  # fmt: skip
def test_sizes_are_decimal_and_short(count: float, text: str) -> None:
    assert numerals.size(count).replace(numerals.SPACE, " ") == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(0.004123, 3, "0.00412"), (1234.5, 3, "1,234"), (-2.5, 2, "\u22122.5"), (0.0, 3, "0")],
)
def test_significant_digits_have_no_exponent(value: float, digits: int, text: str) -> None:
    assert numerals.significant(value, digits) == text


def test_a_rounded_zero_has_no_sign() -> None:
    assert numerals.signed(-0.00001, 3) == "0.000"
    assert numerals.signed(-0.01, 2) == "\u22120.01"
    assert numerals.signed(0.01, 2) == "+0.01"


@given(st.floats(-1e6, 1e6), st.floats(1e-9, 1e3))
def test_decimals_show_the_width_of_any_interval(value: float, half: float) -> None:
    places = numerals.places_for(Estimate(value, value - half, value + half))
    assert 2 <= places <= 5


def test_every_row_of_the_markdown_table_has_the_same_width(report_data: ReportData) -> None:
    rows = list(report_data.variants)
    rows[1] = dataclasses.replace(rows[1], name="größe-4ビット")
    text = markdown.markdown(dataclasses.replace(report_data, variants=tuple(rows)))
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert len({markdown.width(line) for line in table}) == 1
    bars = [[i for i, c in enumerate(line) if c == "|"] for line in table if line.isascii()]
    assert all(found == bars[0] for found in bars)


def test_markdown_keeps_hostile_text_from_being_markup(report_data: ReportData) -> None:
    story = "```\n<script>alert(1)</script>\n# not a heading"
    rows = tuple(dataclasses.replace(row, samples=(story, story)) for row in report_data.variants)
    data = dataclasses.replace(
        report_data, variants=rows, warnings=("a | b <img> [x](y)\n# z",), description="<b>"
    )
    text = markdown.markdown(data)
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert "<" not in outside
    assert "# not a heading" not in outside
    assert "\n# z" not in outside
    assert "a \\| b &lt;img\\> \\[x\\](y) \\# z" in text


def samples_of(base: str, other: str) -> ReportData:
    rows = (
        VariantRow("base", "none", 10, samples=(base,)),
        VariantRow("small", "rtn", 5, samples=(other,)),
    )
    return ReportData("t", "base", rows, prompts=("Once",))


def test_the_first_word_that_differs_is_marked() -> None:
    (prompt,) = side_by_side(samples_of("a fox ran home", "a fox  sat home"))
    telling = prompt.tellings[1]
    assert (telling.same, telling.first, telling.rest) == ("a fox  ", "sat", " home")
    assert telling.words_alike == 2


def test_a_text_like_the_base_is_identical() -> None:
    (prompt,) = side_by_side(samples_of("a fox ran", "a fox ran"))
    assert prompt.tellings[1].is_identical


def test_a_text_that_stops_early_is_marked_where_it_stops() -> None:
    (prompt,) = side_by_side(samples_of("a fox ran", "a fox"))
    assert (prompt.tellings[1].first, prompt.tellings[1].is_identical) == ("\u2026", False)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_word_of_a_sample_is_lost(base: str, other: str) -> None:
    (prompt,) = side_by_side(samples_of(base, other))
    telling = prompt.tellings[1]
    assert telling.text.rstrip("\u2026").split() == other.rstrip("\u2026").split()
    assert telling.same.split() == base.split()[: telling.words_alike]
