"""From classifiers to predictions: all of them on the same documents, each document once."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from quantale.core import run as runs
from quantale.core.classification_section import ClassificationSection
from quantale.core.errors import OutputExistsError
from quantale.core.progress import Progress
from quantale.core.recipe import Recipe
from quantale.core.records import Measurement, write_json, write_lines
from quantale.core.run import Run, RunKey
from quantale.data.documents import Documents
from quantale.data.labels import LABEL_COLUMN, Labelled, labelled
from quantale.data.load import load_documents
from quantale.data.tokenizers import tokenizer_sha256
from quantale.data.windows import calibration_windows, encode_documents
from quantale.evaluation import classified
from quantale.evaluation.classification import ClassificationSettings, Predictions, classify
from quantale.evaluation.confusion import as_text
from quantale.evaluation.predictions import Prediction
from quantale.evaluation.proportions import Flips
from quantale.evaluation.reading_memory import reading_memory
from quantale.evaluation.scores import by_model
from quantale.evaluation.windows import named_context
from quantale.models.load import read_config
from quantale.quant.damage import output_errors
from quantale.stages.evaluate import load_all, named
from quantale.stages.origin import origins_of, with_origins
from quantale.stages.requests import ClassifyRequest

VERSION = 2


@dataclass(frozen=True)
class Classifying:
    """What is classified, and how."""

    folders: Mapping[str, Path]
    """Model folders by name, the base first."""
    digests: Mapping[str, str]
    """What each folder holds."""
    data: Labelled
    settings: ClassificationSettings
    base: str | None = None
    """Name of the model that the others are set against."""
    seed: int = 0


def classifying(
    recipe: Recipe, folders: Mapping[str, Path], digests: Mapping[str, str], documents: Documents
) -> Classifying:
    """Return what a recipe with a classification section asks for; the first folder is the base."""
    section = recipe.evaluate.classification or ClassificationSection()
    base = next(iter(folders))
    own = head_classes(read_config(folders[base]))
    classes = section.classes or recipe.data.classes or own
    data = labelled(documents, section.label or recipe.data.label or LABEL_COLUMN, classes)
    given = {"length": recipe.data.length, **section.given()}
    settings = ClassificationSettings(batch_size=recipe.evaluate.batch_size, **given)
    return Classifying(folders, digests, data, settings, base, recipe.seed)


def classify_stage(plan: Classifying, out: Path, *, resume: bool, progress: Progress) -> Run:
    """Classify with every model into a sealed run, or return the run that is there already."""
    settings = {**asdict(plan.settings), "base": plan.base, "seed": plan.seed}
    key = RunKey("classify", VERSION, settings, {**plan.digests, "data": plan.data.sha256})
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        models, tokenizer = load_all(plan.folders)
        found = _classify(models, tokenizer, plan, progress)
        write_lines(folder / "documents.jsonl", [one.record() for one in found.documents])
        write_lines(folder / "results.jsonl", _measurements(models, tokenizer, plan, found))
        write_json(folder / "confusion.json", _confusion(found))
        write_json(folder / "reports.json", _reports(found))
        write_json(folder / "timings.json", _timings(found, plan))
        write_json(folder / "memory.json", _memory(models, plan))
        write_json(folder / "errors.json", _errors(models, tokenizer, plan))
        write_json(folder / "protocol.json", _protocol(plan, tokenizer, found))
    return runs.open_run(out)


def classify_models(
    request: ClassifyRequest, out: Path | None, progress: Progress
) -> dict[str, Any]:
    """Classify a data expression with models of one tokenizer; return the `--json` fields."""
    if out is not None and out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    documents = load_documents(request.data, split="test", limit=request.limit, seed=request.seed)
    names = named([*([request.base] if request.base else []), *request.models])
    models, tokenizer = load_all({name: Path(path) for name, path in names.items()})
    classes = request.classes or head_classes(next(iter(models.values())).config)
    plan = Classifying(
        {name: Path(path) for name, path in names.items()},
        {},
        labelled(documents, request.label, classes),
        ClassificationSettings(**request.route),
        next(iter(names)) if request.base else None,
        request.seed,
    )
    found = _classify(models, tokenizer, plan, progress)
    lines = _measurements(models, tokenizer, plan, found)
    if out is not None:
        write_lines(out, [*lines, *(one.record() for one in found.documents)])
    return {
        "results": [asdict(one) for one in lines],
        "confusion": _confusion(found),
        "reports": _reports(found),
    }


def head_classes(config: Any) -> tuple[str, ...] | None:
    """Return the class names of a classifier's configuration, None where they are made up."""
    names = getattr(config, "id2label", None) or {}
    found = tuple(str(names[number]) for number in sorted(names))
    is_head = any(name.endswith("ForSequenceClassification") for name in config.architectures or ())
    is_named = not all(name == f"LABEL_{number}" for number, name in enumerate(found))
    return found if is_head and is_named else None


