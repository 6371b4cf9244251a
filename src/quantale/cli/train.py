"""`quantale train`: a recipe's training, or fine-tuning of a model on a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quantale.cli.arguments import check_models, check_tuning, folder_name
from quantale.cli.options import Debug, Json, Out, RecipeSeed, Resume, Sets, with_seed
from quantale.cli.terminal import Terminal, pairs
from quantale.core.errors import UsageError

if TYPE_CHECKING:
    from quantale.core.recipe_file import ResolvedRecipe

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
    method: Annotated[
        str, typer.Option("--method", help="Tuning method, as full or distill.")
    ] = "full",
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="T", help="Model that --method learns from.")
    ] = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    out: Out = None,
    resume: Resume = False,
    seed: RecipeSeed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe's model, or fine-tune --model on --data."""
    check_tuning(method)
    terminal = Terminal(as_json, debug)
    resolved = _resolve(recipe, model, data, with_seed(sets, seed), _asked(method, teacher))
    folder = out or Path("runs") / resolved.recipe.name / "train"
    from quantale.stages.train import train_command

    with terminal.progress() as progress:
        result = train_command(resolved, folder, resume=resume, progress=progress)
    terminal.result(result, pairs(result))


def _asked(method: str, teacher: str | None) -> dict[str, str]:
    """Return what the options say of the training, by key of the section `train`."""
    if teacher is not None:
        check_models([teacher])
    return {"method": method, **({} if teacher is None else {"teacher": teacher})}


def _resolve(
    recipe: str | None, model: str | None, data: str | None, sets: list[str], asked: dict[str, str]
) -> "ResolvedRecipe":
    from quantale.core.recipe_file import load_recipe

    if (recipe is None) == (model is None):
        raise UsageError("train needs either a recipe or --model M --data D")
    if recipe is not None:
        if asked != {"method": "full"}:
            raise UsageError("--method and --teacher go with --model; a recipe says it in `train`")
        return load_recipe(recipe, [*([f"data={data}"] if data else []), *sets])
    if model is None or data is None:
        raise UsageError("train --model needs --data")
    check_models([model])
    return _fine_tuning(model, data, sets, asked)


def _fine_tuning(model: str, data: str, sets: list[str], asked: dict[str, str]) -> "ResolvedRecipe":
    from quantale.core.recipe_file import Draft, resolve

    draft: dict[str, Any] = {
        "name": folder_name(model, "tuned")[-64:].lstrip("-._"),
        "data": {"source": data},
        "tokenizer": {"kind": "pretrained"},
        "model": {"kind": "pretrained", "path": model},
        "train": {**_FINE_TUNING, **asked},
    }
    places: dict[tuple[str | int, ...], str] = {
        ("model", "path"): "--model",
        ("data", "source"): "--data",
        **{("train", key): f"--{key}" for key in asked},
    }
    return resolve(Draft(draft, places), sets, f"train --model {model}")
