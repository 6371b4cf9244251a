"""`quantale doctor`: what works on this machine."""

import typer

from quantale.cli.options import Debug, Json
from quantale.cli.terminal import Terminal, table
from quantale.core.errors import EnvironmentLackingError


def doctor(as_json: Json = False, debug: Debug = False) -> None:
    """Tell what works on this machine, and the fix for each gap."""
    from quantale.stages.doctor import diagnose

    terminal = Terminal(as_json, debug)
    checks = diagnose()
    terminal.result({"checks": checks}, table(checks, ("check", "ok", "detail", "fix")))
    if any(check["required"] and not check["ok"] for check in checks):
        raise typer.Exit(EnvironmentLackingError.exit_code)
