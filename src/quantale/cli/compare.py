"""`quantale compare`: is another model as good as the base?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json, Out, Seed
from quantale.cli.terminal import EXIT_CODES, Terminal, table
from quantale.core.errors import UsageError

_COLUMNS = (
    "base", "other", "metric", "delta", "ci_low", "ci_high", "margin", "p_holm", "n",
    "n_that_would_tell", "verdict", "scope",
)  # fmt: skip
_OF_LANGUAGE = ("perplexity", "bits_per_byte")
"""What models are compared by without an evaluation before."""


def compare(
    base: Annotated[
        str,
        typer.Argument(
            help="Model, or result of `evaluate --out`: FILE, FILE#MODEL, or FILE,FILE,FILE for "
            "training seeds of one method."
        ),
    ],
    others: Annotated[
        list[str], typer.Argument(help="Models or results; none: the other models of one file.")
    ] = [],  # noqa: B006  typer's way to say "none given"
    data: Annotated[
        str | None, typer.Option("--data", metavar="D", help="Text to compare models on.")
    ] = None,
    margin: Annotated[
        str | None,
        typer.Option(
            "--margin",
            metavar="M",
            help="Loss that is called equal: 1% of perplexity, 0.5pt of accuracy (the defaults).",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="perplexity; bits_per_byte across tokenizers; accuracy or macro_f1: classifiers.",
        ),
    ] = None,
    out: Out = None,
    votes: Annotated[
        Path | None,
        typer.Option("--votes", metavar="FILE.jsonl", help="Add what blind votes say."),
    ] = None,
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
        found = _compare_results(names, margin, metric, seed)
    else:
        found = _compare_models(terminal, names, data, (margin, metric), out=out, seed=seed)
    text = f"{table(found['pairs'], _columns(found['pairs']))}\n{found['verdict']}"
    if votes is not None:
        found["votes"] = _voted(votes)
        text = f"{_votes_table(found['votes'])}\n\n{text}"
    terminal.result(found, text)
    raise typer.Exit(EXIT_CODES[found["verdict"]])


def _voted(path: Path) -> list[dict[str, Any]]:
    from quantale.evaluation.votes import read_ballots, standings

    return [one.record() for one in standings(read_ballots(path))]


def _votes_table(found: list[dict[str, Any]]) -> str:
    rows = [
        {
            "votes": one["n"],
            **{name: _interval(one["shares"][name]) for name in ("first", "second", "tie", "bad")},
            "a": one["first"],
            "b": one["second"],
            "preferred": one["preferred"] or "cannot tell",
        }
        for one in found
    ]
    return table(rows, ["a", "b", "votes", "first", "second", "tie", "bad", "preferred"])


def _interval(share: dict[str, float]) -> str:
    low, high = 100 * share["ci_low"], 100 * share["ci_high"]
    return f"{100 * share['share']:.0f}% ({low:.0f} to {high:.0f})"


def _columns(pairs: list[dict[str, Any]]) -> list[str]:
    """Return the columns to show: the number that would tell only where something cannot tell."""
    optional = ("n_that_would_tell",)
    return [c for c in _COLUMNS if c not in optional or any(pair.get(c) for pair in pairs)]


def _is_result(name: str) -> bool:
    """Return whether a name is a file, a file with `#model`, an evaluation's folder, or several."""
    if _several(name):
        return all(_is_result(one) for one in name.split(","))
    path = Path(name)
    if not path.exists():
        path = path.with_name(path.name.rpartition("#")[0] or path.name)
    inside = ("documents.jsonl", "results.jsonl", "evaluate")
    is_records = path.is_file() and path.suffix != ".gguf"
    return is_records or any((path / kept).exists() for kept in inside)


def _several(name: str) -> bool:
    """Return whether a name is a list of results, and no path that has a comma in it."""
    return "," in name and not Path(name).exists()


def _compare_results(
    names: list[str], margin: str | None, metric: str | None, seed: int
) -> dict[str, Any]:
    from quantale.report.compare import compare_files
    from quantale.report.margins import Margin

    base, *others = [
        [Path(one) for one in name.split(",")] if _several(name) else Path(name) for name in names
    ]
    allowed = None if margin is None else Margin.parse(margin)
    return compare_files(base, others, allowed, seed=seed, metric=metric)


def _refuse_for_results(data: str | None, out: Path | None) -> None:
    if data is not None or out is not None:
        raise UsageError("results are compared as they are: leave --data and --out away")


def _compare_models(
    terminal: Terminal,
    names: list[str],
    data: str | None,
    asked: tuple[str | None, str | None],
    *,
    out: Path | None,
    seed: int,
) -> dict[str, Any]:
    """Compare models as language models; asked: margin and metric."""
    margin, metric = asked
    if metric not in (None, *_OF_LANGUAGE):
        raise UsageError(
            f"models are compared by {' or '.join(_OF_LANGUAGE)}, not {metric}; evaluate them with "
            "--out and compare the results"
        )
    check_models(names)
    base, *others = names
    if not others or data is None:
        raise UsageError("comparing models needs two or more and --data (or give results)")
    from quantale.report.margins import Margin
    from quantale.stages.compare import compare_models
    from quantale.stages.requests import CompareRequest

    allowed = None if margin is None else Margin.parse(margin)
    request = CompareRequest(base, tuple(others), data, metric or _OF_LANGUAGE[0], allowed, seed)
    with terminal.progress() as progress:
        return compare_models(request, out, progress)
