"""Folders of files as their users know them, made of sealed runs.

What is written is a copy for reading and shipping: nothing is measured here, and the runs stay the
record. A folder that is there already is left alone when it was made of the same runs.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantale.core import files
from quantale.core.errors import OutputExistsError
from quantale.core.progress import Progress
from quantale.core.recipe import Recipe
from quantale.core.recipe_outputs import OutputFile, OutputSection
from quantale.core.recipe_variants import BASE
from quantale.core.records import read_json, read_lines, write_json
from quantale.core.run import Run
from quantale.report.confusion_picture import confusion_png

_MODEL_FILES = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json",
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "chat_template.jinja",
)  # fmt: skip
_SUMMED = ("bits_per_weight", "bytes_on_disk", "bytes_resident", "sites_quantized", "methods")
"""What a summary takes over from the summary of a quantized model."""


def write_tree(
    section: OutputSection, writer: "TreeWriter", target: Path, progress: Progress
) -> None:
    """Write one folder; raises OutputExistsError for one that was made of something else."""
    record = target.parent / "outputs" / f"{section.folder}.json"
    key = writer.key(section)
    if target.exists():
        if not record.is_file() or read_json(record)["key"] != key:
            raise OutputExistsError(f"{target}: was made of other runs; remove it")
        progress.note(f"{target} is there already: skipped")
        return
    staging = target.with_name(f".{target.name}.partial")
    shutil.rmtree(staging, ignore_errors=True)
    for file in section.files:
        place = staging if file.path == "." else staging / file.path
        place.parent.mkdir(parents=True, exist_ok=True)
        with files.disk_faults(place):
            writer.write(file, place)
    record.parent.mkdir(exist_ok=True)
    files.write_atomic(record, json.dumps({"key": key}) + "\n")
    staging.rename(target)


@dataclass(frozen=True)
class TreeWriter:
    """Writes what sealed runs know of a classifier or language model."""

    recipe: Recipe
    folders: Mapping[str, Path]
    """Model folders by name, the base first."""
    runs: Mapping[str, Run]
    """Sealed runs by stage."""

    def key(self, section: OutputSection) -> str:
        """Return what the bytes of a folder depend on."""
        content = [section.model_dump(mode="json"), self.runs["evaluate"].digest]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def write(self, file: OutputFile, place: Path) -> None:
        """Write one file or folder."""
        writers: Mapping[str, Callable[[OutputFile, Path], None]] = {
            "model": self._model,
            "kept-checkpoint": self._checkpoint,
            "training-arguments": self._arguments,
            "metrics": self._metrics,
            "summary": self._summary,
            "report": self._report,
            "confusion": self._confusion,
        }
        writers[file.holds](file, place)

    def _model(self, file: OutputFile, place: Path) -> None:
        """Copy what other programs load, and the tokenizer files that only older ones read."""
        source = self.folders[file.of[0]]
        place.mkdir(parents=True, exist_ok=True)
        for pattern in _MODEL_FILES:
            for path in sorted(source.glob(pattern)):
                shutil.copyfile(path, place / path.name)
        _write_older_tokenizer_files(place)

    def _checkpoint(self, file: OutputFile, place: Path) -> None:
        """Write the weights that the training kept, under the step of its best validation."""
        run = self.folders[file.of[0]].parent
        step = read_json(run / "summary.json")["best_step"]
        self._model(file, place / f"checkpoint-{step}")

    def _arguments(self, file: OutputFile, place: Path) -> None:
        """Write what the training was asked, in place of a pickle."""
        run = self.folders[file.of[0]].parent
        asked = read_json(run / "run.json")["settings"]
        write_json(place, {**asked["train"], "seed": asked["seed"], "data": asked["reading"]})

    def _metrics(self, file: OutputFile, place: Path) -> None:
        write_json(place, {name: self._measured(name) for name in file.of})

    def _summary(self, file: OutputFile, place: Path) -> None:
        write_json(place, {name: self._size(name) for name in file.of})

    def _report(self, file: OutputFile, place: Path) -> None:
        reports = read_json(self.runs["evaluate"].path / "reports.json")
        files.write_atomic(place, reports[file.of[0]].rstrip("\n") + "\n")

    def _confusion(self, file: OutputFile, place: Path) -> None:
        found = read_json(self.runs["evaluate"].path / "confusion.json")[file.of[0]]
        files.write_atomic(place, confusion_png(found["classes"], found["matrix"]))

    def _measured(self, name: str) -> dict[str, Any]:
        evaluated = self.runs["evaluate"].path
        lines = [line for line in read_lines(evaluated / "results.jsonl") if line["model"] == name]
        found: dict[str, Any] = {line["metric"]: line["value"] for line in lines}
        for line in lines:
            if line.get("ci_low") is not None:
                found[f"{line['metric']}_ci"] = [line["ci_low"], line["ci_high"]]
            if "mcnemar_p" in line.get("extra", {}):
                found["mcnemar_p"] = line["extra"]["mcnemar_p"]
        if (evaluated / "confusion.json").is_file():
            found["confusion_matrix"] = read_json(evaluated / "confusion.json")[name]
            found |= read_json(evaluated / "timings.json")[name]
            found |= read_json(evaluated / "memory.json")[name]
        protocol = read_json(evaluated / "protocol.json")
        kept = {key: protocol[key] for key in ("protocol", "data", "data_sha256", "documents")}
        return found | kept | self._size(name)

    def _size(self, name: str) -> dict[str, Any]:
        """Return bytes and bits: of a quantized model as it was recorded, else of its files."""
        folder = self.folders[name]
        size = {"model_bytes": sum(p.stat().st_size for p in folder.glob("*.safetensors"))}
        summary = folder / "summary.json"
        if name == BASE or not summary.is_file():
            return size
        known = read_json(summary)
        return size | {key: known[key] for key in _SUMMED if key in known}


def _write_older_tokenizer_files(folder: Path) -> None:
    """Write vocab.json, merges.txt and special_tokens_map.json of a BPE tokenizer.

    Today's libraries keep all of it in tokenizer.json; older ones read these three.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return
    model = read_json(path)["model"]
    if model["type"] != "BPE":
        return
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    vocabulary = json.dumps(model["vocab"], ensure_ascii=False)
    contents = {
        "vocab.json": vocabulary + "\n",
        "merges.txt": "\n".join(["#version: 0.2", *lines]) + "\n",
        "special_tokens_map.json": json.dumps(_symbols(folder), indent=2) + "\n",
    }
    for name, content in contents.items():
        if not (folder / name).is_file():
            files.write_atomic(folder / name, content)


def _symbols(folder: Path) -> dict[str, str]:
    config = read_json(folder / "tokenizer_config.json")
    return {
        key: value if isinstance(value, str) else value["content"]
        for key, value in config.items()
        if key.endswith("_token") and isinstance(value, str | dict)
    }
