"""`quantale recipes`: the shipped experiments."""

from typing import Annotated

import typer

from quantale.cli.options import Debug, Json
from quantale.cli.terminal import Terminal, table


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the shipped recipes, or print one to copy and edit."""
    from quantale.core.recipe_file import (
        recipe_description,
        recipe_names,
        recipe_profiles,
        recipe_text,
    )

    terminal = Terminal(as_json, debug)
    if name is not None:
        text = recipe_text(name)
        terminal.result({"name": name, "text": text}, text.rstrip("\n"))
        return
    rows = [
        {
            "name": known,
            "profiles": ", ".join(recipe_profiles(known)),
            "description": recipe_description(known),
        }
        for known in recipe_names()
    ]
    terminal.result({"recipes": rows}, table(rows, ("name", "profiles", "description")))
