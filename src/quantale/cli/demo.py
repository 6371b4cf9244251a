"""`quantale demo`: models side by side on a local page."""

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json
from quantale.cli.terminal import Terminal
from quantale.core.errors import EnvironmentLackingError, UsageError
from quantale.serve.guard import KEY_VARIABLE, rules_for

_PACKAGES = ("gradio", "fastapi", "uvicorn")


def demo(
    models: Annotated[list[str], typer.Argument(help="One to six model directories or Hub names.")],
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 7860,
    host: Annotated[
        str,
        typer.Option("--host", metavar="ADDRESS", help="Others need QUANTALE_API_KEY to be set."),
    ] = "127.0.0.1",
    votes: Annotated[
        Path,
        typer.Option("--votes", metavar="FILE.jsonl", help="Blind votes are added to this file."),
    ] = Path("votes.jsonl"),
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="TEXT",
            help="Ask by a text with fields in braces; default: as the models' recipe says.",
        ),
    ] = None,
    free: Annotated[
        bool, typer.Option("--free", help="Ask by free text, whatever the recipe says.")
    ] = False,
    exact: Annotated[
        bool, typer.Option("--exact", help="Kernels that keep to the format's result bit for bit.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show models side by side on a page: prompts, blind votes, scores of a text."""
    check_models(models)
    _check(votes, template, free)
    key = os.environ.get(KEY_VARIABLE) or None
    rules_for(host, port, key)
    terminal = Terminal(as_json, debug)
    from quantale.serve.demo import Demo, serve_demo

    def ready(url: str) -> None:
        terminal.result(
            {"url": url, "models": models, "votes": str(votes)},
            f"{url}\nvotes go to {votes}; stop with Ctrl-C",
        )

    asked = Demo(tuple(models), votes, template, is_free=free, exact=exact)
    with terminal.progress() as progress:
        serve_demo(asked, (host, port), key, progress, ready)


def _check(votes: Path, template: str | None, free: bool) -> None:
    """Refuse what can be refused before anything is loaded."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentLackingError(
            f"the page needs {', '.join(missing)}: pip install 'quantale[serve]'"
        )
    if template is not None and free:
        raise UsageError("--template and --free exclude each other")
    if votes.is_dir() or not votes.absolute().parent.is_dir():
        raise UsageError(f"--votes {votes}: a file in a folder that is there was expected")
    if not os.access(votes if votes.exists() else votes.absolute().parent, os.W_OK):
        raise EnvironmentLackingError(f"--votes {votes}: cannot be written")
