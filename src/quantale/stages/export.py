"""From a model to a sealed folder in a format of others, verified before it is moved into place."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from quantale.core import run as runs
from quantale.core.errors import OutputExistsError, UsageError, nearest
from quantale.core.progress import Progress
from quantale.core.records import write_json
from quantale.core.registry import EXPORTERS
from quantale.core.run import RunKey
from quantale.export.exporter import Exporter, Written
from quantale.export.source import Source
from quantale.export.verify import Verified, verify_export
from quantale.models.load import load
from quantale.quant.generated import generate_windows
from quantale.stages.calibration import CalibrationText, calibration_text
from quantale.stages.quantize import source_of
from quantale.stages.requests import ExportRequest
from quantale.stages.train import stored_dtype

VERSION = 2
RECORD = "export.json"
_LONGEST: Final = 128


def export_model(
    request: ExportRequest, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Write a sealed folder in the asked format and return the `--json` fields.

    Nothing is left where the export cannot be verified.
    """
    if out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    exporter: Exporter = EXPORTERS.get(request.format)()
    found = source_of(request.model)
    loaded = load(request.model, dtype=torch.float32)
    source = Source(loaded.model, loaded.tokenizer, _own_dtype(found.folder))
    kind = kind_of(request, exporter, source)
    exporter.check(source, kind)
    text = None if request.data is None else _text(request)
    key = _key(request, kind, found.digest, text)
    with runs.making(out, key, resume=resume) as folder:
        progress.stage("export")
        written = exporter.write(source, kind, folder)
        progress.stage("verify")
        windows = windows_for(source, request, text)
        verified = verify_export(exporter, source, written, folder, windows, request.max_kl)
        record = _record(request, written, verified, folder)
        write_json(folder / RECORD, record)
    for note in written.notes:
        progress.note(note)
    return {"out": str(out), **record}


def kind_of(request: ExportRequest, exporter: Exporter, source: Source) -> str:
    """Return the type to write: the asked one, else the model's own dtype, else the first.

    Raises UsageError.
    """
    if request.type is not None:
        known = {name.lower(): name for name in exporter.types}
        if request.type.lower() not in known:
            raise UsageError(
                f"{request.format} has no type {request.type!r}; there are "
                f"{', '.join(exporter.types)}{nearest(request.type, exporter.types)}"
            )
        return known[request.type.lower()]
    own = str(source.dtype).removeprefix("torch.")
    return own if own in exporter.types and not source.quantized else exporter.types[0]


def windows_for(source: Source, request: ExportRequest, text: CalibrationText | None) -> Tensor:
    """Return the tokens on which model and export are compared."""
    model = source.model
    length = length_of(model, request.length)
    if text is not None:
        return replace(text, length=length).windows(model, source.tokenizer)
    if model.get_output_embeddings() is None:
        generator = torch.Generator().manual_seed(request.seed)
        size = (request.samples, length)
        entries = model.config.get_text_config().vocab_size
        return torch.randint(entries, size, generator=generator)
    return generate_windows(model, request.samples, length, request.seed)


def length_of(model: Any, asked: int | None) -> int:
    """Return the tokens of a window; raises UsageError past the context."""
    context: int = getattr(model.config.get_text_config(), "max_position_embeddings", _LONGEST)
    if asked is not None and asked > context:
        raise UsageError(f"windows of {asked} tokens exceed the context of {context}")
    return min(context, _LONGEST) if asked is None else asked


def _own_dtype(folder: Path) -> torch.dtype:
    return stored_dtype(folder) if (folder / "config.json").is_file() else torch.float32


def _text(request: ExportRequest) -> CalibrationText:
    return calibration_text(request.data, request.samples, request.length, request.seed)


def _key(request: ExportRequest, kind: str, digest: str, text: CalibrationText | None) -> RunKey:
    settings = {
        "format": request.format,
        "type": kind,
        "max_kl": request.max_kl,
        "samples": request.samples,
        "length": request.length,
        "seed": request.seed,
    }
    return RunKey("export", VERSION, settings, {"model": digest, **(text.parents if text else {})})


def _record(
    request: ExportRequest, written: Written, verified: Verified, folder: Path
) -> dict[str, Any]:
    sizes: Mapping[str, int] = {
        path.name: path.stat().st_size
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".gguf")
    }
    return {
        "format": request.format,
        "type": written.kind,
        "grade": written.grade,
        "requantized": list(written.requantized),
        "bytes": sum(sizes.values()),
        "read_by": written.read_by,
        "measured_on": request.data or "text that the model wrote itself",
        **verified.record(),
        "notes": list(written.notes),
    }
