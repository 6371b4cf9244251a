"""What blind votes add up to."""

import json
from pathlib import Path

import pytest
from scipy.stats import binomtest

from quantale.core.errors import DataError
from quantale.core.files import append_line
from quantale.evaluation.votes import Ballot, read_ballots, renamed, standings


def cast(a: str, b: str, choices: str) -> list[Ballot]:
    words = {"a": "a", "b": "b", "t": "tie", "x": "bad"}
    return [Ballot(a, b, words[one]) for one in choices]  # type: ignore[arg-type]


def test_votes_of_both_orders_are_one_pair() -> None:
    votes = [
        *cast("base", "small", "aab"),
        *cast("small", "base", "ax"),
        *cast("small", "base", "t"),
    ]
    (one,) = standings(votes, ["base", "small"])
    assert (one.first, one.second, one.wins, one.ties, one.bad, one.n) == (
        "base", "small", (2, 2), 1, 1, 6,
    )  # fmt: skip
    assert one.preferred is None


def test_models_named_like_choices_are_told_apart_from_them() -> None:
    (one,) = standings(cast("tie", "bad", "aatx"))
    assert (one.wins, one.ties, one.bad) == ((2, 0), 1, 1)


def test_shares_have_the_intervals_of_wilson() -> None:
    (one,) = standings(cast("base", "small", "a" * 7 + "b" * 2 + "t"))
    expected = binomtest(7, 10).proportion_ci(method="wilson")
    assert one.shares["first"].low == pytest.approx(expected.low, abs=1e-9)
    assert one.shares["first"].high == pytest.approx(expected.high, abs=1e-9)
    assert sum(share.value for share in one.shares.values()) == pytest.approx(1.0)


def test_a_preference_needs_decided_votes_that_a_coin_would_not_give() -> None:
    votes = [*cast("base", "small", "a" * 14 + "b" * 2 + "t" * 30), *cast("base", "tiny", "ab")]
    told, open_ = standings(votes, ["base"])
    assert told.p_holm == pytest.approx(2 * binomtest(14, 16).pvalue)
    assert told.preferred == "base"
    assert open_.preferred is None


def test_no_votes_are_no_standing() -> None:
    assert standings([]) == []


def test_votes_are_found_by_digest_and_others_left_out() -> None:
    kept = Ballot("x/model", "x/w4", "a", {"x/model": "11", "x/w4": "22"})
    other = Ballot("x/model", "y", "b", {"x/model": "11", "y": "33"})
    bare = Ballot("fp32", "w4", "b")
    assert renamed([kept, other, bare], {"11": "fp32", "22": "w4"}) == [Ballot("fp32", "w4", "a")]


def test_a_record_can_be_json() -> None:
    (one,) = standings(cast("base", "small", "aab"))
    record = json.loads(json.dumps(one.record(), allow_nan=False))
    assert record["votes"] == {"first": 2, "second": 1, "tie": 0, "bad": 0}
    assert record["shares"]["first"]["share"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "line",
    ["{}", '{"a": "x", "b": "y", "choice": "c"}', '{"a": "x", "b": "x", "choice": "a"}',
     '{"a": 1, "b": "x", "choice": "a"}'],
)  # fmt: skip
def test_what_is_no_vote_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"a": "x", "b": "y", "choice": "a"}\n' + line + "\n")
    with pytest.raises(DataError, match="vote 2"):
        read_ballots(path)


def test_a_line_torn_by_a_kill_does_not_eat_the_next(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    append_line(path, "one")
    with path.open("a") as file:
        file.write("tor")
    append_line(path, "two")
    assert path.read_text() == "one\ntor\ntwo\n"
