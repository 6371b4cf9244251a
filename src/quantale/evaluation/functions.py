"""Python functions as text: where the docstring is, and whether what a model wrote is Python.

Positions of `ast` are UTF-8 bytes within a line; those of tokenizers are characters. Both become
bytes from the start of the text.
"""

import ast
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

Outcome = Literal["parses", "broken", "empty"]

_ALLOW_INCOMPLETE = 0x4000
"""`PyCF_ALLOW_INCOMPLETE_INPUT` of CPython 3.11 and later: a text that merely stops is told apart
from one that is wrong."""
_INCOMPLETE = "incomplete input"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Span:
    """UTF-8 bytes [begin, end) of a text."""

    begin: int
    end: int

    def overlap(self, begin: int, end: int) -> int:
        """Return how many bytes of [begin, end) lie inside."""
        return max(0, min(end, self.end) - max(begin, self.begin))


def docstring_span(source: str) -> Span | None:
    """Return the docstring of the first function, quotes included; None without one.

    A text that is no Python has none.
    """
    function = _first_function(source)
    if function is None or ast.get_docstring(function, clean=False) is None:
        return None
    literal = function.body[0]
    lines = [0, *accumulate(map(len, source.encode().splitlines(keepends=True)))]
    end_line, end_column = literal.end_lineno, literal.end_col_offset
    assert end_line is not None
    assert end_column is not None
    return Span(lines[literal.lineno - 1] + literal.col_offset, lines[end_line - 1] + end_column)


def beginning(source: str) -> str | None:
    """Return a function up to the end of its docstring; None without one or without a body."""
    span, function = docstring_span(source), _first_function(source)
    if span is None or function is None or len(function.body) < 2:
        return None
    return source.encode()[: span.end].decode()


def outcome(begun: str, written: str, *, ended: bool) -> Outcome:
    """Judge a function whose beginning (signature and docstring) was given.

    Written to its end, the whole text must parse. Cut off at the limit of tokens, the last line,
    which may be half a line, is dropped, and the rest must parse or be wrong in nothing but that
    it stops: an open block or bracket is the limit's fault. "empty": nothing but comments came,
    so that there is no statement to judge.
    """
    text = begun + written
    if not ended:
        text = text[: text.rfind("\n") + 1] if "\n" in written else begun
    if not _has_code(text[len(begun) :]):
        return "empty"
    flags = ast.PyCF_ONLY_AST | (0 if ended else _ALLOW_INCOMPLETE)
    try:
        tree = compile(text, "<function>", "exec", flags)
    except SyntaxError as error:
        return "parses" if not ended and error.msg == _INCOMPLETE else "broken"
    except (ValueError, RecursionError, MemoryError):
        return "broken"
    first = next((node for node in tree.body if isinstance(node, Function)), None)
    return "parses" if first is not None and len(first.body) > 1 else "empty"


def _first_function(source: str) -> Function | None:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return next((node for node in tree.body if isinstance(node, Function)), None)


def _has_code(text: str) -> bool:
    lines = (line.strip() for line in text.split("\n"))
    return any(line and not line.startswith("#") for line in lines)
