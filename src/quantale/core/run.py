"""A run: a sealed directory whose `run.json` says what made it, from which parents.

A run's key is the stage, its version, its settings and the digests of its parents. A pipeline
skips a run whose key is sealed already, and refuses one that was made with another key.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core import files, provenance
from quantale.core.errors import OutputExistsError
from quantale.core.records import read_json, write_json

RECORD = "run.json"


@dataclass(frozen=True)
class RunKey:
    """What a run's bytes depend on."""

    stage: str
    version: int
    """Raised when the stage's code makes other bytes from the same settings."""
    settings: Mapping[str, Any]
    parents: Mapping[str, str]
    """Name of each parent with the digest of its seal or of its data."""

    def digest(self) -> str:
        """Return the sha256 of the key's canonical JSON."""
        content = [self.stage, self.version, dict(self.settings), dict(self.parents)]
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Run:
    """A sealed run, opened."""

    path: Path
    digest: str
    """sha256 of its manifest: what children name as their parent."""
    key: str


def open_run(path: Path, *, full: bool = False) -> Run:
    """Verify the seal and read the key; raises ModelFileError for a damaged or unsealed folder."""
    digest = files.verify(path, full=full)
    return Run(path, digest, read_json(path / RECORD)["key"])


def sealed(path: Path, key: RunKey) -> Run | None:
    """Return the run when it is there with this key, None when nothing is there.

    Raises OutputExistsError when the folder was made with another key.
    """
    if not path.exists():
        return None
    if not files.is_sealed(path):
        raise OutputExistsError(f"{path}: exists and is no run; choose another --out or remove it")
    run = open_run(path)
    if run.key != key.digest():
        raise OutputExistsError(
            f"{path}: was made with other settings or parents; choose another --out or remove it"
        )
    files.tidy(path)
    return run


@contextmanager
def making(path: Path, key: RunKey, *, resume: bool = False) -> Iterator[Path]:
    """Hand out the staging folder of a new run; it is sealed as `path` when the block ends."""
    with files.staging(path, key=key.digest(), resume=resume) as folder:
        yield folder
        record = {
            "key": key.digest(),
            "stage": key.stage,
            "version": key.version,
            "settings": dict(key.settings),
            "parents": dict(key.parents),
            "provenance": dict(provenance.collect()),
        }
        write_json(folder / RECORD, record)
