"""`quantale evaluate`: score models on the same text, or on the same labelled texts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from quantale.cli.arguments import check_models, check_protocol, check_route
from quantale.cli.classification_options import (
    Classes,
    Label,
    Length,
    Normalise,
    Route,
    Template,
    Words,
)
from quantale.cli.options import Debug, Json, Seed
from quantale.cli.terminal import Terminal, table
from quantale.core.errors import UsageError, nearest
from quantale.stages.requests import ClassifyRequest, EvaluateRequest

_CLASSIFICATION = "classification"
_TASKS = ("language", _CLASSIFICATION)

_COLUMNS = ("model", "task", "protocol", "metric", "value", "stderr", "unit", "n")


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Model directories or Hub names.")],
    data: Annotated[str, typer.Option("--data", metavar="D", help="Corpus, Hub name or file.")],
    task: Annotated[str, typer.Option("--task", help="language or classification.")] = "language",
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="How text becomes scored tokens: document, blocks:N, stride:N or llamacpp:N.",
        ),
    ] = "document",
    route: Route = None,
    label: Label = None,
    classes: Classes = None,
    length: Length = None,
    template: Template = None,
    words: Words = None,
    normalise: Normalise = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Measure divergence from this model too.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="First N documents only.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Windows or documents a forward pass.")
    ] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Write the records here.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure perplexity per token, word and byte, or accuracy and F1; --base: differences."""
    asked = {
        "route": route, "label": label, "classes": classes, "length": length,
        "template": template, "words": words, "normalise": normalise,
    }  # fmt: skip
    asked = {key: value for key, value in asked.items() if value is not None}
    _check_task(task, protocol, asked)
    check_models([*models, *([base] if base else [])])
    terminal = Terminal(as_json, debug)
    if task == _CLASSIFICATION:
        from quantale.stages.classify import classify_models

        request = _classify_request(asked, batch_size, tuple(models), data)
        request = replace(request, base=base, limit=limit, seed=seed)
        with terminal.progress() as progress:
            result = classify_models(request, out, progress)
        terminal.result(result, _classified(result))
        return
    from quantale.stages.evaluate import evaluate_models

    scored = EvaluateRequest(
        tuple(models), data, base, protocol, limit=limit, batch_size=batch_size, seed=seed
    )
    with terminal.progress() as progress:
        result = evaluate_models(scored, out, progress)
    terminal.result(result, table(result["results"], _COLUMNS))


def _check_task(task: str, protocol: str, asked: Mapping[str, Any]) -> None:
    if task not in _TASKS:
        raise UsageError(f"no task {task!r}; there are {', '.join(_TASKS)}{nearest(task, _TASKS)}")
    if task == _CLASSIFICATION:
        check_route(asked.get("route", "head"))
        return
    check_protocol(protocol)
    if asked:
        raise UsageError(f"--{next(iter(asked))} belongs to --task {_CLASSIFICATION}")


def _classify_request(
    asked: Mapping[str, Any], batch_size: int, models: tuple[str, ...], data: str
) -> ClassifyRequest:
    route = {key: asked[key] for key in ("route", "length", "normalise") if key in asked}
    if "template" in asked:
        route["template"] = asked["template"].replace("\\n", "\n")
    if "words" in asked:
        route["words"] = tuple(asked["words"].split(","))
    names = tuple(asked["classes"].split(",")) if "classes" in asked else None
    return ClassifyRequest(
        models,
        data,
        label=asked.get("label", "label"),
        classes=names,
        route={**route, "batch_size": batch_size},
    )


def _classified(result: Mapping[str, Any]) -> str:
    """Return the scores of all classes together, then each model's report and matrix."""
    overall = [row for row in result["results"] if "class" not in row["extra"]]
    parts = [table(overall, ("model", "protocol", "metric", "value", "ci_low", "ci_high", "n"))]
    for model, confusion in result["confusion"].items():
        classes = confusion["classes"]
        rows = [
            {"true": name, **dict(zip(classes, counts, strict=True))}
            for name, counts in zip(classes, confusion["matrix"], strict=True)
        ]
        parts += [f"{model}, by class", result["reports"][model].rstrip("\n")]
        parts += [f"{model}, columns are what it said", table(rows, ("true", *classes))]
    return "\n\n".join(parts)