def _classify(
    models: Mapping[str, Any], tokenizer: Any, plan: Classifying, progress: Progress
) -> Predictions:
    reached = 0

    def report(done: int, whole: int) -> None:
        nonlocal reached
        if not reached:
            progress.stage("classify", whole)
        progress.advance(done - reached)
        reached = done

    items = plan.data.documents.items
    data = ([item.id for item in items], [item.text for item in items], plan.data.labels)
    return classify(models, tokenizer, data, plan.data.classes, plan.settings, report)


def _measurements(
    models: Mapping[str, Any], tokenizer: Any, plan: Classifying, found: Predictions
) -> list[Measurement]:
    own = classified.measurements(found.documents, found.protocol)
    return with_origins(
        [*own, *_flips(plan, found)],
        origins_of(models),
        data_sha256=plan.data.sha256,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
    )


def _flips(plan: Classifying, found: Predictions) -> list[Measurement]:
    """Return how many answers each model breaks and fixes, where there is a base."""
    groups = by_model(found.documents)
    if plan.base is None:
        return []
    base = classified.right(groups[plan.base])
    lines = []
    for name, own in groups.items():
        flips = Flips.between(base, classified.right(own))
        extra: dict[str, float | str | int] = {"base": plan.base, "mcnemar_p": flips.mcnemar()}
        for metric, value in (("broken", flips.broken), ("fixed", flips.fixed)):
            line = Measurement(name, classified.TASK, found.protocol, metric, value, "documents",
                               flips.n, extra=extra)  # fmt: skip
            lines += [line] if name != plan.base else []
    return lines


def _confusion(found: Predictions) -> dict[str, Any]:
    return {
        name: {"classes": classified.classes_of(own), "matrix": classified.matrix_of(own).tolist()}
        for name, own in by_model(found.documents).items()
    }


def _reports(found: Predictions) -> dict[str, str]:
    groups: Mapping[str, list[Prediction]] = by_model(found.documents)
    return {name: as_text(classified.report_of(own)) for name, own in groups.items()}


def _timings(found: Predictions, plan: Classifying) -> dict[str, dict[str, float]]:
    """Return the time of every model; unlike the other files it differs from run to run."""
    documents = len(plan.data.documents)
    size = float(plan.settings.batch_size)
    return {
        name: {"ms_per_document": 1000 * seconds / documents, "documents_per_batch_at_most": size}
        for name, seconds in found.seconds.items()
    }


def _memory(models: Mapping[str, Any], plan: Classifying) -> dict[str, dict[str, int]]:
    """Return the memory of every model over a batch as long as it may be, in bytes."""
    context = min(named_context(model.config) for model in models.values())
    length = min(plan.settings.length or context, context)
    batch = min(plan.settings.batch_size, len(plan.data.documents))
    threads = torch.get_num_threads()
    return reading_memory(plan.folders, length=length, batch=batch, threads=threads)


def _errors(
    models: Mapping[str, Any], tokenizer: Any, plan: Classifying
) -> dict[str, dict[str, float]]:
    """Return the error of every layer on one window of the documents' texts."""
    if plan.base is None:
        return {}
    base = models[plan.base]
    stream = encode_documents(tokenizer, plan.data.documents.texts)
    length = min(named_context(base.config), len(stream))
    window: torch.Tensor = calibration_windows(stream, 1, length, plan.seed)
    others = {name: model for name, model in models.items() if name != plan.base}
    return output_errors(base, others, window)


def _protocol(plan: Classifying, tokenizer: Any, found: Predictions) -> dict[str, Any]:
    settings = asdict(plan.settings)
    if plan.settings.route == "head":
        settings = {key: settings[key] for key in ("route", "length", "batch_size")}
    return {
        "protocol": found.protocol,
        **{key: value for key, value in settings.items() if value is not None},
        "classes": list(plan.data.classes),
        "data": f"{plan.data.documents.source} ({plan.data.documents.split})",
        "data_sha256": plan.data.sha256,
        "tokenizer_sha256": tokenizer_sha256(tokenizer),
        "documents": len(plan.data.documents),
        "intervals": "95 %: Wilson's for accuracy, bootstrap over documents for the macro scores",
        "calibration": f"expected calibration error, {classified.BINS} bins of equal width",
    }
