"""The README's commands, typed into a fresh clone of what is committed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from repository import ROOT, fences

README = ROOT / "README.md"
INSIDE_A_CLONE = "QUANTALE_README_CLONE"
"""Set in the clone, so that its tests never clone again."""
SECONDS = 1500
FINE = {0}
VERDICTS = {0, 10, 11}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(INSIDE_A_CLONE in os.environ, reason="runs in a clone of itself"),
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout"),
]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readme") / "quantale"
    command = ["git", "clone", "--quiet", "--depth", "1", ROOT.resolve().as_uri(), str(folder)]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture(scope="module")
def quickstart(clone: Path) -> str:
    """Return what `make quickstart` printed."""
    return run(clone, "make quickstart", {0})


def run(folder: Path, command: str, allowed: set[int]) -> str:
    """Run one line in a shell, offline as far as models and data go; return its stdout."""
    environment = {
        **{key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"},
        INSIDE_A_CLONE: "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HOME": str(folder / "empty-cache"),
        "PATH": os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]]),
    }
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode in allowed, f"{command}: {done.returncode}\n{done.stderr[-3000:]}"
    return done.stdout


def commands(path: Path) -> list[str]:
    """Return the lines of the `sh` fences that are commands."""
    return [
        line.strip()
        for fence in fences(path, "sh")
        for line in fence.text.splitlines()
        if line.strip() and not line.startswith("#")
    ]


def test_the_quickstart_ends_with_the_page(clone: Path, quickstart: str) -> None:
    lines = [line for line in quickstart.splitlines()[-4:] if "report.html" in line]
    assert lines, quickstart[-500:]
    page = clone / lines[-1].split()[-1]
    text = page.read_text(encoding="utf-8")
    assert len(text) > 50_000
    assert "gptq-3bit-emb4" in text
    assert 'src="http' not in text
    assert list((clone / "empty-cache").rglob("*--*")) == []  # nothing came from the Hub


@pytest.mark.usefixtures("quickstart")
def test_a_second_quickstart_skips_everything(clone: Path) -> None:
    page = clone / "runs" / "quickstart" / "compare" / "report.html"
    before = page.stat().st_mtime_ns
    run(clone, "make quickstart", {0})
    assert page.stat().st_mtime_ns == before


@pytest.mark.usefixtures("quickstart")
def test_every_command_of_the_tour_works_in_its_order(clone: Path) -> None:
    shutil.rmtree(clone / "runs" / "tour", ignore_errors=True)
    found = commands(clone / "README.md")
    assert len(found) > 8
    assert all(command.startswith(("quantale ", "printf ")) for command in found)
    for command in found:
        verdict = command.startswith("quantale compare ")
        run(clone, command, VERDICTS if verdict else FINE)


@pytest.mark.usefixtures("quickstart")
def test_the_python_example_works(clone: Path) -> None:
    shutil.rmtree(clone / "runs" / "tour" / "tiny-4bit", ignore_errors=True)
    (example,) = [f for f in fences(clone / "README.md", "python") if "pipeline" in f.text]
    (clone / "runs" / "example.py").write_text(example.text, encoding="utf-8")
    assert "Once upon a time" in run(clone, ".venv/bin/python runs/example.py", {0})
