"""A prediction kept beside a run, and what the run then took: `plan.json`.

The measured side is read from the sealed runs: their cost and timing records, and the bytes of
their files. The memory is the kernel's peak of the process, reset at the start of each run where
that is permitted; of a training that was planned for a GPU, the peak of torch's allocator there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantale.core.errors import UsageError
from quantale.core.files import is_sealed
from quantale.core.recipe import Recipe
from quantale.core.records import read_json, write_json
from quantale.stages.plan import predict

FILE = "plan.json"
COLUMNS = ("seconds", "peak_memory_bytes", "disk_bytes")


def keep_prediction(recipe: Recipe, out: Path) -> None:
    """Predict a run once, before it begins."""
    if not (out / FILE).exists():
        write_json(out / FILE, {"predicted": predict(recipe), "measured": {}})


def keep_measured(out: Path) -> list[dict[str, Any]]:
    """Write what the stages took beside what was predicted, and return both as rows."""
    kept = _kept(out)
    kept["measured"] = {name: taken for name, taken in _measured(out) if taken}
    write_json(out / FILE, kept)
    return rows(kept)


def held_against(out: Path) -> list[dict[str, Any]]:
    """Return the rows of a run that is finished or under way; raises UsageError without a plan."""
    kept = _kept(out)
    return rows({**kept, "measured": dict(_measured(out))})


def rows(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row a stage: predicted, measured and their ratio, column by column."""
    return [_row(line, kept["measured"].get(line["stage"], {})) for line in _lines(kept)]


def _row(line: Mapping[str, Any], taken: Mapping[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"stage": line["stage"]}
    if line.get("device", "cpu") != "cpu":
        taken = {**taken, "peak_memory_bytes": taken.get("device_peak_bytes")}
    for column in COLUMNS:
        said, was = line[column], taken.get(column)
        ratio = None if said is None or not was else said / was
        row |= {column: said, f"{column}_measured": was, f"{column}_ratio": ratio}
    return row


def _lines(kept: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(kept["predicted"]["stages"])


def _kept(out: Path) -> dict[str, Any]:
    path = out / FILE
    if not path.exists():
        raise UsageError(f"{path} is missing: `quantale run` writes it when it runs all stages")
    found: dict[str, Any] = read_json(path)
    return found


def _measured(out: Path) -> list[tuple[str, dict[str, Any]]]:
    folders = [out / "train", *sorted(out.glob("quantize/*")), *sorted(out.glob("tune/*"))]
    return [(path.relative_to(out).as_posix(), _taken(path)) for path in folders]


def _taken(folder: Path) -> dict[str, Any]:
    """Return what a sealed run took; nothing where it is not there."""
    if not is_sealed(folder):
        return {}
    name = "timings.json" if folder.parent.name == "quantize" else "cost.json"
    cost = read_json(folder / name)
    model = folder / "model" if (folder / "model").is_dir() else folder
    return {
        "seconds": cost["seconds"],
        "peak_memory_bytes": cost["peak_rss_bytes"],
        "device_peak_bytes": cost.get("device_peak_bytes"),
        "disk_bytes": sum(path.stat().st_size for path in model.glob("*.safetensors")),
    }
