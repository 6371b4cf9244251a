"""`quantale stories`: let models write, and measure what they wrote."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json, MaxNewTokens, Seed, Temperature, TopK
from quantale.cli.terminal import Terminal, table
from quantale.core.errors import UsageError
from quantale.stages.requests import StoriesRequest


def stories(
    models: Annotated[list[str], typer.Argument(help="Model directories or Hub names.")],
    data: Annotated[str, typer.Option("--data", metavar="D", help="Corpus, Hub name or file.")],
    base: Annotated[
        str | None, typer.Option("--base", help="Compare with this model, prompt by prompt.")
    ] = None,
    training: Annotated[
        str | None,
        typer.Option("--training", metavar="D", help="What the models were trained on."),
    ] = None,
    prompts: Annotated[int, typer.Option("--prompts", min=1, help="Beginnings to go on.")] = 100,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Stories a prompt.")] = 1,
    template: Annotated[
        str,
        typer.Option("--template", help="{genre}, {characters}, {prompt}, {opening} are filled."),
    ] = "{opening}",
    opening_words: Annotated[
        int, typer.Option("--opening-words", min=0, help="Least words of the opening.")
    ] = 12,
    new_tokens: MaxNewTokens = 200,
    temperature: Temperature = 0.8,
    top_k: TopK = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Stories at once.")] = 16,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Seal stories and records here.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure stories that models write, beside those of the corpus."""
    check_models([*models, *([base] if base else [])])
    terminal = Terminal(as_json, debug)
    section = _section(
        prompts=prompts,
        samples=samples,
        template=template.replace("\\n", "\n"),
        opening_words=opening_words,
        new_tokens=new_tokens,
        temperature=temperature,
        top_k=top_k or None,
        batch_size=batch_size,
        seed=seed,
    )
    from quantale.stages.stories import write_stories

    request = StoriesRequest(tuple(models), data, base, training, seed)
    with terminal.progress() as progress:
        result = write_stories(request, section, out, progress)
    terminal.result(result, by_metric(result["results"]))


def _section(**values: Any) -> Any:
    from pydantic import ValidationError

    from quantale.core.recipe_writing import StoriesSection

    try:
        return StoriesSection(**values)
    except ValidationError as error:
        raise UsageError(f"--template: {error.errors()[0]['msg']}") from error


def by_metric(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records as a table of metrics, one column a model."""
    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        row = rows.setdefault(record["metric"], {"metric": record["metric"]})
        row |= {record["model"]: record["value"], "unit": record["unit"]}
    models = list(dict.fromkeys(record["model"] for record in records))
    return table(list(rows.values()), ("metric", *models, "unit"))
