"""What trainings took, and sweeps: in the table, the Markdown, the numbers and the picture."""

import dataclasses
import json
import re

import pytest

from quantale.report import markdown, numerals, page, sweeps
from quantale.report.model import Estimate, ReportData, SweepLine, SweepPoint, Tuning
from quantale.report.results import result_lines

TUNING = Tuning(151.0, 1_024_000, 812_000_000, 12_288, 1_228_800)


@pytest.fixture
def tuned(report_data: ReportData) -> ReportData:
    rows = [
        dataclasses.replace(r, tuning=TUNING) if "w4" in r.name else r for r in report_data.variants
    ]
    return dataclasses.replace(report_data, variants=tuple(rows))


@pytest.fixture
def swept(report_data: ReportData) -> ReportData:
    names = ("w8", "w4", "w3")
    points = {m: tuple(SweepPoint(n[1], f"{m}-{n}") for n in names) for m in ("rtn", "gptq")}
    odd = SweepLine("group_size", "rtn", (SweepPoint("row", "rtn-w8"), SweepPoint("64", "rtn-w4")))
    lines = (*(SweepLine("bits", name, found) for name, found in points.items()), odd)
    return dataclasses.replace(report_data, sweeps=lines)


def test_every_tuned_variant_tells_time_memory_and_trained_parameters(tuned: ReportData) -> None:
    text = markdown.markdown(tuned)
    assert text.count("2.52 min (1,024,000 tokens)") == 3
    assert text.count("12,288 (1 % of 1,228,800)") == 3
    assert text.count("812 MB") == 3
    html = page.html(tuned)
    for heading in ("Training", "Trained", "Training memory"):
        assert f'<span class="sort">{heading}</span>' in html


def test_without_a_training_there_are_no_such_columns(report_data: ReportData) -> None:
    assert "Training memory" not in markdown.markdown(report_data)
    assert "training_seconds" not in result_lines(report_data)


def test_the_base_alone_has_nothing_to_compare_its_training_with(report_data: ReportData) -> None:
    base = dataclasses.replace(report_data.base_row, tuning=TUNING)
    alone = dataclasses.replace(report_data, variants=(base, *report_data.others))
    assert "Training memory" not in markdown.markdown(alone)
    first, *rest = report_data.others
    tuned = (base, dataclasses.replace(first, tuning=TUNING), *rest)
    both = dataclasses.replace(report_data, variants=tuned)
    assert markdown.markdown(both).count("812 MB") == 2


def test_the_numbers_of_trainings_are_measurements(tuned: ReportData) -> None:
    lines = [json.loads(line) for line in result_lines(tuned).splitlines()]
    found = {
        line["metric"]: line["value"]
        for line in lines
        if line["model"] == "rtn-w4" and line["task"] == "training"
    }
    assert found == {
        "training_seconds": 151.0,
        "training_tokens": 1_024_000,
        "training_peak_memory_bytes": 812_000_000,
        "training_trainable_parameters": 12_288,
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.25, "4.25 s"), (119, "119 s"), (151, "2.52 min"), (9000, "2.50 h")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert numerals.seconds(seconds).replace(numerals.SPACE, " ") == text


def test_lines_over_one_setting_share_a_picture_and_numbers_come_before_words(
    swept: ReportData,
) -> None:
    bits, groups = sweeps.sweeps(swept)
    assert (bits.key, bits.values, [line.name for line in bits.lines]) == (
        "bits",
        ("3", "4", "8"),
        ["rtn", "gptq"],
    )
    assert groups.values == ("64", "row")
    assert sweeps.finding(bits, swept) == "Bits: the least is lost by rtn at 8 and gptq at 8"


def test_the_picture_has_a_mark_for_every_variant_and_its_words(swept: ReportData) -> None:
    bits, _ = sweeps.sweeps(swept)
    drawn = sweeps.picture(bits, swept, 0)
    wide = drawn.split("</svg>")[0]
    colours = {colour for _, colour in bits.legend}
    assert colours == {"series-1", "series-2"}
    for colour in colours:
        marks = re.findall(rf"<use[^>]*fill: var\(--{colour}\)", wide)
        assert len(marks) == 6  # three losses and three sizes
    assert "rtn-w3 (3): " in wide
    assert "+0.0712 bits per byte lost" in wide
    assert page.html(swept).count("Sweep over bits</p>") == 1


def test_the_table_of_a_sweep_has_loss_interval_bytes_and_verdict(swept: ReportData) -> None:
    row = next(r for r in swept.variants if r.name == "gptq-w3")
    entry = next(e for e in sweeps.table(sweeps.sweeps(swept)[0], swept) if e.variant == "gptq-w3")
    assert (entry.value, entry.lost, entry.verdict) == ("3", "+0.0192", "FAIL")
    assert entry.interval == "+0.0174 to +0.0210"
    assert entry.size == numerals.size(row.bytes_on_disk)
    assert "| gptq-w3" in markdown.markdown(swept)


def test_a_sweep_that_was_not_scored_still_shows_bytes(swept: ReportData) -> None:
    rows = tuple(dataclasses.replace(r, delta_bits_per_byte=None) for r in swept.variants)
    bare = dataclasses.replace(swept, variants=rows)
    bits = sweeps.sweeps(bare)[0]
    assert sweeps.finding(bits, bare) == "Bits over three values"
    assert "<svg" in sweeps.picture(bits, bare, 0)
    assert "## Bits over three values" in markdown.markdown(bare)


def test_one_document_gives_infinite_intervals_and_still_a_picture(swept: ReportData) -> None:
    endless = Estimate(0.1, -float("inf"), float("inf"), 1)
    rows = tuple(
        dataclasses.replace(r, delta_bits_per_byte=endless if r.name != "fp32" else None)
        for r in swept.variants
    )
    bare = dataclasses.replace(swept, variants=rows)
    assert "<svg" in sweeps.picture(sweeps.sweeps(bare)[0], bare, 0)
