"""`quantale compare`: is another model as good as the base?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json, Out, Seed
from quantale.cli.terminal import Terminal, table
from quantale.core.errors import UsageError

_COLUMNS = ("base", "other", "metric", "delta", "ci_low", "ci_high", "margin", "verdict")
_METRIC = "perplexity"
_EXIT_CODES = {"PASS": 0, "FAIL": 10, "CANNOT TELL": 11}


def compare(
    base: Annotated[
        str, typer.Argument(help="Model, or result of `evaluate --out` (FILE or FILE#MODEL).")
    ],
    others: Annotated[
        list[str], typer.Argument(help="Models or results; none: the other models of one file.")
    ] = [],  # noqa: B006  typer's way to say "none given"
    data: Annotated[
        str | None, typer.Option("--data", metavar="D", help="Text to compare models on.")
    ] = None,
    margin: Annotated[
        float, typer.Option("--margin", min=0.0, help="Relative rise that is called equal.")
    ] = 0.01,
    metric: Annotated[
        str, typer.Option("--metric", help="perplexity, or bits_per_byte across tokenizers.")
    ] = _METRIC,
    out: Out = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say PASS (exit 0), FAIL (10) or CANNOT TELL (11) of models or results."""
    terminal = Terminal(as_json, debug)
    names = [base, *others]
    results = [name for name in names if _is_result(name)]
    if results and len(results) < len(names):
        raise UsageError(f"{results[0]} is a result: compare results with results, or models")
    if results:
        _refuse_for_results(data, out)
        from quantale.report.compare import compare_files

        paths = [Path(name) for name in names]
        found = compare_files(paths[0], paths[1:], margin, seed=seed, metric=metric)
    else:
        if metric != _METRIC:
            raise UsageError(
                f"models are compared by {_METRIC}; evaluate them, compare the results"
            )
        found = _compare_models(terminal, names, data, margin=margin, out=out, seed=seed)
    terminal.result(found, f"{table(found['pairs'], _COLUMNS)}\n{found['verdict']}")
    raise typer.Exit(_EXIT_CODES[found["verdict"]])


def _is_result(name: str) -> bool:
    """Return whether a name is a file, a file with `#model`, or the folder of an evaluation."""
    path = Path(name)
    if not path.exists():
        path = path.with_name(path.name.rpartition("#")[0] or path.name)
    inside = ("documents.jsonl", "results.jsonl", "evaluate")
    return path.is_file() or any((path / kept).exists() for kept in inside)


def _refuse_for_results(data: str | None, out: Path | None) -> None:
    if data is not None or out is not None:
        raise UsageError("results are compared as they are: leave --data and --out away")


def _compare_models(
    terminal: Terminal,
    names: list[str],
    data: str | None,
    *,
    margin: float,
    out: Path | None,
    seed: int,
) -> dict[str, Any]:
    check_models(names)
    base, *others = names
    if not others or data is None:
        raise UsageError("comparing models needs two or more and --data (or give results)")
    from quantale.stages.compare import compare_models

    with terminal.progress() as progress:
        return compare_models(
            base, others, data=data, margin=margin, out=out, seed=seed, progress=progress
        )
