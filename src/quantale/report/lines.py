"""The lines of a result: a sealed evaluation folder or a JSON-lines file, and what they state.

A line with the key "document" is one document of one model; a line with the key "metric" is a
`Measurement`, read for its fingerprint (protocol, data, tokenizer) and its training seed. One file
may hold both and several models; `path#model` picks one of them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core import files
from quantale.core.errors import DataError, UsageError, nearest
from quantale.core.records import read_lines

FINGERPRINT = ("protocol", "data_sha256", "tokenizer_sha256")

_KINDS = frozenset({"nll", "predicted"})


@dataclass(frozen=True)
class ResultLines:
    """Everything a result holds."""

    path: Path
    wanted: str | None
    """The only model to take; None for all."""
    lines: Sequence[Mapping[str, Any]]

    def models(self, key: str) -> list[str]:
        """Return the models whose documents have this key, in the order of their first lines.

        Raises UsageError where the wanted one is not among them.
        """
        kept = (line for line in self.lines if _is_document(line, key))
        found = list(dict.fromkeys(str(line.get("model")) for line in kept))
        if self.wanted is None or not found:
            return found
        if self.wanted not in found:
            hint = nearest(self.wanted, found)
            raise UsageError(f"{self.path}: no model {self.wanted!r}{hint}; it has {found}")
        return [self.wanted]

    def documents(self, model: str, key: str) -> dict[str, Mapping[str, Any]]:
        """Return a model's lines by document, sorted; raises DataError where one comes twice."""
        found: dict[str, Mapping[str, Any]] = {}
        for line in self.lines:
            if _is_document(line, key) and str(line.get("model")) == model:
                name = str(line["document"])
                if name in found:
                    raise DataError(f"{self.path}: document {name!r} of {model!r} came twice")
                found[name] = line
        return dict(sorted(found.items()))

    def fingerprint(self, model: str, key: str, metrics: Collection[str]) -> Mapping[str, str]:
        """Return what documents with the key and measurements of the metrics state.

        Raises UsageError where they state several things.
        """
        found: dict[str, str] = {}
        for line in self._of(model):
            mine = _is_document(line, key) or line.get("metric") in metrics
            for name in FINGERPRINT if mine else ():
                value = line.get(name)
                if value and found.setdefault(name, str(value)) != str(value):
                    raise UsageError(
                        f"{self.path}: {model!r} was measured with several {name}; split the file"
                    )
        return found

    def training_seed(self, model: str) -> str | None:
        """Return the seed that the model was trained with, None where no line states it."""
        stated = (line.get("extra") or line for line in self._of(model))
        seeds = {str(one["training_seed"]) for one in stated if "training_seed" in one}
        if len(seeds) > 1:
            raise UsageError(f"{self.path}: {model!r} has several training seeds; split the file")
        return next(iter(seeds), None)

    def _of(self, model: str) -> list[Mapping[str, Any]]:
        return [line for line in self.lines if str(line.get("model")) == model]


def read_result(path: Path) -> ResultLines:
    """Read a file, a file with `#model`, or a sealed folder, whose seal is checked."""
    path, wanted = _picked(path)
    return ResultLines(path, wanted, [line for file in _files(path) for line in read_lines(file)])


def _is_document(line: Mapping[str, Any], key: str) -> bool:
    """Say whether a line is a document of this kind; one of no kind is everyone's, and an error."""
    is_other = not _KINDS.isdisjoint(line) or "task" in line
    return "document" in line and (key in line or not is_other)


def _picked(path: Path) -> tuple[Path, str | None]:
    """Split `path#model`; a path that exists as it is has no model in it."""
    if path.exists() or "#" not in path.name:
        return path, None
    name, _, model = path.name.rpartition("#")
    return path.with_name(name), model


def _files(path: Path) -> Sequence[Path]:
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; give the output of `quantale evaluate`")
    if path.is_file():
        return [path]
    folder = path / "evaluate" if (path / "evaluate").is_dir() else path
    files.verify(folder)
    names = ("documents.jsonl", "results.jsonl")
    return [folder / name for name in names if (folder / name).is_file()]
