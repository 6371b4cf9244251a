"""The page in a real browser: phone and desk, light and dark, sorted and printed.

Set QUANTALE_SHOTS to a folder to keep the screenshots for looking at.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from quantale.report import palette
from quantale.report.page import build_report

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
FAKE = Path(__file__).parents[1] / "unit" / "report" / "fake_report.py"
WIDTHS = (390, 820, 1280)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]

PROBE = """<!doctype html><meta charset="utf-8"><body>
%s
<pre id="out"></pre>
<script>
const seen = (node) => node.getClientRects().length > 0;
const box = (node) => { const r = node.getBoundingClientRect();
  return {text: node.textContent, left: r.left, right: r.right, top: r.top, bottom: r.bottom}; };
const report = (frame) => {
  const page = frame.contentDocument;
  const pictures = [...page.querySelectorAll("figure svg")].filter(seen).map((svg) => ({
    box: box(svg),
    font: parseFloat(frame.contentWindow.getComputedStyle(svg.querySelector("text")).fontSize)
      * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width,
    texts: [...svg.querySelectorAll("text")].map(box)}));
  const names = () => [...page.querySelectorAll("#numbers tbody th")].map(
    (cell) => cell.innerText.split("\\n")[0].trim());
  const buttons = page.querySelectorAll("#numbers thead button");
  const sorted = [];
  for (const button of [buttons[1], buttons[1], buttons[6]]) {
    button.click();
    sorted.push({names: names(), aria: button.closest("th").getAttribute("aria-sort")});
  }
  const views = [...page.querySelectorAll("input[name=view]")].map((pick) => {
    pick.click();
    return [...page.querySelectorAll(".view")].map((one) => Number(seen(one)));
  });
  return {views, width: page.documentElement.clientWidth, scroll: page.documentElement.scrollWidth,
    pictures, sorted, buttons: buttons.length,
    beyond: Math.max(...[...page.querySelectorAll(".scroll")].map(
      (part) => part.scrollWidth - part.clientWidth))};
};
addEventListener("load", () => {
  const found = [...document.querySelectorAll("iframe")].map(report);
  document.getElementById("out").textContent = JSON.stringify(found);
});
</script>
"""


def run(arguments: Sequence[str], folder: Path) -> str:
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("browser")
    build_report(runpy.run_path(str(FAKE))["report_data"](), made)
    return made


@pytest.fixture(scope="module")
def probed(folder: Path) -> list[dict[str, Any]]:
    frames = "".join(
        f'<iframe src="report.html" style="border:0;width:{width}px;height:3000px"></iframe>'
        for width in WIDTHS
    )
    probe = folder / "probe.html"
    probe.write_text(PROBE.replace("%s", frames), encoding="utf-8")
    dumped = run(["--virtual-time-budget=20000", "--dump-dom", probe.as_uri()], folder)
    found = re.search(r'<pre id="out">(.+?)</pre>', dumped, re.DOTALL)
    assert found, "the probe wrote nothing"
    made: list[dict[str, Any]] = json.loads(unescape(found.group(1)))
    return made


def test_no_width_makes_the_page_scroll_sideways(probed: list[dict[str, Any]]) -> None:
    assert [page["width"] for page in probed] == list(WIDTHS)
    for page in probed:
        assert page["scroll"] <= page["width"]
    assert probed[-1]["beyond"] == 0  # tables are whole on a laptop


def test_pictures_stay_readable_and_their_words_apart(probed: list[dict[str, Any]]) -> None:
    for page in probed:
        assert len(page["pictures"]) == 5
        for picture in page["pictures"]:
            assert picture["font"] >= 9
            for text in picture["texts"]:
                assert text["left"] >= picture["box"]["left"] - 30
                assert text["right"] <= min(picture["box"]["right"] + 30, page["width"])
            assert overlaps(picture["texts"]) == []


def test_one_view_is_seen_and_a_click_shows_another(probed: list[dict[str, Any]]) -> None:
    for page in probed:
        assert page["views"] == [[int(i == k) for i in range(4)] for k in range(4)]


def overlaps(texts: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of words that cover each other by more than two pixels both ways."""
    return [
        (a["text"], b["text"])
        for i, a in enumerate(texts)
        for b in texts[i + 1 :]
        if min(a["right"], b["right"]) - max(a["left"], b["left"]) > 2
        and min(a["bottom"], b["bottom"]) - max(a["top"], b["top"]) > 4
    ]


def test_words_that_cover_each_other_would_be_found() -> None:
    place = {"left": 0, "right": 50, "top": 0, "bottom": 14}
    moved = {**place, "left": 40, "right": 90, "top": 5, "bottom": 19}
    assert overlaps([{"text": "a", **place}, {"text": "b", **moved}]) == [("a", "b")]
    assert overlaps([{"text": "a", **place}, {"text": "b", **moved, "left": 51}]) == []


def test_a_click_on_a_heading_sorts_and_gaps_go_last(probed: list[dict[str, Any]]) -> None:
    up, down, lost = probed[-1]["sorted"]
    assert (up["names"][0], up["names"][-1], up["aria"]) == ("gptq-w3-emb4", "fp32", "ascending")
    assert (down["names"][0], down["aria"]) == ("fp32", "descending")
    assert probed[-1]["buttons"] == 12
    assert (lost["names"][0], lost["names"][-1]) == ("gptq-w8", "fp32")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_both_themes_paint_the_whole_page(folder: Path, theme: str, width: int) -> None:
    kept = Path(os.environ.get("QUANTALE_SHOTS", str(folder)))
    shot = kept / f"report-{width}-{theme}.png"
    frame = folder / f"frame-{width}.html"
    frame.write_text(
        f'<meta name="color-scheme" content="light dark"><body style="margin:0"><iframe '
        f'src="report.html" style="border:0;width:{width}px;height:5200px"></iframe>',
        encoding="utf-8",
    )
    scheme = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    size = f"--window-size={max(width, 500)},5200"
    run([*scheme, f"--screenshot={shot}", size, frame.as_uri()], folder)
    with Image.open(shot) as picture:
        pixels = picture.convert("RGB")
        colours = palette.LIGHT if theme == "light" else palette.DARK
        paper = tuple(int(colours["paper"][i : i + 2], 16) for i in (1, 3, 5))
        assert pixels.getpixel((5, 5)) == paper
        counted = pixels.crop((0, 0, width, 5200)).getcolors(maxcolors=1 << 24) or []
        share = max(count for count, _ in counted) / (width * 5200)
        assert 0.5 < share < 0.97
        assert max(counted)[1] == paper


def test_it_prints_on_a_few_pages(folder: Path) -> None:
    printed = folder / "report.pdf"
    page = (folder / "report.html").as_uri()
    run(["--no-pdf-header-footer", f"--print-to-pdf={printed}", page], folder)
    content = printed.read_bytes()
    assert content.startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", content)) <= 12
