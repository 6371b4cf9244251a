"""What models wrote, on the page and in its twins."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from quantale.report import writing
from quantale.report.markdown import markdown
from quantale.report.model import ReportData, Written
from quantale.report.page import html
from quantale.report.results import result_lines

MODELS = ("corpus", "fp32", "gptq-w4", "rtn-w3")


def record(model: str, metric: str, value: float, unit: str, **extra: Any) -> dict[str, Any]:
    return {
        "model": model, "task": "stories", "protocol": "stories(prompts=9)", "metric": metric,
        "value": value, "unit": unit, "n": 9, "stderr": 0.01, "ci_low": value - 0.02,
        "ci_high": value + 0.02, "extra": extra,
    }  # fmt: skip


@pytest.fixture
def data(report_data: ReportData) -> ReportData:
    records = [
        record(model, metric, 0.5 + 0.1 * index, unit)
        for metric, unit in (("persistence", "share"), ("seq_rep_4", "share"), ("words", "words"))
        for index, model in enumerate(MODELS)
    ]
    records[3]["extra"] = {"to_base": 0.3, "to_base_p_holm": 0.01}
    records = [one for one in records if (one["model"], one["metric"]) != ("rtn-w3", "words")]
    classifier = {"genres": ["a", "b"], "stories": 1200, "floor": 0.6}
    summary = {
        "protocol": "stories(prompts=9)", "prompts": 9, "data": "storygen (test)",
        "training_data": "storygen (train)", "training_documents": 1200, "classifier": classifier,
    }  # fmt: skip
    code = [record("fp32", "perplexity_code", 3.25, "per token")]
    written = {"stories": Written(tuple(records), summary), "code": Written(tuple(code))}
    return dataclasses.replace(report_data, written=written)


def test_the_corpus_and_the_base_come_first_and_a_difference_is_marked(data: ReportData) -> None:
    stories, code = writing.tables(data)
    assert stories.writers == MODELS
    row = stories.rows[0]
    assert [entry.text for entry in row.entries] == [
        "50.0\u00a0%", "60.0\u00a0%", "70.0\u00a0%", "80.0\u00a0%"
    ]  # fmt: skip
    assert row.entries[0].note == "48.0 to 52.0"
    assert [entry.differs for entry in row.entries] == [False, False, False, True]
    assert stories.rows[2].entries[3].text == ""
    assert writing.finding(stories).startswith("One of 3 numbers differs from fp32")
    assert (code.writers, code.rows[0].heading) == (("fp32",), "perplexity of code")


def test_nothing_that_differs_is_said_in_words(data: ReportData) -> None:
    records = [{**one, "extra": {}} for one in data.written["stories"].records]
    still = dataclasses.replace(data, written={"stories": Written(tuple(records))})
    (table,) = writing.tables(still)
    assert writing.finding(table) == "None of the 3 numbers can be told from fp32's"


def test_the_page_has_both_tables_the_picture_and_the_ceiling(
    data: ReportData, report_html: str
) -> None:
    page = html(data)
    assert 'id="stories"' in page
    assert 'id="code"' in page
    assert page.count("The panel in bars") == 2
    assert "always guessing the most frequent one gives 60.0" in page
    assert "<mark>80.0" in page
    assert 'id="stories"' not in report_html


def test_names_and_numbers_of_models_stay_text(data: ReportData) -> None:
    evil = [{**one, "model": one["model"].replace("rtn-w3", "<script>x")}
            for one in data.written["stories"].records]  # fmt: skip
    broken = dataclasses.replace(data, written={"stories": Written(tuple(evil))})
    assert "<script>x" not in html(broken)
    assert "<script" not in markdown(broken)


def test_markdown_and_records_have_all_numbers(data: ReportData) -> None:
    text = markdown(data)
    assert "## Stories" in text
    assert "**80.0 % (78.0 to 82.0)**" in text
    lines = [json.loads(line) for line in result_lines(data).splitlines()]
    written = [one for one in lines if one["task"] == "stories"]
    assert len(written) == 12
    assert written[0]["protocol"] == "stories(prompts=9)"


def test_sorting_the_main_table_leaves_the_panel_alone() -> None:
    """The script names the section whose table it sorts."""
    script = Path(writing.__file__).parent / "templates" / "page.js"
    assert script.read_text().count('"#numbers ') == 2
