"""`quantale evaluate`: score models on the same text."""

from pathlib import Path
from typing import Annotated

import typer

from quantale.cli.arguments import check_models, check_protocol
from quantale.cli.options import Debug, Json, Seed
from quantale.cli.terminal import Terminal, table
from quantale.stages.requests import EvaluateRequest

_COLUMNS = ("model", "task", "protocol", "metric", "value", "stderr", "unit", "n")


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Model directories or Hub names.")],
    data: Annotated[str, typer.Option("--data", metavar="D", help="Corpus, Hub name or file.")],
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="How text becomes scored tokens: document, blocks:N, stride:N or llamacpp:N.",
        ),
    ] = "document",
    base: Annotated[
        str | None, typer.Option("--base", help="Measure divergence from this model too.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="First N documents only.")
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Windows a forward pass.")
    ] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Write the records here.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure perplexity per token, word and byte and, with --base, divergence."""
    check_protocol(protocol)
    check_models([*models, *([base] if base else [])])
    terminal = Terminal(as_json, debug)
    from quantale.stages.evaluate import evaluate_models

    request = EvaluateRequest(
        tuple(models), data, base, protocol, limit=limit, batch_size=batch_size, seed=seed
    )

    with terminal.progress() as progress:
        result = evaluate_models(request, out, progress)
    terminal.result(result, table(result["results"], _COLUMNS))
