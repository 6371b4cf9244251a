"""Measurements and other records as JSON lines with sorted keys and no NaN."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantale.core.errors import DataError, NumericalError
from quantale.core.files import write_atomic


@dataclass(frozen=True)
class Measurement:
    """One measured number with everything needed to know what it may be compared with."""

    model: str
    """Name of the model or variant."""
    task: str
    """What was measured: "language", "latency", "size", ..."""
    protocol: str
    """Fingerprint of how it was measured; unlike protocols are never ranked."""
    metric: str
    value: float
    unit: str
    n: int
    """How many independent things (documents, runs) the value rests on."""
    stderr: float | None = None
    ci_low: float | None = None
    """Lower end of the 95 % interval."""
    ci_high: float | None = None
    kernel: str = ""
    device: str = "cpu"
    dtype: str = ""
    seed: int = 0
    data_sha256: str = ""
    tokenizer_sha256: str = ""
    provenance: str = ""
    """Digest of the provenance record of the run."""
    extra: Mapping[str, float | str | int] = field(default_factory=dict)


def to_json_line(record: object) -> str:
    """Return a record (dataclass or mapping) as one line; raises NumericalError on NaN or inf."""
    content: Any = record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        content = dataclasses.asdict(record)
    try:
        return json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False)
    except ValueError as error:
        raise NumericalError(f"a record holds a number that is not finite: {content}") from error


def write_lines(path: Path, records: Iterable[object]) -> None:
    """Write all records at once, one JSON object a line."""
    write_atomic(path, "".join(to_json_line(record) + "\n" for record in records))


def write_json(path: Path, content: object) -> None:
    """Write one JSON document, indented, keys sorted."""
    text = json.dumps(content, sort_keys=True, allow_nan=False, ensure_ascii=False, indent=1)
    write_atomic(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read one JSON document; raises DataError naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from error


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read JSON objects; raises DataError with `file:line` for a line that is not one."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as JSON lines: {error}") from error
    return [_parse(path, i, line) for i, line in enumerate(lines, start=1) if line.strip()]


def _parse(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise DataError(f"{path}:{number}: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}:{number}: a JSON object was expected, {line[:40]!r} came")
    return content
