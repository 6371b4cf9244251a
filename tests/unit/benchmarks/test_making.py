"""Variants are made once, and only what a maker itself did counts against it."""

from pathlib import Path

import pytest
from benchmarks.making import make
from benchmarks.variants import peer

VARIANT = peer("theirs", "hqq")
TARGET = '"$4"'  # of `python -m benchmarks.peers MODEL TARGET ...`


def run(tmp_path: Path, script: str) -> Path:
    """Make the variant with a stand-in for the peers' interpreter; returns its folder."""
    interpreter = tmp_path / "python"
    interpreter.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    interpreter.chmod(0o755)
    make([VARIANT], tmp_path / "model", tmp_path / "tokens", interpreter, tmp_path / "out")
    return tmp_path / "out" / VARIANT.name


def test_what_is_done_is_not_made_again(tmp_path: Path) -> None:
    done = f"mkdir {TARGET}; echo 1 > {TARGET}/result.json"
    run(tmp_path, done)
    folder = run(tmp_path, "exit 1")
    assert [path.name for path in folder.iterdir()] == ["result.json"]


def test_a_failure_leaves_the_last_line_of_its_output(tmp_path: Path) -> None:
    folder = run(tmp_path, f"mkdir {TARGET}; echo first >&2; echo 'it broke' >&2; exit 1")
    assert (folder / "error.txt").read_text(encoding="utf-8") == "it broke\n"


def test_a_variant_that_was_killed_is_no_failure_and_is_made_again(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="ended by signal 9"):
        run(tmp_path, f"mkdir {TARGET}; touch {TARGET}/half; kill -9 $$")
    folder = run(tmp_path, f"mkdir {TARGET}; echo 1 > {TARGET}/result.json")
    assert [path.name for path in folder.iterdir()] == ["result.json"]
