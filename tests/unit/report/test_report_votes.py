"""Blind votes on the comparison page."""

import runpy
from dataclasses import replace
from pathlib import Path

from xss_payloads import PAYLOADS

from quantale.evaluation.votes import Ballot, Choice, standings
from quantale.report import votes
from quantale.report.markdown import markdown
from quantale.report.model import ReportData
from quantale.report.page import html

FAKE = Path(__file__).parent / "fake_report.py"


def voted(*ballots: tuple[str, str, Choice, int]) -> ReportData:
    data: ReportData = runpy.run_path(str(FAKE))["report_data"]()
    cast = [Ballot(a, b, choice) for a, b, choice, times in ballots for _ in range(times)]
    return replace(data, votes=tuple(standings(cast, [row.name for row in data.variants])))


def test_shares_stand_with_their_intervals_and_the_preferred_model() -> None:
    data = voted(("gptq-w4", "rtn-w3", "a", 14), ("rtn-w3", "gptq-w4", "a", 1),
                 ("gptq-w4", "rtn-w3", "tie", 5))  # fmt: skip
    page = html(data)
    assert "In 20 blind votes, gptq-w4 is preferred to rtn-w3" in page
    assert "70\u00a0%<small>48 to 85</small>" in page
    assert "| gptq-w4 and rtn-w3 |" in markdown(data)


def test_few_votes_tell_nothing() -> None:
    assert votes.finding(voted(("fp32", "rtn-w4", "a", 1))) == (
        "1 blind vote does not tell the models apart"
    )
    data = voted(("fp32", "rtn-w4", "a", 2), ("fp32", "rtn-w3", "tie", 1))
    assert votes.finding(data) == "3 blind votes do not tell the models apart"


def test_without_votes_there_is_no_block() -> None:
    data = voted()
    assert "Blind votes" not in html(data)
    assert "Blind votes" not in markdown(data)


def test_a_models_name_stays_text() -> None:
    page = html(voted((PAYLOADS[0], "fp32", "a", 1)))
    assert PAYLOADS[0] not in page
    assert "&lt;script&gt;window.pwned" in page
