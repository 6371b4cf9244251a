"""`quantale inspect`: where every byte of a model goes."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json
from quantale.cli.terminal import Terminal, pairs, table

_COLUMNS = ("name", "role", "shape", "method", "format", "bits_per_weight", "kernel")


def inspect(
    model: Annotated[str, typer.Argument(help="Model directory or Hub name.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show where the bytes go; method, format, kernel of each site."""
    check_models([model])
    terminal = Terminal(as_json, debug)
    from quantale.stages.inspect import inspect_model

    result = inspect_model(model)
    terminal.result(result, _text(result))


def _text(result: Mapping[str, Any]) -> str:
    parts = (pairs(result), pairs(result["components"]), table(result["sites"], _COLUMNS))
    return "\n\n".join(parts)
