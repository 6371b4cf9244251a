"""Blind votes on the models of a run, found by what the models are."""

from collections.abc import Mapping
from pathlib import Path

from quantale.evaluation.votes import Standing, read_ballots, renamed, standings
from quantale.stages.quantize import source_of

FILE = "votes.jsonl"


def votes_beside(out: Path) -> Path | None:
    """Return the file of votes in the folder of a run, None where nobody voted."""
    path = out.parent / FILE
    return path if path.is_file() else None


def voted_on(path: Path, folders: Mapping[str, Path]) -> tuple[Standing, ...]:
    """Return the standings of the models in these folders; votes on others are left out.

    Models are known by the digest of their weights, not by the name under which they were shown.
    """
    names = {source_of(str(folder)).digest: name for name, folder in folders.items()}
    return tuple(standings(renamed(read_ballots(path), names), list(folders)))
