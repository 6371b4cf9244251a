"""From an adapter to a model without one: merged, perhaps quantized, held against the adapter.

The divergence is KL(unmerged || result), nats a token on the given text, with an interval over
documents. It says what the step cost, whatever the adapter itself is worth.
"""

import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from quantale.core import run as runs
from quantale.core.errors import OutputExistsError, UsageError
from quantale.core.progress import Progress
from quantale.core.records import Measurement, read_json, write_json
from quantale.core.run import RunKey
from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.evaluation import summary
from quantale.evaluation.language import LanguageSettings
from quantale.models.adapter_record import is_adapter
from quantale.models.load import load
from quantale.quant.merging import merged, merged_into
from quantale.quant.save import PROOF_DTYPE, verify_saves, write_model
from quantale.stages.calibration import CalibrationText, calibration_text
from quantale.stages.evaluate import Plan, load_all, score
from quantale.stages.quantize import Source, source_of, variant_of
from quantale.stages.quantized import Job, make_model
from quantale.stages.requests import MergeRequest
from quantale.stages.tune import describe
from quantale.stages.variants import make_methods

VERSION = 1
_BASE = "unmerged"


def merge_adapter(
    request: MergeRequest, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Merge an adapter into a sealed model directory and return the `--json` fields.

    The directory is written whatever the verdict is. Raises UsageError for what is no adapter of a
    language model, and for a packed model to merge into.
    """
    source = source_of(request.adapter)
    if not is_adapter(source.folder):
        raise UsageError(f"{request.adapter}: holds no adapter; there is nothing to merge")
    if out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    documents = load_documents(request.data, split="test", limit=request.limit, seed=request.seed)
    with runs.making(out, _key(request, source, documents), resume=resume) as folder:
        progress.stage("merge")
        plain = folder / "scratch" / "merged"
        shutil.rmtree(plain, ignore_errors=True)
        plain.mkdir(parents=True)
        _merge(source.folder, request.into, plain)
        steps = {"merged": plain}
        if request.quantized is None:
            for path in sorted(plain.iterdir()):
                path.replace(folder / path.name)
            steps = {"merged": folder}
            write_json(folder / "summary.json", describe(folder))
            digest = read_json(folder / "summary.json")["logits_sha256"]
        else:
            digest = make_model(plain, _job(request), folder, progress)
            steps["quantized"] = folder
        judged = _judged(source.folder, steps, documents, request, progress)
        write_json(folder / "merge.json", judged)
        verify_saves({folder: digest}, PROOF_DTYPE)
    return {"out": str(out), **judged, **read_json(out / "summary.json")}


def _key(request: MergeRequest, source: Source, documents: Documents) -> RunKey:
    settings: dict[str, Any] = {"margin": request.margin, "seed": request.seed, "quantized": None}
    parents = {"adapter": source.digest, "data": documents.sha256}
    if request.quantized is not None:
        settings["quantized"] = variant_of(request.quantized).model_dump(mode="json")
    if request.into is not None:
        parents["into"] = source_of(request.into).digest
    return RunKey("merge", VERSION, settings, parents)


def _merge(adapter: Path, into: str | None, folder: Path) -> None:
    """Write the merged model; every model is loaded for it and let go."""
    loaded = load(adapter)
    if loaded.model.get_output_embeddings() is None:
        raise UsageError(
            f"{adapter}: is a classifier's, which text cannot be scored with; merge it in Python "
            "with quantale.quant.merging.merged"
        )
    plain = merged(loaded.model) if into is None else merged_into(load(into).model, loaded.model)
    write_model(plain, loaded.tokenizer, folder)


def _job(request: MergeRequest) -> Job:
    asked = request.quantized
    if asked is None:
        raise UsageError("nothing says how to quantize")
    methods = make_methods(variant_of(asked))
    text: CalibrationText | None = None
    if methods.needs_calibration:
        text = calibration_text(
            asked.calibration or request.data, asked.samples, asked.length, asked.seed
        )
    return Job(methods, text, None if asked.dtype is None else getattr(torch, asked.dtype))


def _judged(
    adapter: Path,
    steps: Mapping[str, Path],
    documents: Documents,
    request: MergeRequest,
    progress: Progress,
) -> dict[str, Any]:
    """Return the divergence of every step from the adapter, and what the gate says of them."""
    plan = Plan({_BASE: adapter, **steps}, {}, _BASE, documents, LanguageSettings(), request.seed)
    models, tokenizer = load_all(plan.folders)
    scores = score(models, tokenizer, plan, progress)
    lines = summary.measurements(scores.documents, scores.protocol, base=_BASE)
    found = {line.model: line for line in lines if line.metric == "kl_mean"}
    rows = [_row(step, found[step], request.margin) for step in steps]
    verdicts = [row["verdict"] for row in rows]
    verdict = next((v for v in ("FAIL", "CANNOT TELL") if v in verdicts), "PASS")
    return {"verdict": verdict, "steps": rows}


def _row(step: str, line: Measurement, margin: float) -> dict[str, Any]:
    low = -math.inf if line.ci_low is None else line.ci_low
    high = math.inf if line.ci_high is None else line.ci_high
    verdict = "PASS" if high <= margin else "FAIL" if low > margin else "CANNOT TELL"
    return {
        "step": step,
        "kl_mean": line.value,
        "ci_low": line.ci_low,
        "ci_high": line.ci_high,
        "n": line.n,
        "margin": margin,
        "verdict": verdict,
    }
