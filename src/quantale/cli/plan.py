"""`quantale plan`: what a recipe will do and cost, before it does."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from quantale.cli.terminal import Terminal, pairs, table
from quantale.core.byte_sizes import parse_bytes, show_bytes


def plan(
    recipe: Annotated[
        str | None, typer.Argument(help="A shipped recipe's name or a YAML file.")
    ] = None,
    profile: Profile = None,
    data: RecipeData = None,
    memory: Annotated[
        str | None, typer.Option("--memory", metavar="BYTES", help="What it must fit in: 8GB.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="RUN", help="Compare with what a run took.")
    ] = None,
    sets: Sets = [],  # noqa: B006  typer's way to say "none given"
    seed: RecipeSeed = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show each value's origin; predict time, memory and disk."""
    from quantale.core.errors import UsageError
    from quantale.core.recipe_file import load_recipe

    terminal = Terminal(as_json, debug)
    if (recipe is None) == (against is None):
        raise UsageError("plan needs either a recipe or --against RUN")
    if recipe is None or against is not None:
        from quantale.stages.plan_kept import held_against

        rows = held_against(against or Path())
        terminal.result({"stages": rows}, against_table(rows))
        return
    resolved = load_recipe(recipe, with_seed(with_data(sets, data), seed), profile)
    from quantale.stages.pipeline import plan_recipe

    predicted = plan_recipe(resolved, None if memory is None else parse_bytes(memory))
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
    stages = predicted.get("stages", [])
    rows = [
        {
            "stage": line["stage"],
            "time": _time(line["seconds"]),
            "memory": _memory(line),
            "disk": show_bytes(line["disk_bytes"]),
            "fits": "yes" if line["fits"] else "NO",
        }
        for line in stages
    ]
    shown = table(rows, ("stage", "time", "memory", "disk", "fits")) if rows else ""
    fits = [f"{line['stage']} {way}" for line in stages for way in _ways(line)]
    return "\n".join(part for part in ("predicted", pairs(predicted), shown, *fits) if part)


def _memory(line: Mapping[str, Any]) -> str:
    """Return the peak, and where it is that of a GPU, say so."""
    device = line.get("device", "cpu")
    shown = show_bytes(line["peak_memory_bytes"])
    return shown if device == "cpu" else f"{shown} on {device}"


def _ways(line: Mapping[str, Any]) -> list[str]:
    if line["fits"] or "would_fit" not in line:
        return []
    ways = [
        f"would fit with {way['change']}: {show_bytes(way['peak_memory_bytes'])}"
        for way in line["would_fit"]
    ]
    return ways or ["does not fit with any change that was computed"]


def against_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return predicted / measured of every stage as text."""
    columns = (("seconds", _time), ("peak_memory_bytes", _bytes), ("disk_bytes", _bytes))
    shown = [
        {
            "stage": row["stage"],
            **{name: _pair(show, row, name) for name, show in columns},
        }
        for row in rows
    ]
    head = "predicted / measured (ratio)"
    return f"{head}\n{table(shown, ('stage', *(name for name, _ in columns)))}"


def _pair(show: Any, row: Mapping[str, Any], name: str) -> str:
    ratio = row[f"{name}_ratio"]
    both = f"{show(row[name])} / {show(row[f'{name}_measured'])}"
    return both if ratio is None else f"{both} ({ratio:.2f})"


def _bytes(number: float | None) -> str:
    return "?" if number is None else show_bytes(number)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds:.3g} s" if seconds < 600 else f"{seconds / 3600:.3g} h"
