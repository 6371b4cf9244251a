"""Make one quantized model directory in a staging folder, a piece of the model at a time.

What stays in full precision keeps the dtype of its checkpoint, unless another is asked for. The
proof is computed on the way: fixed tokens are carried through every packed block in float32.
"""

import resource
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantale.core import heap
from quantale.core.errors import EnvironmentLackingError
from quantale.core.progress import Progress
from quantale.core.records import write_json, write_lines
from quantale.evaluation.memory import reset_peak
from quantale.models.load import load
from quantale.models.skeleton import OpenedModel, open_model, retype
from quantale.quant.apply import Report, SiteResult
from quantale.quant.cast import cast_rest
from quantale.quant.ledger import Ledger, inspect
from quantale.quant.proof import logits_digest, proof_tokens
from quantale.quant.resident import Resident
from quantale.quant.save import write_model, write_pieces
from quantale.quant.sequential import Calibration, batch_of
from quantale.quant.stored import plugin_name
from quantale.quant.streamed import Streamed, fits
from quantale.quant.whole import Methods, quantize_from
from quantale.stages.calibration import CalibrationText

_MAPPED = 2**22
"""Bytes of blocks that are mapped while a model is worked through piece by piece: holes in the heap
would take the memory that the next piece needs."""


@dataclass(frozen=True)
class Job:
    """What is done to a model."""

    methods: Methods
    text: CalibrationText | None = None
    """For methods that calibrate."""
    dtype: torch.dtype | None = None
    """Of what stays in full precision; None: the checkpoint's own."""


@dataclass(frozen=True)
class _Made:
    """A quantized model whose files are written."""

    network: Any
    plain: Ledger
    """Of the model before."""
    results: list[SiteResult]
    digest: str


def make_model(source: Path, job: Job, folder: Path, progress: Progress) -> str:
    """Quantize, save and describe into a staging folder; returns the digest of the logits."""
    reset_peak()
    started = time.perf_counter()
    opened = open_model(source)
    if job.dtype is not None:
        opened = opened._replace(dtype=job.dtype)

    def report(result: SiteResult) -> None:
        error = result.weight_error if result.output_error is None else result.output_error
        progress.advance(1, site=result.site.name, error=error)

    windows = None if job.text is None else _windows(job.text, source, opened, progress)
    calibration = None if windows is None else Calibration(windows, batch_of(windows.shape[1]))
    progress.stage(f"quantize {folder.name.strip('.').removesuffix('.partial')}")
    if fits(opened.model, opened.checkpoint):
        made = _in_pieces(opened, job.methods, calibration, folder, report)
    else:
        progress.note(f"{source}: transformers converts these weights, so they are loaded whole")
        made = _as_a_whole(source, opened, job.methods, calibration, folder, report)
    record = None if job.text is None or windows is None else job.text.record(windows)
    _describe(made, job.methods, record, folder)
    timings = {
        "seconds": time.perf_counter() - started,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    write_json(folder / "timings.json", timings)
    return made.digest


def _windows(
    text: CalibrationText, source: Path, opened: OpenedModel, progress: Progress
) -> Tensor:
    """Return the calibration windows; a model that writes them itself is loaded whole for it."""
    model = opened.model if text.documents is not None else load(source).model
    return text.windows(model, opened.tokenizer, progress)


def _in_pieces(
    opened: OpenedModel,
    methods: Methods,
    calibration: Calibration | None,
    folder: Path,
    report: Report,
) -> _Made:
    model, dtype, scratch = opened.model, opened.dtype, folder / "scratch"
    retype(model, dtype)
    plain = inspect(model)
    retype(model, torch.float32)
    opened.checkpoint.check_finite()
    try:
        with heap.mapping(_MAPPED):
            outcome = quantize_from(
                Streamed(model, opened.checkpoint, dtype),
                model,
                methods,
                calibration,
                scratch=scratch,
                proof=proof_tokens(model),
                report=report,
            )
        retype(model, dtype)
        write_pieces(model, opened.tokenizer, scratch, folder)
    except EnvironmentLackingError:
        if calibration is None:  # a full disk is not kept full for work that is done quickly
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    return _Made(model, plain, outcome.results, str(outcome.digest))


def _as_a_whole(
    source: Path,
    opened: OpenedModel,
    methods: Methods,
    calibration: Calibration | None,
    folder: Path,
    report: Report,
) -> _Made:
    model = load(source).model
    plain = inspect(model)
    outcome = quantize_from(
        Resident(), model, methods, calibration, scratch=folder / "scratch", report=report
    )
    cast_rest(model, opened.dtype)
    write_model(model, opened.tokenizer, folder)
    cast_rest(model, torch.float32)
    digest = logits_digest(model)
    cast_rest(model, opened.dtype)
    return _Made(model, plain, outcome.results, digest)


def _describe(
    made: _Made, methods: Methods, calibration: dict[str, Any] | None, folder: Path
) -> None:
    ledger = inspect(made.network, folder)
    write_json(folder / "ledger.json", ledger.record())
    write_lines(folder / "layers.jsonl", [_layer(result) for result in made.results])
    done = {result.site.name for result in made.results}
    summary = {
        "method": "rules" if methods.linear is None else plugin_name(methods.linear),
        "methods": dict(Counter(result.method for result in made.results)),
        "bits_per_weight": ledger.bits_per_weight,
        "bytes_on_disk": ledger.bytes_on_disk,
        "bytes_resident": ledger.bytes_resident,
        "bytes_resident_before": made.plain.bytes_resident,
        "sites_quantized": len(done),
        "sites_skipped": [site.name for site in made.plain.sites if site.name not in done],
        "calibration": calibration,
        "logits_sha256": made.digest,
    }
    write_json(folder / "summary.json", summary)


def _layer(result: SiteResult) -> dict[str, Any]:
    return {
        "site": result.site.name,
        "role": result.site.role,
        "method": result.method,
        "weight_error": result.weight_error,
        "output_error": result.output_error,
        "bits_per_weight": result.packed.bits_per_weight,
    }
