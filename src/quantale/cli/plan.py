"""`quantale plan`: what a recipe will do and cost, before it does."""

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from quantale.cli.options import (
    Debug,
    Json,
    Profile,
    RecipeData,
    RecipeSeed,
    Sets,
    with_data,
    with_seed,
)
from quantale.cli.terminal import Terminal, pairs


def plan(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name or a YAML file.")],
    profile: Profile = None,
    data: RecipeData = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    seed: RecipeSeed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show each value's origin; predict time, memory and disk."""
    from quantale.core.recipe_file import load_recipe

    terminal = Terminal(as_json, debug)
    resolved = load_recipe(recipe, with_seed(with_data(sets, data), seed), profile)
    from quantale.stages.pipeline import plan_recipe

    predicted = plan_recipe(resolved)
    values = resolved.recipe.model_dump(mode="json")
    shown = {"recipe": values, "origins": dict(resolved.origins), "predicted": predicted}
    text = f"{_with_origins(values, resolved.origins)}\n\n{_predictions(predicted)}"
    terminal.result(shown, text)


def _with_origins(values: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    """Return one line a value: dotted key, value, where it was written."""
    shown = [(key, json.dumps(_value_at(values, key)), origin) for key, origin in origins.items()]
    key_width = max(len(key) for key, _, _ in shown)
    value_width = min(48, max(len(value) for _, value, _ in shown))
    return "\n".join(
        f"{key.ljust(key_width)}  {value.ljust(value_width)}  # {origin}"
        for key, value, origin in shown
    )


def _value_at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values[int(part) if isinstance(values, list) else part]
    return values


def _predictions(predicted: Mapping[str, Any]) -> str:
    nested = {key: value for key, value in predicted.items() if isinstance(value, list | dict)}
    lines = [f"{key}: {json.dumps(value)}" for key, value in nested.items()]
    return "\n".join(part for part in ("predicted", pairs(predicted), *lines) if part)
