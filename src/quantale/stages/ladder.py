"""The cheapest way to few bits that loses little enough: `quantale ladder`.

Rungs are climbed one by one (see `stages/rungs.py`). Each is measured against the model in full
precision on validation documents that no training looked at, paired document by document; the
climb ends at the first one whose interval for the rise of perplexity lies below the stated loss.
Test documents are not touched: they are for the comparison of what was chosen.
"""

import math
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantale.core import run as runs
from quantale.core.errors import DataError, UsageError, nearest
from quantale.core.progress import Progress
from quantale.core.recipe_variants import VariantSection
from quantale.core.records import read_json, write_json
from quantale.core.run import Run, RunKey
from quantale.data.documents import Documents
from quantale.evaluation.stats import Verdict, judge
from quantale.models.adapter_record import base_of, is_adapter, move_base
from quantale.quant.save import PROOF_DTYPE, verify_saves
from quantale.stages.calibration import CalibrationText
from quantale.stages.corpus import Corpus
from quantale.stages.heal import Budget, taught_corpus
from quantale.stages.paired import pair
from quantale.stages.quantize import Source, quantize_stage, source_of
from quantale.stages.requests import LadderRequest
from quantale.stages.rungs import PTQ, Rung, rungs
from quantale.stages.tune import Tuned, tune_stage, tuning_of

VERSION = 1
_WINDOWS = 64
"""Of training text that calibrate, for methods that ask for it."""


@dataclass(frozen=True)
class _Climb:
    """What all rungs have in common."""

    source: Source
    corpus: Corpus
    measured: Documents
    """Validation documents that the trainings do not see."""
    out: Path
    seed: int
    resume: bool
    progress: Progress


def ladder(
    request: LadderRequest, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Climb into `out`: rungs/NAME each a sealed run, and chosen/ with model and ladder.json.

    An adapter is chosen together with the packed model under it, in chosen/base. Rungs that are
    there already are not made again. Raises UsageError for bits or a rung that there are not,
    DataError without enough validation documents.
    """
    budget = Budget(request.steps, request.batch_size)
    listed = _until(rungs(request.bits, budget), request.stop_after)
    climb = _begin(request, budget, out, resume, progress)
    rows: list[dict[str, Any]] = []
    last: Run | None = None
    for rung in listed:
        last, row = _try(climb, rung, request.loss)
        rows.append(row)
        progress.note(
            f"{rung.name}: perplexity {row['rise']:+.2%} "
            f"[{row['rise_low']:+.2%}, {row['rise_high']:+.2%}], {row['verdict']}"
        )
        if row["verdict"] == Verdict.PASS.value:
            break
    if last is None:
        raise UsageError("the ladder has no rung")
    return _chosen(climb, request, last, rows)


def _begin(
    request: LadderRequest, budget: Budget, out: Path, resume: bool, progress: Progress
) -> _Climb:
    whole = taught_corpus(request.data, request.seed)
    seen, items = budget.evaluate_documents, whole.validation.items
    if len(items) < seen + 2:
        raise DataError(
            f"{request.data}: {len(items)} validation documents; the ladder needs {seen} to choose "
            "the best step of a training and at least two others to measure"
        )

    def part(chosen: Any) -> Documents:
        return Documents.collect(chosen, whole.validation.source, whole.validation.split)

    corpus = replace(whole, validation=part(items[:seen]))
    measured = part(items[seen : seen + request.documents])
    return _Climb(source_of(request.model), corpus, measured, out, request.seed, resume, progress)


def _until(listed: list[Rung], last: str | None) -> list[Rung]:
    names = [rung.name for rung in listed]
    if last is None:
        return listed
    if last not in names:
        raise UsageError(f"no rung {last!r}; there are {', '.join(names)}{nearest(last, names)}")
    return listed[: names.index(last) + 1]


def _try(climb: _Climb, rung: Rung, loss: float) -> tuple[Run, dict[str, Any]]:
    wall, processor = time.perf_counter(), time.process_time()
    run = _make(climb, rung)
    spent = {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }
    found = pair(climb.source.folder, _model_of(run), climb.measured, climb.seed, climb.progress)
    summary = read_json(run.path / "summary.json")
    return run, {
        "rung": rung.name,
        "bytes_on_disk": summary["bytes_on_disk"],
        "bits_per_weight": summary["bits_per_weight"],
        **found.record(),
        **spent,
        "verdict": judge(found.rise, math.log1p(loss)).verdict.value,
    }


def _make(climb: _Climb, rung: Rung) -> Run:
    """Return the sealed run of a rung, made from the full-precision model or from that of ptq."""
    section = rung.variant.tune
    if section is None:
        return _quantized(climb, rung.variant)
    is_within = tuning_of(section).order == "within"
    source = climb.source if is_within else _below(climb, rung)
    plan = Tuned(
        section=section,
        source=source,
        teacher=climb.source,
        corpus=climb.corpus,
        seed=climb.seed,
        quantized=rung.variant if is_within else None,
    )
    out = climb.out / "rungs" / rung.name
    return tune_stage(plan, out, resume=climb.resume, progress=climb.progress)


def _below(climb: _Climb, rung: Rung) -> Source:
    """Return the packed model that a rung goes on with; it is there, or made again if it is ptq."""
    if rung.after == PTQ:
        made = _quantized(climb, rung.variant.model_copy(update={"tune": None}))
    else:
        made = runs.open_run(climb.out / "rungs" / rung.after)
    return Source(_model_of(made), made.digest)


def _quantized(climb: _Climb, variant: VariantSection) -> Run:
    """Return the sealed run of the first rung, which later ones begin with."""
    return quantize_stage(
        climb.source,
        variant,
        CalibrationText(climb.corpus.train, _WINDOWS, None, climb.seed),
        climb.out / "rungs" / PTQ,
        resume=climb.resume,
        progress=climb.progress,
        verify=False,
    )


def _model_of(run: Run) -> Path:
    return run.path / "model" if (run.path / "model").is_dir() else run.path


def _chosen(
    climb: _Climb, request: LadderRequest, run: Run, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Seal a copy of the last rung, verified in a fresh process, beside the record."""
    met = rows[-1]["verdict"] == Verdict.PASS.value
    record = {"bits": request.bits, "loss": request.loss, "met": met, "rungs": rows}
    best = rows[-1] if met else min(rows, key=lambda row: float(row["rise"]))
    run = run if met else runs.open_run(climb.out / "rungs" / best["rung"])
    key = RunKey("ladder", VERSION, {"loss": request.loss}, {best["rung"]: run.digest})
    target = climb.out / "chosen"
    if runs.sealed(target, key) is None:
        with runs.making(target, key, resume=climb.resume) as folder:
            _copy(_model_of(run), folder)
            write_json(folder / "ladder.json", record)
            summary = read_json(run.path / "summary.json")
            verify_saves({folder / "model": summary["logits_sha256"]}, PROOF_DTYPE)
    return {"out": str(target / "model"), "chosen": best["rung"], **record}


def _copy(model: Path, folder: Path) -> None:
    """Copy a model to `model`; what an adapter lies over is copied to `base`."""
    shutil.copytree(model, folder / "model", ignore=_records)
    if is_adapter(model):
        shutil.copytree(base_of(model), folder / "base", ignore=_records)
        move_base(folder / "model", folder / "base")


def _records(folder: str, names: list[str]) -> list[str]:
    """Name what belongs to the run of a rung and not to its model."""
    del folder
    known = ("MANIFEST.json", "run.json", "summary.json", "ledger.json", "timings.json")
    return [name for name in names if name in (*known, "layers.jsonl")]
