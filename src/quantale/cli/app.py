"""The command `quantale`: the verbs, and the one place where errors become exit codes.

Nothing heavy is imported here or at the top of a verb's module, so that help is quick; a verb
imports the stage it calls when it is called.
"""

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Annotated, NoReturn

import typer

from quantale import __version__
from quantale.cli import (
    bench,
    code,
    compare,
    demo,
    doctor,
    evaluate,
    export,
    generate,
    heal,
    inspect,
    ladder,
    merge,
    plan,
    push,
    quantize,
    recipes,
    run,
    serve,
    stories,
    train,
)
from quantale.core.errors import EnvironmentLackingError, QuantaleError, UsageError

app = typer.Typer(
    name="quantale",
    help="Make language models small and prove what it cost.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("recipes")(recipes.recipes)
app.command("plan")(plan.plan)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("quantize")(quantize.quantize)
app.command("heal")(heal.heal)
app.command("ladder")(ladder.ladder)
app.command("merge")(merge.merge)
app.command("evaluate")(evaluate.evaluate)
app.command("eval", hidden=True)(evaluate.evaluate)
app.command("bench")(bench.bench)
app.command("stories")(stories.stories)
app.command("code")(code.code)
app.command("compare")(compare.compare)
app.command("inspect")(inspect.inspect)
app.command("generate")(generate.generate)
app.command("export")(export.export)
app.command("push")(push.push)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)

_ENVIRONMENT = {
    # Read by OpenMP when torch loads; spinning threads slow a busy machine fivefold.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DO_NOT_TRACK": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}
_LACKING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_INTERRUPTED = 130
_TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code of the process."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with _terminable(), _quiet(debug):
        code = _run(words, debug)
    if code == _INTERRUPTED:
        typer.echo("error: interrupted", err=True)
    return code


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"quantale {__version__}")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        raise UsageError("no verb given; see quantale --help")


def _run(words: list[str], debug: bool) -> int:
    try:
        code = app(words, prog_name="quantale", standalone_mode=False)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001  the boundary: no fault may end in a traceback
        if debug:
            traceback.print_exc()
        message, code = _explain(error)
        typer.echo(f"error: {_one_line(message)}", err=True)
    return int(code or 0)


def _explain(error: Exception) -> tuple[str, int]:
    """Return what to tell and the exit code."""
    if isinstance(error, QuantaleError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        return error.format_message(), UsageError.exit_code
    if isinstance(error, MemoryError):
        return "not enough memory", EnvironmentLackingError.exit_code
    if isinstance(error, OSError) and error.errno in _LACKING:
        return str(error), EnvironmentLackingError.exit_code
    found = f"{type(error).__name__}: {error}"
    return f"this is a bug in quantale, please report it with --debug's output: {found}", 1


def _one_line(text: str) -> str:
    joined = re.sub(r"\s*\n\s*", " ", text.strip())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into an orderly exit with 143, so that locks and partial folders are left."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    typer.echo("error: terminated", err=True)
    raise SystemExit(_TERMINATED)


@contextlib.contextmanager
def _quiet(debug: bool) -> Iterator[None]:
    """Keep warnings of libraries off stderr unless they are asked for.

    bitsandbytes logs that a kernel is missing which nobody asked for, every time it is imported.
    """
    library = logging.getLogger("bitsandbytes")
    before = library.level
    with warnings.catch_warnings():
        if not debug:
            warnings.simplefilter("ignore")
            library.setLevel(logging.ERROR)
        try:
            yield
        finally:
            library.setLevel(before)
