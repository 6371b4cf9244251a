"""Blind rounds and the file of their votes."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from stub_writers import StubWriter

from quantale.core.errors import DataError, EnvironmentLackingError, UsageError
from quantale.serve.ballots import Ballots
from quantale.stages.answering import Settings

WRITERS = [StubWriter(name) for name in ("one", "two", "three")]


def ballots(folder: Path, seed: int = 0) -> Ballots:
    return Ballots(WRITERS, folder / "votes.jsonl", random.Random(seed))


def test_every_pair_gets_as_many_rounds_and_both_orders_come(tmp_path: Path) -> None:
    box = ballots(tmp_path)
    drawn = [box.draw().order for _ in range(300)]
    pairs = Counter(frozenset(order) for order in drawn)
    assert sorted(pairs.values()) == [100, 100, 100]
    orders = Counter(drawn)
    assert len(orders) == 6
    assert min(orders.values()) > 25


def test_a_vote_is_a_line_with_what_was_asked_and_answered(tmp_path: Path) -> None:
    box = ballots(tmp_path)
    drawn = box.draw()
    box.close(drawn, "Once \u2603", Settings(seed=3), ["left", "right"])
    assert box.vote(drawn.id, "b") == drawn
    (line,) = (tmp_path / "votes.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    names = [WRITERS[index].name for index in drawn.order]
    assert [record["a"], record["b"]] == names
    assert record["choice"] == "b"
    assert record["prompt"] == "Once \u2603"
    assert record["answers"] == ["left", "right"]
    assert record["settings"]["seed"] == 3
    assert record["sha256"] == dict.fromkeys(names, "00" * 32)
    (standing,) = box.tally()
    assert standing.n == 1


def test_a_round_has_one_vote_and_needs_its_answers(tmp_path: Path) -> None:
    box = ballots(tmp_path)
    drawn = box.draw()
    assert box.vote(drawn.id, "a") is None
    box.close(drawn, "p", Settings(), ["x", "y"])
    assert box.vote("made up", "a") is None
    assert box.vote(drawn.id, "tie") == drawn
    assert box.vote(drawn.id, "tie") is None
    assert len((tmp_path / "votes.jsonl").read_text().splitlines()) == 1


def test_an_unknown_choice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one of a, b, tie, bad"):
        ballots(tmp_path).vote("x", "c")


def test_votes_of_before_count_towards_the_next_draw(tmp_path: Path) -> None:
    lines = [{"a": "one", "b": "two", "choice": "a"}] * 10
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "votes.jsonl").write_text(text)
    drawn = [frozenset(ballots(tmp_path, seed).draw().order) for seed in range(20)]
    assert frozenset((0, 1)) not in drawn


def test_one_model_has_no_blind_round(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two models"):
        Ballots(WRITERS[:1], tmp_path / "votes.jsonl").draw()


def test_a_vote_that_cannot_be_written_is_not_lost(tmp_path: Path) -> None:
    box = Ballots(WRITERS, tmp_path / "missing" / "votes.jsonl")
    drawn = box.draw()
    box.close(drawn, "p", Settings(), ["x", "y"])
    with pytest.raises(EnvironmentLackingError, match="cannot be written"):
        box.vote(drawn.id, "a")
    (tmp_path / "missing").mkdir()
    assert box.vote(drawn.id, "a") == drawn


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "votes.jsonl").write_text('{"a": "one", "b": "one", "choice": "a"}\n')
    with pytest.raises(DataError, match="vote 1"):
        ballots(tmp_path)
