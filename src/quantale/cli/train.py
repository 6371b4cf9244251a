"""`quantale train`: a recipe's training, or fine-tuning of a model on a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from quantale.cli.arguments import check_method, check_models, check_tuning, folder_name
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
from quantale.cli.quantize import parse_preset
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
    "warmup": 0.05,
    "evaluate_every": 100,
    "checkpoint_every": 100,
}
_OF_METHOD: Mapping[str, Mapping[str, Any]] = {
    "lora": {"learning_rate": 2e-4, "min_learning_rate": 2e-5, "weight_decay": 0.0},
}
"""What a method wants otherwise: adapters begin as zeros and move at larger rates."""

Method = Annotated[
    str | None, Option("--method", help="full, lora or another tuning method [default: full].")
]
Rank = Annotated[int | None, Option("--rank", min=1, help="Of low-rank adapters.")]
Alpha = Annotated[float | None, Option("--alpha", help="Adapters are scaled by alpha / rank.")]
Teacher = Annotated[
    str | None, Option("--teacher", metavar="M", help="Model to learn from, where that is done.")
]
Quantize = Annotated[
    str | None,
    Option("--quantize", metavar="METHOD", help="Quantize --model first: nf4 makes it QLoRA."),
]
Preset = Annotated[str | None, Option("--preset", help="Of --quantize, as w4g64.")]


def train(
    recipe: Annotated[
        str | None, typer.Argument(help="A shipped recipe's name or a YAML file.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Fine-tune this model.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Corpus, Hub name or file.")] = None,
    method: Method = None,
    rank: Rank = None,
    alpha: Alpha = None,
    teacher: Teacher = None,
    quantize: Quantize = None,
    preset: Preset = None,
    profile: Profile = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    out: Out = None,
    resume: Resume = False,
    seed: RecipeSeed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a recipe's model, or fine-tune --model on --data."""
    if method is not None:
        check_tuning(method)
    if teacher is not None:
        check_models([teacher])
    packing = _packing(quantize, preset, model)
    asked = {"method": method, "settings.rank": rank, "settings.alpha": alpha, "teacher": teacher}
    options = [f"train.{key}={value}" for key, value in asked.items() if value is not None]
    terminal = Terminal(as_json, debug)
    if recipe is None and profile is not None:
        raise UsageError("--profile belongs to a recipe")
    sets = with_seed([*options, *sets], seed)
    resolved = _resolve(recipe, (model, data), sets, method, profile)
    folder = out or Path("runs") / resolved.recipe.name / "train"
    with terminal.progress() as progress:
        if packing is None:
            from quantale.stages.train import train_command

            result = train_command(resolved, folder, resume=resume, progress=progress)
        else:
            from quantale.stages.train_packed import train_packed

            result = train_packed(resolved, packing, folder, resume=resume, progress=progress)
    if result is not None:
        terminal.result(result, pairs(result))


def _packing(quantize: str | None, preset: str | None, model: str | None) -> dict[str, Any] | None:
    """Return how the model is quantized before it is trained."""
    settings = parse_preset(preset)
    if quantize is None:
        if settings:
            raise UsageError("--preset belongs to --quantize")
        return None
    if model is None:
        raise UsageError("--quantize needs --model; a recipe's variants say it for themselves")
    check_method(quantize)
    return {"method": quantize, **settings}


def _resolve(
    recipe: str | None,
    given: tuple[str | None, str | None],
    sets: list[str],
    method: str | None,
    profile: str | None,
) -> "ResolvedRecipe":
    from quantale.core.recipe_file import load_recipe

    model, data = given
    if (recipe is None) == (model is None):
        raise UsageError("train needs either a recipe or --model M --data D")
    if recipe is not None:
        return load_recipe(recipe, with_data(sets, data), profile)
    if model is None or data is None:
        raise UsageError("train --model needs --data")
    check_models([model])
    return _fine_tuning(model, data, sets, method or "full")


def _fine_tuning(model: str, data: str, sets: list[str], method: str) -> "ResolvedRecipe":
    from quantale.core.recipe_file import Draft, resolve

    draft: dict[str, Any] = {
        "name": folder_name(model, "tuned")[-64:].lstrip("-._"),
        "data": {"source": data},
        "tokenizer": {"kind": "pretrained"},
        "model": {"kind": "pretrained", "path": model},
        "train": _defaults(method, sets),
    }
    places: dict[tuple[str | int, ...], str] = {
        ("model", "path"): "--model",
        ("data", "source"): "--data",
    }
    return resolve(Draft(draft, places), sets, f"train --model {model}")


def _defaults(method: str, sets: list[str]) -> dict[str, Any]:
    """Return the settings nobody gave; a warm-up in steps takes the place of that in shares."""
    values = {**_FINE_TUNING, **_OF_METHOD.get(method, {})}
    if any(one.startswith("train.warmup_steps=") for one in sets):
        del values["warmup"]
    return values
