"""The side-by-side page in a real browser: typed, streamed, voted on, attacked, looked at.

Set QUANTALE_SHOTS to a folder to keep the screenshots for looking at.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from chromium import BROWSER, Chromium, Tab, tab
from PIL import Image
from stub_writers import UNKNOWN
from xss_payloads import PAYLOADS

from quantale.report import palette

SERVER = Path(__file__).parent / "demo_server.py"
ROOT = Path(__file__).parents[2]
TEXTS = '[...document.querySelectorAll(".q-card .q-text")].map((one) => one.textContent)'
BEGUN = 'document.querySelector(".q-status")'
DONE = 'document.querySelector(".q-status")?.textContent.startsWith("All answers")'
OPEN = 'document.querySelector("#q-vote-tie")?.disabled === false'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome is installed"),
]


@contextmanager
def served(kind: str, votes: Path) -> Iterator[str]:
    """Serve a page of stubs and give its address."""
    paths = os.pathsep.join(str(ROOT / part) for part in ("src", "tests/support"))
    started = subprocess.Popen(
        [sys.executable, str(SERVER), kind, str(votes)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "GRADIO_ANALYTICS_ENABLED": "False"},
    )
    assert started.stdout is not None
    try:
        url = started.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), "the page did not start"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        started.terminate()
        started.wait(20)
        started.stdout.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("votes") / "votes.jsonl"


@pytest.fixture(scope="module")
def stories(votes: Path) -> Iterator[str]:
    with served("stories", votes) as url:
        yield url


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served("hostile", tmp_path_factory.mktemp("hostile") / "votes.jsonl") as url:
        yield url


def ready(page: Tab, url: str) -> None:
    page.open(url)
    page.wait('document.querySelector("#q-prompt textarea")')
    page.wait('document.querySelector("#q-answers .q-card")')


def until(page: Tab, sign: str, act: Callable[[], None]) -> None:
    """Act until there is a sign of it: a page shows its buttons a moment before it hears them."""
    for patience in (5, 5, 60):
        act()
        try:
            page.wait(sign, patience)
            return
        except AssertionError:
            if patience > 5:
                raise


def write(page: Tab, prompt: str) -> None:
    """Ask for answers on a page that shows none, and wait until they begin or are refused."""
    page.type("#q-prompt textarea", prompt)
    until(page, BEGUN, lambda: page.click("#q-go"))


def test_what_is_typed_is_answered_by_all_as_it_is_written(browser: Chromium, stories: str) -> None:
    with tab(browser) as page:
        ready(page, stories)
        write(page, "Once upon a time")
        page.wait(f"{TEXTS}.every((text) => text.length > 0)")
        early = page.evaluate(TEXTS)
        page.wait(DONE)
        late = page.evaluate(TEXTS)
        assert all(after.startswith(before) for before, after in zip(early, late, strict=True))
        assert len(early[0]) < len(late[0])
        marks = page.evaluate(
            '[...document.querySelectorAll("mark")].map((one) => one.textContent)'
        )
        assert marks == ["big", "blue"]
        facts = page.evaluate('document.querySelector(".q-facts").textContent')
        for label in ("on disk", "bits per weight", "first token", "per token", "in memory",
                      "kernel"):  # fmt: skip
            assert label in facts
        assert page.problems == []


def test_the_browser_talks_to_nobody_but_the_page(browser: Chromium, stories: str) -> None:
    with tab(browser) as page:
        ready(page, stories)
        write(page, "Once")
        page.wait(DONE)
        page.click("#q-blind input")
        time.sleep(1)
        assert len(page.requests) > 20
        assert foreign(page, stories) == []


def foreign(page: Tab, url: str) -> list[str]:
    return [one for one in page.requests if not one.startswith((url, "data:", "blob:"))]


def test_a_request_to_somebody_else_would_be_seen_and_is_not_let_out(
    browser: Chromium, stories: str
) -> None:
    with tab(browser) as page:
        ready(page, stories)
        script = 'fetch("http://127.0.0.2:9/x").then(() => "sent", () => "refused")'
        assert page.evaluate(script) == "refused"
        page.wait("true")
        time.sleep(0.5)
        assert any("content" in one.lower() or "csp" in one.lower() for one in page.problems)
    with tab(browser) as page:
        page.open("data:text/html,<img src=http://127.0.0.2:9/x>")
        time.sleep(0.5)
        assert foreign(page, stories) == ["http://127.0.0.2:9/x"]


def test_stop_ends_the_answers_and_leaves_what_is_written(browser: Chromium, stories: str) -> None:
    with tab(browser) as page:
        ready(page, stories)
        write(page, "Once")
        page.wait(f"{TEXTS}[0].length > 5")
        page.press("Escape")
        page.wait('document.querySelector("#q-stop").disabled')
        page.wait('document.querySelector(".q-end").textContent.includes("stopped")')
        first = page.evaluate(f"{TEXTS}[0]")
        assert first
        assert not first.endswith("bridge.")


def test_a_blind_round_hides_the_names_until_its_one_vote(
    browser: Chromium, stories: str, votes: Path
) -> None:
    with tab(browser) as page:
        ready(page, stories)
        page.click("#q-blind input")
        write(page, "Once upon a time")
        page.wait(f"{TEXTS}.length == 2 && {TEXTS}[0].length > 0")
        heads = '[...document.querySelectorAll(".q-card h3")].map((one) => one.textContent)'
        assert page.evaluate(heads) == ["A", "B"]
        assert page.evaluate('document.querySelector("#q-vote-a").disabled')
        page.wait(OPEN)
        hidden = page.evaluate('document.querySelector("#q-answers").textContent')
        for secret in ("fp32", "4bit", "3bit", "MB", "ms", "kernel"):
            assert secret not in hidden
        page.click("#q-vote-a")
        page.wait(f"{heads}[0].startsWith('A: ')")
        named = [text.split(": ")[1] for text in page.evaluate(heads)]
        page.wait('document.querySelector("#q-vote-a").disabled')
        (line,) = votes.read_text(encoding="utf-8").splitlines()
        record = json.loads(line)
        assert [record["a"], record["b"], record["choice"]] == [*named, "a"]
        assert record["prompt"] == "Once upon a time"
        assert "100" in page.evaluate('document.querySelector("#q-tally").textContent')


def test_every_payload_of_a_model_stays_text(browser: Chromium, hostile: str) -> None:
    assert len(PAYLOADS) >= 30
    with tab(browser) as page:
        ready(page, hostile)
        write(page, "Once")
        page.wait(DONE)
        texts = page.evaluate(TEXTS)
        for payload in PAYLOADS:
            assert payload in texts[1]
        assert_unharmed(page, hostile)


@pytest.mark.parametrize("payload", [PAYLOADS[1], PAYLOADS[5], PAYLOADS[24], PAYLOADS[25]])
def test_a_hostile_prompt_stays_text_and_is_not_run(
    browser: Chromium, stories: str, payload: str
) -> None:
    with tab(browser) as page:
        ready(page, stories)
        own = 'document.querySelector("#q-own textarea")?.offsetParent'
        until(page, own, lambda: page.click("[role=tab]:nth-of-type(2)"))
        page.type("#q-own textarea", payload)
        scores = 'document.querySelector("#q-scores table")'
        until(page, scores, lambda: page.click("#q-score"))
        assert_unharmed(page, stories)


def assert_unharmed(page: Tab, url: str) -> None:
    time.sleep(0.5)
    assert page.evaluate("window.pwned") is None
    assert page.dialogs == []
    assert foreign(page, url) == []
    odd = "#q-answers :is(script, img, svg, iframe, a, input, video, audio, object, style, link)"
    assert page.evaluate(f'document.querySelectorAll("{odd}").length') == 0


def test_the_harness_sees_code_that_runs(browser: Chromium, stories: str) -> None:
    with tab(browser) as page:
        ready(page, stories)
        page.evaluate(f"document.body.insertAdjacentHTML('beforeend', {json.dumps(PAYLOADS[1])})")
        page.wait("window.pwned === 1")
        with pytest.raises(AssertionError):
            assert_unharmed(page, stories)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "this model needs a prompt"),
        ("\U0001f600\U0001f3fd\u200d\u2764\ufe0f \u202eabc \u0000", ""),
        (f"one {UNKNOWN} two", "1 unknown in the prompt"),
        ("word " * 30_000, "too long"),
    ],
    ids=["empty", "emoji", "unknown", "long"],
)
def test_any_prompt_is_safe_and_told(
    browser: Chromium, stories: str, typed: str, told: str
) -> None:
    with tab(browser) as page:
        ready(page, stories)
        write(page, typed)
        page.wait('document.querySelector("#q-stop").disabled')
        seen = page.evaluate(
            'document.querySelector("#q-notice").textContent'
            ' + document.querySelector("#q-answers").textContent'
        )
        assert told in seen
        assert not page.evaluate('document.querySelector("#q-go").disabled')
        assert page.problems == []


def test_the_page_is_used_by_the_keyboard_alone(browser: Chromium, stories: str) -> None:
    with tab(browser) as page:
        ready(page, stories)
        page.evaluate('document.querySelector("#q-prompt textarea").focus()')
        page.call("Input.insertText", text="Once")
        until(page, BEGUN, lambda: page.press("Enter", modifiers=2))
        page.wait(DONE)
        reached = set()
        page.evaluate("document.activeElement.blur()")
        for _ in range(60):
            page.press("Tab")
            reached.add(
                page.evaluate(
                    '(document.activeElement.closest("[id^=q-]") || document.body).id + " "'
                    " + document.activeElement.className"
                )
            )
        words = " ".join(reached)
        for place in ("q-prompt", "q-go", "q-temperature", "q-top-k", "q-top-p", "q-length",
                      "q-seed", "q-blind", "q-copy", "q-text", "q-example"):  # fmt: skip
            assert place in words, place


def test_copy_takes_the_answer_as_text(browser: Chromium, stories: str) -> None:
    with tab(browser) as page:
        browser.call(
            "Browser.grantPermissions",
            permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
            origin=stories.rstrip("/"),
        )
        ready(page, stories)
        write(page, "Once")
        page.wait(DONE)
        page.call("Page.bringToFront")
        page.click(".q-copy")
        page.wait('document.querySelector(".q-copy").textContent === "Copied"')
        assert page.evaluate("navigator.clipboard.readText()") == page.evaluate(f"{TEXTS}[0]")


def test_an_example_fills_every_field_of_a_template(browser: Chromium, tmp_path: Path) -> None:
    with served("structured", tmp_path / "votes.jsonl") as url, tab(browser) as page:
        ready(page, url)
        page.click(".q-example")
        boxes = '[...document.querySelectorAll("#q-field-0 :is(input, textarea), #q-field-1'
        boxes += ' :is(input, textarea), #q-prompt textarea")].map((one) => one.value)'
        page.wait(f"{boxes}.every((text) => text)")
        assert page.evaluate(boxes)[0] == "fantasy"
        page.click("#q-blind input")
        page.click("#q-go")
        page.wait(OPEN)
        page.click("#q-vote-bad")
        page.wait('document.querySelector("#q-tally table")')
        record = json.loads((tmp_path / "votes.jsonl").read_text(encoding="utf-8"))
        assert record["prompt"].startswith("[GENRE]: fantasy\n[CHARACTERS]: a shy dragon")
        assert record["prompt"].endswith("[STORY]:")
        assert record["choice"] == "bad"


def test_classifiers_answer_side_by_side(browser: Chromium, tmp_path: Path) -> None:
    with served("classes", tmp_path / "votes.jsonl") as url, tab(browser) as page:
        ready(page, url)
        page.type("#q-prompt textarea", "The striker scored twice.")
        judged = 'document.querySelectorAll(".q-says").length === 2'
        until(page, judged, lambda: page.press("Enter", modifiers=2))
        says = page.evaluate('[...document.querySelectorAll(".q-says")].map((o) => o.textContent)')
        assert says == ["World", "Sports"]
        assert page.evaluate('document.querySelectorAll(".q-says mark").length') == 1
        assert foreign(page, url) == []
        keep(page, tmp_path, "classes")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_both_themes_and_widths_hold_the_page(
    browser: Chromium, stories: str, tmp_path: Path, theme: str, width: int
) -> None:
    with tab(browser, (width, 844), theme) as page:
        ready(page, stories)
        write(page, "Once upon a time")
        page.wait(DONE)
        time.sleep(0.5)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = page.evaluate(
            """[...document.querySelectorAll("button, input, textarea, .q-card, .q-facts dd")]
            .filter((one) => one.offsetParent).map((one) => one.getBoundingClientRect())
            .map((box) => [box.left, box.right, box.width])"""
        )
        assert all(left >= -1 and right <= width + 1 for left, right, _ in boxes)
        shot = keep(page, tmp_path, f"{width}-{theme}")
    with Image.open(shot) as picture:
        colours = palette.LIGHT if theme == "light" else palette.DARK
        paper = tuple(int(colours["paper"][i : i + 2], 16) for i in (1, 3, 5))
        counted: Any = picture.convert("RGB").getcolors(maxcolors=1 << 24) or []
        assert max(counted)[1] == paper


def keep(page: Tab, folder: Path, name: str) -> Path:
    shot = Path(os.environ.get("QUANTALE_SHOTS", str(folder))) / f"demo-{name}.png"
    page.screenshot(shot)
    return shot


def test_another_host_or_origin_gets_nothing_on_any_route(stories: str) -> None:
    join = json.dumps({"fn_index": 0, "data": [], "session_hash": "x"}).encode()
    for path, body in (("", None), ("config", None), ("gradio_api/queue/join", join),
                       ("gradio_api/run/predict", join), ("assets/x.js", None),
                       ("gradio_api/heartbeat/x", None)):  # fmt: skip
        for name, value, status in (
            ("Host", "evil.example", 421),
            ("Origin", "http://evil.example", 403),
            ("Sec-Fetch-Site", "cross-site", 403),
        ):
            request = Request(
                stories + path, body, {name: value, "Content-Type": "application/json"}
            )
            with pytest.raises(OSError, match=f"HTTP Error {status}"):
                urlopen(request, timeout=10)
