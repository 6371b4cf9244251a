"""`quantale serve`: models behind an OpenAI-style API."""

import os
from typing import Annotated

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug
from quantale.cli.terminal import Terminal
from quantale.core.errors import UsageError


def serve(
    models: Annotated[list[str], typer.Argument(help="Model directories or Hub names.")],
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; others than loopback need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0: a free one.")] = 8000,
    host_name: Annotated[
        list[str] | None,
        typer.Option("--host-name", metavar="NAME", help="A name clients use; repeatable."),
    ] = None,
    slots: Annotated[
        int, typer.Option("--slots", min=1, max=64, help="Answers a model writes at once.")
    ] = 4,
    queue: Annotated[
        int, typer.Option("--queue", min=0, max=4096, help="Answers that may wait for a model.")
    ] = 16,
    context: Annotated[
        int | None,
        typer.Option("--context", min=2, help="Tokens of prompt and answer; at most the model's."),
    ] = None,
    draft: Annotated[
        str | None,
        typer.Option("--draft", metavar="MODEL", help="A smaller model that guesses ahead."),
    ] = None,
    ahead: Annotated[
        int, typer.Option("--ahead", min=1, max=16, help="Tokens that the draft guesses.")
    ] = 4,
    exact: Annotated[
        bool, typer.Option("--exact", help="Kernels that keep to the format's result bit for bit.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Serve models over HTTP in the shape of OpenAI's API. The key is in QUANTALE_API_KEY."""
    check_models([*models, *([] if draft is None else [draft])])
    if draft is not None and len(models) > 1:
        raise UsageError("--draft goes with one model")
    terminal = Terminal(False, debug)
    from quantale.serve.guard import KEY_VARIABLE, rules_for

    key = os.environ.get(KEY_VARIABLE) or None
    rules_for(host, port, key)  # before models take their time
    from quantale.serve.api import make_api
    from quantale.serve.hosting import Serving, hosted
    from quantale.serve.server import bind, run

    serving = Serving(slots, queue, context, exact, draft, ahead)
    with bind(host, port) as listening, hosted(models, serving) as engines:
        bound = int(listening.getsockname()[1])
        rules = rules_for(host, bound, key, names=host_name or ())
        shown = f"[{host}]" if ":" in host else host
        text = f"serving {', '.join(engines)} at http://{shown}:{bound}/v1"
        run(make_api(engines, rules), listening, lambda: terminal.result({}, text))
