"""SIGKILL at 20 random moments: every resumed quantization ends in the bytes of a whole one.

The same harness must catch a twin that writes in place under the final name.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kill_server import KillServer

from quantale.core.files import MANIFEST, is_sealed, verify

pytestmark = pytest.mark.slow

KILLS = 20
WRITING = 4
"""Kills of these that wait for the writing of the result, a short part of the whole."""
BLOCKS = 5
SITES_A_BLOCK = 4


@dataclass(frozen=True)
class Outcome:
    """One killed and resumed quantization."""

    same_bytes: bool
    finished_blocks: int
    """Sealed blocks that the kill left."""
    mid_block: bool
    """Whether sites of an unfinished block had been quantized already."""
    while_writing: bool
    """Whether all blocks were finished but the run was not."""
    repeated: list[str]
    """Sites that the resumed process quantized."""


class Place:
    """Quantizations of one base model in children of a server."""

    def __init__(self, folder: Path, *, broken: bool, kind: str = "one file") -> None:
        self.folder, self.broken, self.kind = folder, broken, kind
        script = Path(__file__).with_name("quantize_victim.py")
        self.server = KillServer(script, folder / "stderr.txt")
        self.quantize("never")  # the first order makes the base model

    def quantize(
        self, name: str, kill_after: float = 600.0, *, writing: bool = False
    ) -> tuple[bool, float]:
        """Quantize into a folder; returns whether it was killed and how long it took.

        kill_after: seconds from the start, or with `writing` from the first file of the result.
        """
        answer = self.server.order(
            base=str(self.folder / "base"),
            target=str(self.folder / name),
            journal=str(self.folder / f"{name}.journal"),
            broken=self.broken,
            kind=self.kind,
            kill_after=kill_after,
            once=self.folder / f".{name}.partial" / "config.json" if writing else None,
        )
        if not self.broken:
            assert answer["killed"] or answer["code"] == 0, self.log()
        return answer["killed"], answer["seconds"]

    def log(self) -> str:
        """Return what the server's children said."""
        return (self.folder / "stderr.txt").read_text()[-2000:]

    def journal(self, name: str) -> list[str]:
        """Return the sites that the last process of this folder quantized."""
        path = self.folder / f"{name}.journal"
        return path.read_text().split() if path.exists() else []


@pytest.fixture(params=["sound"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    kind = "shards" if request.param == "shards" else "one file"
    made = Place(tmp_path, broken=request.param == "broken", kind=kind)
    yield made
    made.server.stop()


def result_of(target: Path) -> dict[str, bytes]:
    """Every byte of a finished run except how long it took."""
    if is_sealed(target):
        verify(target, full=True)
    ignored = {"timings.json", MANIFEST}
    files = [path for path in target.rglob("*") if path.is_file() and path.name not in ignored]
    kept = {path.relative_to(target): path.read_bytes() for path in files}
    hidden = {path for path in kept if path.parts[0] in {".key", ".lock", "scratch"}}
    return {path.as_posix(): content for path, content in kept.items() if path not in hidden}


def kills(place: Place) -> Iterator[Outcome]:
    """Kill runs at random moments spread over their length, and resume each to its end."""
    place.quantize("warm-up")
    seconds = min(place.quantize(name)[1] for name in ("whole", "again"))
    expected = result_of(place.folder / "whole")
    weights = {"one file": "model.safetensors", "shards": "model-00003-of-00006.safetensors"}
    assert set(expected) >= {"run.json", weights[place.kind], "layers.jsonl", "ledger.json"}
    assert result_of(place.folder / "again") == expected
    written = seconds_of_writing(place.folder / "whole")
    moments, count = random.Random(20), 0
    for attempt in range(4 * KILLS):
        name, writing = f"run-{attempt}", count >= KILLS - WRITING
        when = (count + moments.random()) / (KILLS - WRITING) * seconds
        when = moments.uniform(0, written) if writing else when
        killed, took = place.quantize(name, when, writing=writing)
        if killed:
            yield resumed(place, name, expected)
            count += 1
        else:
            assert result_of(place.folder / name) == expected
            seconds = min(seconds, took)
        if count == KILLS:
            return
    pytest.fail(f"only {count} of {4 * KILLS} runs were still going when killed")


def seconds_of_writing(target: Path) -> float:
    """Return how long the result took from its first file to its last."""
    first, last = (target / "config.json").stat(), max(p.stat().st_mtime for p in target.iterdir())
    return last - first.st_mtime


def resumed(place: Place, name: str, expected: dict[str, bytes]) -> Outcome:
    """Resume a killed run and say how it ended."""
    target = place.folder / name
    partial = target.with_name(f".{name}.partial")
    blocks = [folder for folder in (partial / "scratch").glob("block-*") if is_sealed(folder)]
    before = place.journal(name)
    whole = target.exists()
    place.quantize(name)
    return Outcome(
        same_bytes=result_of(target) == expected,
        finished_blocks=len(blocks),
        mid_block=len(blocks) * SITES_A_BLOCK < len(before) and len(blocks) < BLOCKS,
        while_writing=len(blocks) == BLOCKS and not whole,
        repeated=[] if whole else place.journal(name),
    )


@pytest.mark.parametrize("place", ["sound", "shards"], indirect=True)
def test_every_killed_quantization_resumes_to_the_bytes_of_a_whole_one(
    place: Place,
) -> None:
    outcomes = list(kills(place))
    assert len(outcomes) == KILLS
    assert [outcome for outcome in outcomes if not outcome.same_bytes] == []
    assert len({outcome.finished_blocks for outcome in outcomes}) >= 4, "kills were not spread"
    assert sum(outcome.mid_block for outcome in outcomes) >= 3, "too few kills hit a block"
    assert sum(outcome.while_writing for outcome in outcomes) >= 2, "too few kills hit the writing"
    reused = [outcome for outcome in outcomes if 0 < outcome.finished_blocks < BLOCKS]
    assert len(reused) >= 3
    for outcome in reused:
        left = BLOCKS - outcome.finished_blocks
        assert len(outcome.repeated) == left * SITES_A_BLOCK
        assert not any(f"h.{outcome.finished_blocks - 1}." in site for site in outcome.repeated)


@pytest.mark.parametrize("place", ["broken"], indirect=True)
def test_the_harness_catches_a_writer_without_rename_and_manifest(
    place: Place,
) -> None:
    assert any(not outcome.same_bytes for outcome in kills(place))
