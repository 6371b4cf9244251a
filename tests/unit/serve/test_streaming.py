"""Several answers at once."""

import threading
import time

import pytest
from stub_writers import StubWriter

from quantale.serve.streaming import Answer, Race, in_step
from quantale.stages.answering import Settings


def test_all_answers_come_and_end() -> None:
    writers = [StubWriter("one", "a b c"), StubWriter("two", "d e")]
    *_, last = Race(writers, "prompt", Settings(seed=7)).snapshots()
    assert [answer.text for answer in last] == ["a b c", "d e"]
    assert [(answer.state, answer.reason) for answer in last] == [("done", "length")] * 2
    assert [writer.asked for writer in writers] == [[("prompt", Settings(seed=7))]] * 2


def test_a_first_token_is_shown_at_once_and_the_rest_a_few_times_a_second() -> None:
    story = " ".join(["word"] * 40)
    started = time.perf_counter()
    race = Race([StubWriter("one", story, pause=0.02)], "prompt", Settings())
    times = [time.perf_counter() - started for _ in race.snapshots(interval=0.2)]
    assert times[0] < 0.15
    assert len(times) <= 8


def test_the_first_tokens_of_three_are_not_held_back_by_the_slowest() -> None:
    writers = [StubWriter("quick", "a b c"), StubWriter("slow", "d e f", pause=0.3)]
    first = next(iter(Race(writers, "prompt", Settings()).snapshots(interval=5.0)))
    assert first[0].pieces
    assert not first[1].pieces


def test_a_refusal_and_a_fault_are_told_and_the_others_go_on() -> None:
    writers = [StubWriter("one", "a b"), StubWriter("two", "c", problem="no memory")]
    *_, last = Race(writers, "prompt", Settings()).snapshots()
    assert [answer.state for answer in last] == ["done", "failed"]
    assert last[1].reason == "no memory"
    assert last[1].text == "c"
    *_, last = Race(writers, "", Settings()).snapshots()
    assert [answer.reason for answer in last] == ["this model needs a prompt"] * 2


@pytest.mark.parametrize("how", ["stop", "close"])
def test_stopping_frees_the_streams_within_a_token(how: str) -> None:
    writer = StubWriter("one", " ".join(["word"] * 1000), pause=0.02)
    race = Race([writer], "prompt", Settings(length=1000))
    snapshots = race.snapshots(interval=0.01)
    next(snapshots)
    if how == "stop":
        threading.Timer(0.05, race.stop).start()
        *_, last = snapshots
        assert last[0].reason == "cancelled"
        assert last[0].text.startswith("word")
    else:
        snapshots.close()
    until = time.monotonic() + 5
    while not writer.streams[0].is_closed and time.monotonic() < until:
        time.sleep(0.01)
    assert writer.streams[0].is_closed


def test_in_step_nobody_is_ahead_and_times_are_hidden() -> None:
    fast = Answer(("a", "b", "c", "d"), "done", "length", 0.1, 0.01)
    slow = Answer(("x", "y"), "writing", "", 0.3, 0.2)
    shown = in_step([fast, slow])
    assert [len(answer.pieces) for answer in shown] == [2, 2]
    assert [answer.state for answer in shown] == ["writing", "writing"]
    assert {(answer.first_token, answer.per_token) for answer in shown} == {(None, None)}
    over = in_step([fast, Answer(("x",), "done", "eos")])
    assert [answer.text for answer in over] == ["abcd", "x"]
    assert [answer.state for answer in over] == ["done", "done"]
    assert in_step([fast, Answer(state="failed", reason="why")])[1].state == "failed"
