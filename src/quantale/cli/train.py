"""`quantale train`: a recipe's training, or fine-tuning of a model on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantale.cli.arguments import check_models, folder_name
from quantale.cli.options import (
    Debug,
    Json,
    Out,
    Profile,
    RecipeSeed,
    Resume,
    Sets,
    with_data,
    with_seed,
)
from quantale.cli.terminal import Terminal, pairs
from quantale.core.errors import UsageError, nearest

if TYPE_CHECKING:
    from quantale.core.recipe_file import ResolvedRecipe

_METHODS = ("full",)
_FINE_TUNING = {
    "steps": 500,
    "batch_size": 4,
    "accumulation": 4,
    "learning_rate": 5e-5,
    "min_learning_rate": 5e-6,
    "warmup_steps": 25,
    "evaluate_every": 100,
    "checkpoint_every": 100,
}


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A shipped recipe's name or a YAML file.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Fine-tune this model.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Corpus, Hub name or file.")] = None,
    method: Annotated[str, typer.Option("--method", help="What is trained: full.")] = "full",
    profile: Profile = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    out: Out = None,
    resume: Resume = False,
    seed: RecipeSeed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe's model, or fine-tune --model on --data."""
    if method not in _METHODS:
        hint = nearest(method, _METHODS) or f"; there are {', '.join(_METHODS)}"
        raise UsageError(f"no training method named {method!r}{hint}")
    terminal = Terminal(as_json, debug)
    if recipe is None and profile is not None:
        raise UsageError("--profile belongs to a recipe")
    resolved = _resolve(recipe, model, data, with_seed(sets, seed), profile)
    folder = out or Path("runs") / resolved.recipe.name / "train"
    from quantale.stages.train import train_command

    with terminal.progress() as progress:
        result = train_command(resolved, folder, resume=resume, progress=progress)
    terminal.result(result, pairs(result))


def _resolve(
    recipe: str | None,
    model: str | None,
    data: str | None,
    sets: list[str],
    profile: str | None,
) -> "ResolvedRecipe":
    from quantale.core.recipe_file import load_recipe

    if (recipe is None) == (model is None):
        raise UsageError("train needs either a recipe or --model M --data D")
    if recipe is not None:
        return load_recipe(recipe, with_data(sets, data), profile)
    if model is None or data is None:
        raise UsageError("train --model needs --data")
    check_models([model])
    return _fine_tuning(model, data, sets)


def _fine_tuning(model: str, data: str, sets: list[str]) -> "ResolvedRecipe":
    from quantale.core.recipe_file import Draft, resolve

    draft: dict[str, Any] = {
        "name": folder_name(model, "tuned")[-64:].lstrip("-._"),
        "data": {"source": data},
        "tokenizer": {"kind": "pretrained"},
        "model": {"kind": "pretrained", "path": model},
        "train": dict(_FINE_TUNING),
    }
    places: dict[tuple[str | int, ...], str] = {
        ("model", "path"): "--model",
        ("data", "source"): "--data",
    }
    return resolve(Draft(draft, places), sets, f"train --model {model}")
