"""Per-document results read back from an evaluation: a sealed folder or a JSON-lines file.

A line with the key "document" is one document of one model; a line with the key "metric" is a
`Measurement`, read only for its fingerprint (protocol, data, tokenizer). One file may hold both
and several models; `path#model` picks one of them.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core import files
from quantale.core.errors import DataError, UsageError, nearest
from quantale.core.records import read_lines

FINGERPRINT = ("protocol", "data_sha256", "tokenizer_sha256")
_QUALITY = {"perplexity", "bits_per_byte", "nll_per_token"}


@dataclass(frozen=True)
class Scored:
    """What one model scored on every document."""

    model: str
    documents: tuple[str, ...]
    """Sorted, so that two models of one data set line up."""
    nll: tuple[float, ...]
    """Nats, summed over the document's tokens."""
    tokens: tuple[int, ...]
    size: tuple[int, ...]
    """UTF-8 bytes."""
    fingerprint: Mapping[str, str]
    """Those of `FINGERPRINT` that the file states."""


def read_scored(path: Path) -> list[Scored]:
    """Read every model of a file or folder, in the order of their first lines."""
    path, wanted = _picked(path)
    lines = [line for file in _files(path) for line in read_lines(file)]
    found = [_scored(path, name, lines) for name in _models(lines)]
    if not found:
        raise DataError(
            f"{path}: holds no per-document lines; give the folder of an evaluation or a file "
            "with its documents.jsonl lines"
        )
    if wanted is None:
        return found
    chosen = [scored for scored in found if scored.model == wanted]
    if not chosen:
        names = [scored.model for scored in found]
        raise UsageError(f"{path}: no model {wanted!r}{nearest(wanted, names)}; it has {names}")
    return chosen


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


def _models(lines: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(line.get("model")) for line in lines if "document" in line))


def _scored(path: Path, model: str, lines: Sequence[Mapping[str, Any]]) -> Scored:
    rows: dict[str, tuple[float, int, int]] = {}
    for line in lines:
        if "document" in line and str(line.get("model")) == model:
            name = str(line["document"])
            if name in rows:
                raise DataError(f"{path}: document {name!r} of {model!r} came twice")
            rows[name] = _row(path, line)
    names = sorted(rows)
    return Scored(
        model=model,
        documents=tuple(names),
        nll=tuple(rows[name][0] for name in names),
        tokens=tuple(rows[name][1] for name in names),
        size=tuple(rows[name][2] for name in names),
        fingerprint=_fingerprint(path, model, lines),
    )


def _row(path: Path, line: Mapping[str, Any]) -> tuple[float, int, int]:
    try:
        row = float(line["nll"]), int(line["tokens"]), int(line["bytes"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: document {line['document']!r} needs numbers nll, tokens and bytes ({error!r})"
        ) from error
    if not math.isfinite(row[0]) or row[1] < 0 or row[2] < 0:
        raise DataError(f"{path}: document {line['document']!r} holds an impossible number: {row}")
    return row


def _fingerprint(path: Path, model: str, lines: Iterable[Mapping[str, Any]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for line in lines:
        if str(line.get("model")) != model:
            continue
        if "document" not in line and line.get("metric") not in _QUALITY:
            continue
        for key in FINGERPRINT:
            value = line.get(key)
            if value and found.setdefault(key, str(value)) != str(value):
                raise UsageError(
                    f"{path}: {model!r} was measured with several {key}; split the file"
                )
    return found
