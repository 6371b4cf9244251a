"""`quantale inspect`: where every byte of a model goes."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json
from quantale.cli.terminal import Terminal, pairs, table

_COLUMNS = ("name", "role", "shape", "method", "format", "bits_per_weight", "kernel", "fast_kernel")


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
    parts = (
        pairs(result),
        pairs(result["components"]),
        table(result["sites"], _COLUMNS),
        _refusals(result["refusals"]),
    )
    return "\n\n".join(part for part in parts if part)


def _refusals(found: Mapping[str, Mapping[str, int]]) -> str:
    """Say why a kernel does not run, with the number of sites."""
    lines = [
        f"{kernel} refuses {count} sites: {reason}"
        for kernel, reasons in found.items()
        for reason, count in reasons.items()
    ]
    return "\n".join(lines)
