"""The repository as tests see it: its root, its own files, the code fences of its documents."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FOLDERS = ("src", "tests", "benchmarks", "docs", ".ci")
_SUFFIXES = {".py", ".md", ".yaml", ".toml", ".txt", ".css", ".js", ".j2", ".c", ".h", ""}
_FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Fence:
    """One code fence of a document."""

    place: str
    """File and line."""
    kind: str
    """What follows the backticks: "python", "sh", ""."""
    text: str


def text_files() -> list[Path]:
    """Return every text file that people wrote, sorted."""
    inside = (path for folder in _FOLDERS for path in (ROOT / folder).rglob("*"))
    found = (path for path in (*ROOT.iterdir(), *inside) if path.is_file())
    return sorted(path for path in found if path.suffix in _SUFFIXES and _is_ours(path))


def python_files() -> list[Path]:
    return [path for path in text_files() if path.suffix == ".py"]


def documents() -> list[Path]:
    return [path for path in text_files() if path.suffix == ".md"]


def name_of(path: Path) -> str:
    return (path.relative_to(ROOT) if path.is_relative_to(ROOT) else path).as_posix()


def fences(path: Path, kind: str) -> list[Fence]:
    """Return the code fences of one kind, in order."""
    return [fence for fence in _fences(path) if fence.kind == kind]


def _fences(path: Path) -> Iterator[Fence]:
    text = path.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Fence(f"{name_of(path)}:{line}", match["kind"], match["text"])


def _is_ours(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return not any(part == "__pycache__" or part.endswith(".egg-info") for part in parts)
