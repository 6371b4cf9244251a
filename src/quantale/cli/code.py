"""`quantale code`: perplexity of docstrings and code, and whether written functions parse."""

from pathlib import Path
from typing import Annotated

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json, MaxNewTokens, Seed, Temperature, TopK
from quantale.cli.stories import by_metric
from quantale.cli.terminal import Terminal
from quantale.stages.requests import EvaluateRequest


def code(
    models: Annotated[list[str], typer.Argument(help="Model directories or Hub names.")],
    data: Annotated[
        str, typer.Option("--data", metavar="D", help="Python functions: FILE#COLUMN or Hub name.")
    ],
    base: Annotated[
        str | None, typer.Option("--base", help="Compare with this model, function by function.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="First N functions.")] = 200,
    prompts: Annotated[
        int, typer.Option("--prompts", min=0, help="Functions to write anew; 0: none.")
    ] = 50,
    new_tokens: MaxNewTokens = 128,
    temperature: Temperature = 0.8,
    top_k: TopK = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Texts at once.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Seal functions and records here.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure models on Python functions, docstring and code apart."""
    check_models([*models, *([base] if base else [])])
    terminal = Terminal(as_json, debug)
    from quantale.core.recipe_writing import CodeSection
    from quantale.stages.code import write_code

    section = CodeSection(
        data=data,
        documents=limit,
        prompts=prompts,
        new_tokens=new_tokens,
        temperature=temperature,
        top_k=top_k or None,
        batch_size=batch_size,
        seed=seed,
    )
    request = EvaluateRequest(tuple(models), data, base, "code", limit=limit, seed=seed)
    with terminal.progress() as progress:
        result = write_code(request, section, out, progress)
    terminal.result(result, by_metric(result["results"]))
