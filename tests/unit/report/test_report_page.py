"""The page: safe, self-contained, the same bytes each time, and whole with parts missing."""

import base64
import dataclasses
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from quantale.core.errors import UsageError
from quantale.report import page, palette, plots
from quantale.report.model import Estimate, ReportData, VariantRow
from quantale.report.trade_picture import trade_png

HOSTILE = '</p><script>alert(1)</script><img src=x onerror="alert(2)">\u202e{{ 7*7 }}'
FAKE = Path(__file__).with_name("fake_report.py")


class Elements(HTMLParser):
    """Collects every element with its attributes, and the text outside script and style."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._silent = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._silent = tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text.append(data)


def elements(text: str) -> Elements:
    parser = Elements()
    parser.feed(text)
    return parser


def named(data: ReportData, name: str) -> ReportData:
    """Give the first variant another name."""
    rows = list(data.variants)
    rows[1] = dataclasses.replace(rows[1], name=name)
    return dataclasses.replace(data, variants=tuple(rows), ties=None)


def test_hostile_text_stays_text_everywhere(report_data: ReportData) -> None:
    rows = tuple(
        dataclasses.replace(
            row, samples=(HOSTILE, HOSTILE), method=HOSTILE, kernel=HOSTILE,
            layer_errors=((f"h.0.{HOSTILE}", 0.1),),
        )
        for row in report_data.variants[:4]
    )  # fmt: skip
    hostile = dataclasses.replace(
        report_data, variants=rows, title=HOSTILE, description=HOSTILE, prompts=(HOSTILE, HOSTILE),
        command=HOSTILE, warnings=(HOSTILE,), protocol={HOSTILE: HOSTILE},
        environment={"a": HOSTILE},
    )  # fmt: skip
    text = page.html(named(hostile, HOSTILE))
    parsed = elements(text)
    assert [tag for tag, _ in parsed.found].count("script") == 1
    assert not [tag for tag, _ in parsed.found if tag in {"img", "iframe", "object", "embed"}]
    assert not [key for _, attrs in parsed.found for key in attrs if key.startswith("on")]
    assert "{{ 7*7 }}" in "".join(parsed.text)


def test_nothing_is_fetched_from_anywhere(report_html: str) -> None:
    assert "http://" not in report_html
    assert "https://" not in report_html
    for tag, attrs in elements(report_html).found:
        for key in ("src", "href", "xlink:href", "srcset", "action", "data"):
            address = attrs.get(key)
            assert address is None or address.startswith(("#", "data:")), (tag, address)
    assert "@import" not in report_html
    assert not re.search(r"url\((?!#)", report_html)


def test_the_script_is_the_one_its_policy_names(report_html: str) -> None:
    policy = re.search(r"script-src '(sha256-[^']+)'", report_html)
    script = re.search(r"<script>(.*?)</script>", report_html, re.DOTALL)
    assert policy
    assert script
    digest = base64.b64encode(hashlib.sha256(script.group(1).encode()).digest()).decode()
    assert policy.group(1) == f"sha256-{digest}"


def test_the_files_are_written_and_the_page_is_small(
    report_data: ReportData, tmp_path: Path
) -> None:
    written = page.build_report(report_data, tmp_path / "compare")
    names = ["report.html", "report.md", "results.jsonl", "size-and-quality.png"]
    assert [path.name for path in written] == names
    with Image.open(written[3]) as picture:
        assert picture.width > 700
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 50
    assert written[3].read_bytes() == trade_png(report_data)
    alone = dataclasses.replace(report_data, variants=report_data.variants[:1])
    assert trade_png(alone) is None
    assert written[0].stat().st_size < 500_000
    lines = [json.loads(line) for line in written[2].read_text(encoding="utf-8").splitlines()]
    found = {(line["model"], line["metric"]): line for line in lines}
    paired = found["gptq-w4", "delta_bits_per_byte"]
    assert (paired["value"], paired["n"], paired["extra"]["verdict"]) == (0.0029, 200, "PASS")
    assert paired["protocol"] == "document"
    assert found["fp32", "bytes_on_disk"]["unit"] == "bytes"


def test_another_process_with_another_hash_seed_makes_the_same_bytes(report_html: str) -> None:
    code = (
        "import runpy, sys; from quantale.report import page;"
        f"data = runpy.run_path({str(FAKE)!r})['report_data']();"
        "assert not {'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules);"
        "sys.stdout.buffer.write(page.html(data).encode())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert made.returncode == 0, made.stderr.decode()
    assert made.stdout.decode() == report_html


@pytest.mark.parametrize(
    "change",
    [
        {"training": ()},
        {"prompts": ()},
        {"protocol": {}, "environment": {}, "command": "", "warnings": ()},
        {"ties": None, "description": "", "best_step": None, "training_seeds": 3},
    ],
    ids=["no training", "no prompts", "no protocol", "no ties"],
)
def test_a_part_that_is_missing_leaves_no_hole(
    report_data: ReportData, change: dict[str, object]
) -> None:
    few = dataclasses.replace(report_data, variants=report_data.variants[:3])
    text = page.html(dataclasses.replace(few, **change))  # type: ignore[arg-type]
    assert "None" not in "".join(elements(text).text)
    assert ("training-w" in text) == ("training" not in change)
    assert ('id="samples"' in text) == ("prompts" not in change)


def test_only_names_and_sizes_are_enough(tmp_path: Path) -> None:
    rows = (VariantRow("a", "none", 100), VariantRow("b", "rtn", 50))
    text = page.html(ReportData("bare", "a", rows))
    assert "b is 2.0\u00d7 smaller than a; its quality was not compared." in text
    assert "<figure>" not in text
    assert "None" not in "".join(elements(text).text)


def test_one_variant_alone_is_a_page_too(report_data: ReportData) -> None:
    alone = dataclasses.replace(report_data, variants=report_data.variants[:1], prompts=())
    text = page.html(alone)
    assert "there is nothing to compare it with yet" in text
    assert "trade-w" not in text


def test_one_document_gives_infinite_intervals_and_still_a_page(report_data: ReportData) -> None:
    wide = Estimate(0.01, float("-inf"), float("inf"), 1)
    rows = tuple(
        dataclasses.replace(row, delta_bits_per_byte=wide, kl_mean=wide, bits_per_byte=wide)
        for row in report_data.variants[:3]
    )
    data = dataclasses.replace(report_data, variants=rows, ties=None)
    assert "inf" not in re.sub(r"[a-z]inf|info", "", "".join(elements(page.html(data)).text))


def test_any_name_is_shown_as_it_is(report_data: ReportData) -> None:
    names = ("größe-4ビット", "\U0001f98a fox", "a&b <c> \"d\" 'e'", "x" * 80)
    rows = [
        dataclasses.replace(row, name=name)
        for row, name in zip(report_data.variants[1:], names, strict=False)
    ]
    data = dataclasses.replace(report_data, variants=(report_data.variants[0], *rows), ties=None)
    text = "".join(elements(page.html(data)).text)
    assert all(name in text for name in names)


def test_identifiers_are_unique_and_references_resolve(report_html: str) -> None:
    found = elements(report_html).found
    ids = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(ids) == len(set(ids))
    used = {a["href"] for _, a in found if (a.get("href") or "").startswith("#")}
    assert {str(one)[1:] for one in used} <= set(ids)
    labels = " ".join(a["aria-labelledby"] or "" for _, a in found if "aria-labelledby" in a)
    assert set(labels.split()) <= set(ids)


def test_headings_descend_one_level_at_a_time(report_html: str) -> None:
    levels = [int(tag[1]) for tag, _ in elements(report_html).found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))


def test_every_picture_has_a_name_and_a_description(report_html: str) -> None:
    pictures = re.findall(r'<svg class="(?:wide|narrow)".*?</svg>', report_html, re.DOTALL)
    assert len(pictures) == 16  # four views, four other pictures, each wide and narrow
    for picture in pictures:
        assert re.search(r"<title [^>]*>\S.*?</title><desc [^>]*>\S.*?</desc>", picture)


def test_every_colour_of_a_picture_follows_the_theme(report_html: str) -> None:
    for picture in re.findall(r"<svg.*?</svg>", report_html, re.DOTALL):
        assert not re.findall(r"(?:fill|stroke): (?!none|var\(--)[^;\"]+", picture)
        assert set(re.findall(r"var\(--([a-z0-9-]+)\)", picture)) <= set(palette.LIGHT)


@pytest.mark.parametrize("theme", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_text_has_the_contrast_that_guidelines_ask_for(theme: dict[str, str]) -> None:
    pairs = [("ink", "mark"), ("muted", "raised")]
    for ground in ("paper", "band"):
        pairs += [(name, ground) for name in ("ink", "muted", "pass", "fail", "unsure")]
    for text, ground in pairs:
        assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
    for index in range(palette.SERIES):
        assert contrast(theme[f"series-{index}"], theme["paper"]) >= 3.0


def contrast(first: str, second: str) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_both_themes_define_the_same_colours() -> None:
    assert list(palette.LIGHT) == list(palette.DARK)


def test_a_base_that_is_not_there_is_an_error(report_data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="base 'fp64' is no variant"):
        page.build_report(dataclasses.replace(report_data, base="fp64"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_two_variants_of_one_name_are_an_error(report_data: ReportData, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'fp32' came twice"):
        page.build_report(named(report_data, "fp32"), tmp_path)


def test_an_unknown_component_is_an_error_not_a_lost_byte(tmp_path: Path) -> None:
    rows = (VariantRow("a", "none", 10, components={"optimizer": 10}),)
    with pytest.raises(UsageError, match="'optimizer' is unknown"):
        page.build_report(ReportData("t", "a", rows), tmp_path)


def test_a_model_of_eighty_blocks_still_makes_a_small_page(report_data: ReportData) -> None:
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    errors = tuple(
        (f"model.layers.{block}.self_attn.{kind}", 0.001 * (1 + block) * (1 + i))
        for block in range(80)
        for i, kind in enumerate(kinds)
    )
    rows = tuple(dataclasses.replace(row, layer_errors=errors) for row in report_data.variants)
    picture = plots.layer_errors(dataclasses.replace(report_data, variants=rows))
    assert len(picture.encode()) < 1_500_000


def test_the_ledger_names_every_weight_of_every_variant(
    report_html: str, report_data: ReportData
) -> None:
    sites = [site for row in report_data.variants for site in row.sites]
    assert len(sites) > 100
    assert report_html.count('<th scope="row">transformer.h.') == len(sites)
    site = report_data.variants[1].sites[0]
    cells = (f"{site.nbytes:,}", f"{site.bits_per_weight:.2f}", "384 × 128", site.format)
    assert all(f"<td>{cell}</td>" in report_html for cell in cells)


def test_a_protocol_that_joins_texts_speaks_of_blocks(report_data: ReportData) -> None:
    whole = elements(page.html(report_data)).text
    blocks = dataclasses.replace(
        report_data, protocol={**report_data.protocol, "protocol": "blocks(...)", "unit": "block"}
    )
    joined = " ".join(elements(page.html(blocks)).text)
    assert "Block by block" in joined
    assert "blocks it loses" in joined or "blocks it differs" in joined
    assert "Document by document" in " ".join(whole)
    assert "document by document" not in joined
