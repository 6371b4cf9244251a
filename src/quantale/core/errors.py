"""Errors that a user can act on: one line each, with the exit code of the process.

A message says what was wanted, what came, and what to do. Anything that is not a
`QuantaleError` is a bug of ours and exits with 1.
"""

import difflib
from collections.abc import Callable, Iterable
from typing import TypeVar

_T = TypeVar("_T")


class QuantaleError(Exception):
    """Base of every error that is reported as one line instead of a traceback."""

    exit_code = 1


class UsageError(QuantaleError):
    """A wrong option, recipe, rule, plug-in name or combination of them."""

    exit_code = 2


class DataError(QuantaleError):
    """Data or a tokenizer that is missing, empty, malformed or too short."""

    exit_code = 3


class ModelFileError(QuantaleError):
    """A model file or sealed folder that is damaged, unsafe or of an unknown kind."""

    exit_code = 4


class OutputExistsError(QuantaleError):
    """An output that exists already, is half written, or belongs to a running process."""

    exit_code = 5


class EnvironmentLackingError(QuantaleError):
    """Disk, memory, a device or an optional package that this machine lacks."""

    exit_code = 6


class NumericalError(QuantaleError):
    """A loss, Hessian or weight that is not finite or cannot be factorised."""

    exit_code = 7


class HubError(QuantaleError):
    """The Hub or the network did not deliver."""

    exit_code = 8


class GateError(QuantaleError):
    """A result that was made and written, and does not keep what it was asked to keep."""

    exit_code = 10


def from_native(call: Callable[[], _T]) -> _T:
    """Call into a library that raises plain `Exception` and can panic; raises ValueError then."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise ValueError(str(error)) from error


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the closest choice, or an empty string."""
    found = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"; did you mean {found[0]!r}?" if found else ""
