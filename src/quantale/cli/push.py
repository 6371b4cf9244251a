"""`quantale push`: a model directory to the Hub, with a card made from the measured records."""

from typing import Annotated

import typer
from typer import Option

from quantale.cli.options import Debug, Json
from quantale.cli.terminal import Terminal, pairs
from quantale.core.errors import UsageError, nearest
from quantale.stages.requests import PushRequest

_FORMS = ("hf", "bitsandbytes", "quantale", "both")

Form = Annotated[
    str,
    Option(
        "--format",
        metavar="NAME",
        help="hf, bitsandbytes, quantale (packed), or both: hf, and packed as branch quantale.",
    ),
]
Results = Annotated[
    str | None,
    Option("--results", metavar="RUN", help="Run folder or records for the card [default: own]."),
]


def push(
    model: Annotated[str, typer.Argument(help="Model directory.")],
    repo: Annotated[str, Option("--repo", metavar="NAME", help="NAME or OWNER/NAME on the Hub.")],
    form: Form = "hf",
    private: Annotated[bool, Option("--private", help="Only the owner sees it.")] = False,
    results: Results = None,
    base_model: Annotated[
        str | None, Option("--base-model", metavar="NAME", help="Base on the Hub, for the card.")
    ] = None,
    licence: Annotated[
        str | None, Option("--licence", metavar="ID", help="Licence, as apache-2.0.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Upload MODEL; the token comes from the environment (HF_TOKEN) and is never shown."""
    if form not in _FORMS:
        raise UsageError(
            f"no form named {form!r}; there are {', '.join(_FORMS)}{nearest(form, _FORMS)}"
        )
    terminal = Terminal(as_json, debug)
    from quantale.stages.push import push_model

    request = PushRequest(model, repo, form, private, results, base_model, licence)
    with terminal.progress() as progress:
        found = push_model(request, progress)
    terminal.result(found, pairs(found))
