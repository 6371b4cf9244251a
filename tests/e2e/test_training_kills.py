"""SIGKILL at 30 random moments: every resumed training ends in the bytes of a whole one.

The same harness must catch a twin that writes its checkpoints in place.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kill_server import KillServer

from quantale.core.files import latest_valid, verify

pytestmark = pytest.mark.slow

KILLS = 30
FEWER = 10
"""Kills of a kind of training that differs in its state alone."""
CHECKPOINT_EVERY = 2


@dataclass(frozen=True)
class Outcome:
    """One killed and resumed training."""

    same_bytes: bool
    lost_steps: int
    checkpoint: int
    while_writing: bool


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[KillServer]:
    script = Path(__file__).with_name("training_victim.py")
    server = KillServer(script, tmp_path / "stderr.txt")
    yield server
    server.stop()


def result_of(target: Path) -> dict[str, bytes]:
    """Every byte of a finished training except how long it took."""
    if not target.is_dir():
        return {}
    verify(target, full=True)
    files = [target / "metrics.jsonl", *sorted((target / "model").iterdir())]
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in files}


def kills(
    victim: KillServer,
    folder: Path,
    *,
    broken: bool,
    method: str = "full",
    kind: str = "plain",
    number: int = KILLS,
    thorough: bool = False,
) -> Iterator[Outcome]:
    """Kill trainings at random moments, resume each to its end and compare it with a whole one.

    Where it is told to be thorough, it goes on until a kill has hit a checkpoint being written.
    """
    whole = folder / "whole"
    how: dict[str, Any] = {"broken": broken, "method": method, "kind": kind}
    victim.order(target=str(folder / "warm-up"), **how)
    seconds = victim.order(target=str(whole), **how)["seconds"]
    expected = result_of(whole)
    weights = "adapter_model" if method.endswith("lora") else "model"
    assert set(expected) >= {"metrics.jsonl", f"model/{weights}.safetensors"}
    moments = random.Random(20)
    count, is_hit = 0, not thorough
    for attempt in range(4 * number):
        target = folder / f"run-{attempt}"
        answer = victim.order(target=str(target), kill_after=moments.uniform(0, seconds), **how)
        if not answer["killed"]:
            assert result_of(target) == expected
            continue
        outcome = resumed(victim, target, expected, how)
        yield outcome
        count, is_hit = count + 1, is_hit or outcome.while_writing
        if count >= number and is_hit:
            return
    if count < number:
        pytest.fail(f"only {count} of {4 * number} trainings were still running when killed")


def resumed(
    victim: KillServer, target: Path, expected: dict[str, bytes], how: dict[str, Any]
) -> Outcome:
    """Resume a killed training and say how it ended."""
    journal = target.with_suffix(".journal")
    reached = [0, *map(int, journal.read_text().split())][-1] if journal.exists() else 0
    if target.exists():  # killed after the final rename: nothing is left to do
        return Outcome(result_of(target) == expected, 0, reached, False)
    checkpoints = target.with_name(f".{target.name}.partial") / "checkpoints"
    newest = latest_valid(checkpoints, "step-*")
    step = 0 if newest is None else int(newest.name.removeprefix("step-"))
    while_writing = any(checkpoints.glob(".step-*.tmp"))
    victim.order(target=str(target), **how)
    return Outcome(result_of(target) == expected, reached - step, step, while_writing)


@pytest.mark.parametrize("method", ["full", "qat", "distill", "heal", "lora", "qlora"])
def test_every_killed_training_resumes_to_the_bytes_of_a_whole_one(
    method: str, victim: KillServer, tmp_path: Path
) -> None:
    outcomes = list(kills(victim, tmp_path, broken=False, method=method, thorough=True))
    assert len(outcomes) >= KILLS
    assert all(outcome.same_bytes for outcome in outcomes)
    assert max(outcome.lost_steps for outcome in outcomes) <= CHECKPOINT_EVERY
    assert len({outcome.checkpoint for outcome in outcomes}) >= 5, "kills were not spread"
    assert any(outcome.while_writing for outcome in outcomes), "no kill hit a checkpoint"


@pytest.mark.parametrize("kind", ["8-bit", "epochs"])
def test_other_states_resume_to_the_same_bytes(
    kind: str, victim: KillServer, tmp_path: Path
) -> None:
    """Moments in 8 bits; and epochs, recomputed blocks and an early end."""
    outcomes = list(kills(victim, tmp_path, broken=False, kind=kind, number=FEWER))
    assert all(outcome.same_bytes for outcome in outcomes)
    assert len({outcome.checkpoint for outcome in outcomes}) >= 3, "kills were not spread"
    lines = (tmp_path / "whole/metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])["step"]
    assert last == 24 if kind == "8-bit" else last < 36, "the early end never came"


def test_the_harness_catches_a_writer_without_rename_and_manifest(
    victim: KillServer, tmp_path: Path
) -> None:
    assert any(not outcome.same_bytes for outcome in kills(victim, tmp_path, broken=True))
