"""`quantale run`: a whole experiment."""

from pathlib import Path
from typing import Annotated

import typer

from quantale.cli.options import (
    Debug,
    Json,
    Out,
    Profile,
    RecipeData,
    RecipeSeed,
    Resume,
    Sets,
    with_data,
    with_seed,
)
from quantale.cli.plan import against_table
from quantale.cli.terminal import Terminal, pairs


def run(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name or a YAML file.")],
    out: Out = None,
    profile: Profile = None,
    data: RecipeData = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="STAGE", help="This stage, or group of variants, only."),
    ] = None,
    resume: Resume = False,
    seed: RecipeSeed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train, quantize, evaluate, compare, and make a page."""
    from quantale.core.recipe_file import load_recipe

    terminal = Terminal(as_json, debug)
    resolved = load_recipe(recipe, with_seed(with_data(sets, data), seed), profile)
    folder = out or Path("runs") / resolved.recipe.name
    from quantale.stages.pipeline import run_recipe

    with terminal.progress() as progress:
        result = run_recipe(resolved, folder, only=only, resume=resume, progress=progress)
    shown = {"out": folder, **result.summary, "report": result.report}
    text = pairs(shown)
    if result.summary.get("plan"):
        text = f"{against_table(result.summary['plan'])}\n\n{text}"
    terminal.result(shown, text)
