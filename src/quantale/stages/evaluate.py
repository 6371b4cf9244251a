"""From models to scores: all of them on the same tokens in one pass."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quantale.core import run as runs
from quantale.core.errors import DataError, OutputExistsError, UsageError
from quantale.core.progress import Progress
from quantale.core.records import Measurement, write_json, write_lines
from quantale.core.run import Run, RunKey
from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.data.tokenizers import tokenizer_sha256
from quantale.data.windows import calibration_windows, encode_documents
from quantale.evaluation import language, summary
from quantale.evaluation.language import LanguageScores, LanguageSettings
from quantale.evaluation.windows import named_context
from quantale.models.load import load
from quantale.quant.damage import output_errors
from quantale.stages.origin import origins_of, with_origins
from quantale.stages.requests import EvaluateRequest

VERSION = 2
_ERROR_WINDOWS = 8


@dataclass(frozen=True)
class Plan:
    """What is scored, and how."""

    folders: Mapping[str, Path]
    """Model folders by name."""
    digests: Mapping[str, str]
    """What each folder holds."""
    base: str | None
    """Name of the model that the others are measured against."""
    documents: Documents
    settings: LanguageSettings
    seed: int = 0


def evaluate_stage(plan: Plan, out: Path, *, resume: bool, progress: Progress) -> Run:
    """Score every model into a sealed run, or return the run that is there already."""
    settings = {
        "base": plan.base,
        "protocol": plan.settings.protocol,
        "batch_size": plan.settings.batch_size,
        "seed": plan.seed,
    }
    parents = {**plan.digests, "data": plan.documents.sha256}
    key = RunKey("evaluate", VERSION, settings, parents)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        models, tokenizer = load_all(plan.folders)
        scores = score(models, tokenizer, plan, progress)
        write_lines(folder / "documents.jsonl", [one.record() for one in scores.documents])
        write_lines(folder / "results.jsonl", _measurements(models, tokenizer, plan, scores))
        write_json(folder / "errors.json", _errors(models, tokenizer, plan))
        write_json(folder / "protocol.json", _protocol(plan, tokenizer, scores))
    return runs.open_run(out)


def evaluate_models(
    request: EvaluateRequest, out: Path | None, progress: Progress
) -> dict[str, Any]:
    """Score models of one tokenizer on a data expression and return the `--json` fields."""
    if out is not None and out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    documents = load_documents(request.data, split="test", limit=request.limit, seed=request.seed)
    names = named([*([request.base] if request.base else []), *request.models])
    plan = Plan(
        {name: Path(path) for name, path in names.items()},
        {},
        next(iter(names)) if request.base else None,
        documents,
        LanguageSettings(protocol=request.protocol, batch_size=request.batch_size),
        request.seed,
    )
    loaded, tokenizer = load_all(plan.folders)
    scores = score(loaded, tokenizer, plan, progress)
    found = _measurements(loaded, tokenizer, plan, scores)
    if out is not None:
        write_lines(out, [*found, *(one.record() for one in scores.documents)])
    return {"results": [asdict(one) for one in found]}


def named(paths: list[str]) -> dict[str, str]:
    """Return a short name for every path, unique even when the last parts are equal."""
    found: dict[str, str] = {}
    for path in dict.fromkeys(paths):
        parts = Path(path).parts
        length = 1
        while "/".join(parts[-length:]) in found and length < len(parts):
            length += 1
        found["/".join(parts[-length:])] = path
    return found


def load_all(folders: Mapping[str, Path]) -> tuple[dict[str, Any], Any]:
    """Load all models, and the tokenizer that they must share.

    Raises UsageError when two tokenizers differ: their tokens cannot be paired.
    """
    loaded = {name: load(folder) for name, folder in folders.items()}
    first, *rest = loaded
    tokenizer = loaded[first].tokenizer
    if tokenizer is None:
        raise DataError(f"{folders[first]}: holds no tokenizer")
    for name in rest:
        other = loaded[name].tokenizer
        if other is None or tokenizer_sha256(other) != tokenizer_sha256(tokenizer):
            raise UsageError(
                f"{first} and {name} have different tokenizers: evaluate each by itself and "
                "compare bits per byte"
            )
    return {name: one.model for name, one in loaded.items()}, tokenizer


def score(
    models: Mapping[str, Any], tokenizer: Any, plan: Plan, progress: Progress
) -> LanguageScores:
    """Score all models in one pass."""
    reached = 0

    def report(done: int, whole: int) -> None:
        nonlocal reached
        if not reached:
            progress.stage("evaluate", whole)
        progress.advance(done - reached)
        reached = done

    return language.score(models, tokenizer, plan.documents, plan.settings, plan.base, report)


def _measurements(
    models: Mapping[str, Any], tokenizer: Any, plan: Plan, scores: LanguageScores
) -> list[Measurement]:
    return with_origins(
        summary.measurements(scores.documents, scores.protocol, base=scores.base),
        origins_of(models),
        data_sha256=plan.documents.sha256,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
    )


def _errors(models: Mapping[str, Any], tokenizer: Any, plan: Plan) -> dict[str, dict[str, float]]:
    if plan.base is None:
        return {}
    base = models[plan.base]
    texts, marked = plan.documents.texts, plan.documents.marked
    stream = encode_documents(tokenizer, texts, marked=marked)
    length = min(named_context(base.config), len(stream))
    samples = max(1, min(_ERROR_WINDOWS, len(stream) // length))
    others = {name: model for name, model in models.items() if name != plan.base}
    return output_errors(base, others, calibration_windows(stream, samples, length, plan.seed))


def _protocol(plan: Plan, tokenizer: Any, scores: LanguageScores) -> dict[str, Any]:
    own = [one for one in scores.documents if one.model == scores.documents[0].model]
    return {
        "protocol": scores.protocol,
        "data": f"{plan.documents.source} ({plan.documents.split})",
        "data_sha256": plan.documents.sha256,
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "unit": scores.unit,
        "documents": len(own) if scores.unit == "document" else len(plan.documents),
        "units": len(own),
        "skipped_documents": len(scores.skipped),
        "tokens": sum(one.tokens for one in own),
        "unscored_tokens": scores.unscored,
        "words": sum(one.words for one in own),
        "bytes": sum(one.bytes for one in own),
        "unknown_tokens": sum(one.unknown for one in own),
    }
