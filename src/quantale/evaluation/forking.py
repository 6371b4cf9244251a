"""A server that imports torch once and forks a child a job; started by `fresh`.

The server never computes, so that no OpenMP thread exists when it forks; each child starts with
cold allocators, no model and its own thread pool, as a new process would. The first child of a
model rehearses: it loads the model and reports which modules that imported; the server imports
them too, so that load times hold no imports.

Jobs come in as JSON lines on standard input. Answers go out on what was standard output; whatever
libraries print goes to standard error.
"""

import importlib
import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from typing import Any

from quantale.core.errors import QuantaleError
from quantale.evaluation.decode import function_at, measure
from quantale.evaluation.fresh import Job


def _serve() -> None:
    answers = os.dup(1)
    os.dup2(2, 1)
    forked = multiprocessing.get_context("fork")
    for line in sys.stdin:
        request = json.loads(line)
        if "modules" in request:
            _import(request["modules"])
            continue
        child = forked.Process(target=_child, args=(request, answers))
        child.start()
        child.join()
        _write(answers, {"exit": child.exitcode})


def _import(modules: Sequence[str]) -> None:
    for name in modules:
        importlib.import_module(name)


def _child(request: Mapping[str, Any], answers: int) -> None:
    _write(answers, {"pid": os.getpid()})
    job = Job(**request["job"])
    try:
        result = _rehearse(job) if request["rehearse"] else measure(job)
    except QuantaleError as error:
        _write(answers, {"error": type(error).__name__, "message": str(error)})
    else:
        _write(answers, {"result": result})


def _rehearse(job: Job) -> dict[str, Any]:
    known = set(sys.modules)
    function_at(job.loader)(job.path)
    return {"modules": [name for name in sys.modules if name not in known and _is_file(name)]}


def _is_file(name: str) -> bool:
    """Whether a module came from a file of its own name, so that another process can import it."""
    spec = getattr(sys.modules[name], "__spec__", None)
    kinds = (SourceFileLoader, ExtensionFileLoader)
    return spec is not None and spec.name == name and isinstance(spec.loader, kinds)


def _write(answers: int, content: Mapping[str, Any]) -> None:
    data = (json.dumps(content) + "\n").encode()
    while data:
        data = data[os.write(answers, data) :]


if __name__ == "__main__":
    _serve()
