"""Writing is all or nothing, locked, sealed and verified."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantale.core import files
from quantale.core.errors import (
    EnvironmentLackingError,
    ModelFileError,
    OutputExistsError,
    UsageError,
)


def make(target: Path, key: str = "k", *, resume: bool = False) -> None:
    with files.staging(target, key=key, resume=resume) as folder:
        (folder / "a.txt").write_text("first")
        (folder / "inner").mkdir()
        (folder / "inner" / "b.bin").write_bytes(b"\0" * 100)


def fail_inside(target: Path, name: str) -> None:
    with files.staging(target, key="k") as folder:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("7")
        raise UsageError("no")


def test_a_sealed_folder_lists_every_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "run"
    make(target)
    manifest = json.loads((target / "MANIFEST.json").read_text())
    assert sorted(manifest["files"]) == ["a.txt", "inner/b.bin"]
    assert [p.name for p in target.parent.iterdir()] == ["run"]
    assert files.verify(target, full=True) == files.verify(target)


def test_the_same_content_gets_the_same_digest(tmp_path: Path) -> None:
    make(tmp_path / "one", "x")
    make(tmp_path / "two", "y")
    assert files.verify(tmp_path / "one") == files.verify(tmp_path / "two")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "a.txt").write_text("other"), "content differs"),
        (lambda f: (f / "a.txt").write_text("longer than before"), "bytes, sealed 5"),
        (lambda f: (f / "a.txt").unlink(), "missing from"),
        (lambda f: (f / "more").write_text("x"), "missing from"),
        (lambda f: (f / "MANIFEST.json").write_text("{"), "not sealed"),
        (lambda f: (f / "MANIFEST.json").unlink(), "not sealed"),
    ],
)
def test_every_kind_of_damage_is_noticed(tmp_path: Path, damage: object, message: str) -> None:
    make(tmp_path / "run")
    damage(tmp_path / "run")  # type: ignore[operator]
    with pytest.raises(ModelFileError, match=message):
        files.verify(tmp_path / "run", full=True)


def test_an_existing_output_is_never_overwritten(tmp_path: Path) -> None:
    make(tmp_path / "run")
    with pytest.raises(OutputExistsError, match="exists already"):
        make(tmp_path / "run")
    with pytest.raises(OutputExistsError, match="exists already"):
        make(tmp_path / "run", resume=True)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        fail_inside(tmp_path / "new" / "run", "a.txt")
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_resumed_stays_and_wants_the_same_key(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with pytest.raises(UsageError):
        fail_inside(target, "checkpoints/step")
    with pytest.raises(OutputExistsError, match="--resume"):
        make(target)
    with pytest.raises(OutputExistsError, match="other settings"):
        make(target, "other", resume=True)
    with files.staging(target, key="k", resume=True) as folder:
        assert (folder / "checkpoints" / "step").read_text() == "7"
        (folder / "a.txt").write_text("done")
    assert sorted(p.name for p in target.iterdir()) == ["MANIFEST.json", "a.txt"]


def test_two_processes_never_work_on_one_output(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with (
        files.staging(target, key="k"),
        pytest.raises(OutputExistsError, match="another process"),
    ):
        make(target, resume=True)


def test_a_killed_process_frees_its_lock_and_leaves_no_target(tmp_path: Path) -> None:
    target = tmp_path / "run"
    code = f"""
import time
from pathlib import Path
from quantale.core import files
with files.staging(Path({str(target)!r}), key="k") as folder:
    (folder / "checkpoints").mkdir()
    (folder / "ready").touch()
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        ready = tmp_path / ".run.partial" / "ready"
        deadline = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not target.exists()
    make(target, resume=True)
    assert (target / "ready").exists()


def test_the_newest_checkpoint_that_is_whole_wins(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        with files.sealed_folder(tmp_path / f"step-{step}") as folder:
            (folder / "state").write_text(str(step))
    (tmp_path / "step-11" / "state").write_text("xx")
    assert files.latest_valid(tmp_path, "step-*") == tmp_path / "step-10"
    assert files.latest_valid(tmp_path / "none", "step-*") is None


def test_writing_one_file_replaces_it_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_atomic(path, "one")
    files.write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    """A limit on file size stands in for the disk: writing beyond it fails like ENOSPC."""
    code = f"""
import resource, signal, sys
from pathlib import Path
from quantale.core import files
from quantale.core.errors import EnvironmentLackingError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
folder = Path({str(tmp_path)!r})
files.write_atomic(folder / "a", "small")
for action in ("file", "staging"):
    try:
        if action == "file":
            files.write_atomic(folder / "a", "x" * 10_000)
        else:
            with files.staging(folder / "run", key="k") as staged:
                (staged / "big").write_text("x" * 10_000)
    except EnvironmentLackingError as error:
        print("lacking", "cannot be written" in str(error))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["lacking True", "lacking True"]
    assert (tmp_path / "a").read_text() == "small"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_made_is_the_environments_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises((EnvironmentLackingError, OutputExistsError)):
        make(tmp_path / "file" / "run")
