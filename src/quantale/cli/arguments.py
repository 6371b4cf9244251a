"""Arguments checked before anything heavy is imported."""

import re
from pathlib import Path

from quantale.core.errors import UsageError, nearest
from quantale.core.registry import EXPORTERS, METHODS, PROTOCOLS, ROUTES, TUNINGS, Registry

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def check_models(models: list[str]) -> None:
    """Refuse what is neither a local folder, a GGUF file nor possibly a Hub name."""
    for model in models:
        path = Path(model)
        if path.is_dir() or (path.is_file() and path.suffix == ".gguf"):
            continue
        if path.exists():
            raise UsageError(f"model {model} is a file; give the directory that holds it")
        if not _HUB_NAME.fullmatch(model) or ("/" in model and path.parent.is_dir()):
            raise UsageError(f"no model directory {model}")


def check_method(method: str) -> None:
    """Raise UsageError for a method that no file or entry point names."""
    _check_name("method", method, METHODS)


def check_tuning(method: str) -> None:
    """Raise UsageError for a tuning method that no file or entry point names."""
    _check_name("training method", method, TUNINGS)


def check_exporter(name: str) -> None:
    """Raise UsageError for a format that no file or entry point names."""
    _check_name("export format", name, EXPORTERS)


def check_protocol(protocol: str) -> None:
    """Raise UsageError for a protocol that does not exist or has no number where it needs one."""
    _check_name("protocol", protocol.partition(":")[0], PROTOCOLS)
    from quantale.evaluation.windows import protocol_named

    protocol_named(protocol)


def check_route(route: str) -> None:
    """Raise UsageError for a route of classification that no file or entry point names."""
    _check_name("route", route, ROUTES)


def folder_name(model: str, *marks: str) -> str:
    """Return a name for what is made from a model: the end of its path and the marks."""
    words = [word for word in re.findall(r"[A-Za-z0-9._]+", model) if word.strip(".")]
    return "-".join([*(word for word in words[-3:] if word != "runs"), *marks])


def _check_name(kind: str, name: str, registry: Registry) -> None:
    names = registry.names()
    if name not in names:
        hint = nearest(name, names) or f"; there are {', '.join(names)}"
        raise UsageError(f"no {kind} named {name!r}{hint}")
