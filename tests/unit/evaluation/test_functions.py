"""Docstrings found by byte, and generated functions judged, truncated ones included."""

import ast
import json

import pytest
from shared_data import SHARED, needs_shared

from quantale.evaluation.functions import Span, beginning, docstring_span, outcome

PLAIN = 'def f(x):\n    """Say é."""\n    return x\n'
BEGUN = 'def f(x):\n    """Say."""'


def test_a_docstring_is_its_literal_with_quotes_in_bytes() -> None:
    span = docstring_span(PLAIN)
    assert span == Span(14, 27)
    assert PLAIN.encode()[14:27].decode() == '"""Say é."""'
    late = f"# é\x0c\n@cache\n{PLAIN}"
    moved = docstring_span(late)
    assert moved is not None
    assert late.encode()[moved.begin : moved.end].decode() == '"""Say é."""'


@pytest.mark.parametrize(
    "source", ["def f():\n    return 'x'\n", "x = 1\n", "def f(:\n", "", 'def f():\n    b"no"\n']
)
def test_a_text_without_a_docstring_has_no_span(source: str) -> None:
    assert docstring_span(source) is None
    assert beginning(source) is None


def test_the_beginning_ends_with_the_docstring_and_needs_a_body() -> None:
    assert beginning(PLAIN) == 'def f(x):\n    """Say é."""'
    assert beginning('def f():\n    """Only this."""\n') is None


@pytest.mark.parametrize(
    ("written", "ended", "expected"),
    [
        ("\n    return x\n", True, "parses"),
        ("\n    return x +\n", True, "broken"),
        ("\n    for y in x:\n", True, "broken"),
        ("\n    y = (x,\n", True, "broken"),
        ("\n    return x\n    retu", False, "parses"),
        ("\n    for y in x:\n        pr", False, "parses"),
        ("\n    y = (x,\n         1", False, "parses"),
        ("\n    y = = x\n    return", False, "broken"),
        ("\n    y = 'x\n    return", False, "broken"),
        ("\n   return x\n", True, "broken"),
        ("", True, "empty"),
        ("\n    # later\n", True, "empty"),
        ("\n    half", False, "empty"),
        ("\n\ndef g():\n    return 1\n", True, "empty"),
    ],
)
def test_written_functions_are_judged_with_mercy_for_the_limit_only(
    written: str, ended: bool, expected: str
) -> None:
    assert outcome(BEGUN, written, ended=ended) == expected


def functions() -> list[str]:
    lines = (SHARED / "code_search_net" / "valid.jsonl").read_text().splitlines()
    return [str(json.loads(line)["func_code_string"]) for line in lines]


@needs_shared
def test_real_docstrings_are_what_ast_reads() -> None:
    found = 0
    for source in functions():
        span = docstring_span(source)
        if span is not None:
            found += 1
            literal = source.encode()[span.begin : span.end].decode()
            tree = ast.parse(source)
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
            first = next(node for node in tree.body if isinstance(node, kinds))
            assert ast.literal_eval(literal) == ast.get_docstring(first, clean=False)
    assert found > 250


@needs_shared
def test_real_bodies_parse_whole_and_cut_and_damage_breaks_them() -> None:
    judged: dict[str, list[bool]] = {"whole": [], "cut": [], "damaged": []}
    for source in functions():
        begun = beginning(source)
        if begun is None:
            continue
        body = source[len(begun) :]
        cut = body[: len(body) * 2 // 3]
        judged["whole"].append(outcome(begun, body, ended=True) == "parses")
        judged["damaged"].append(outcome(begun, body.replace("\n", " ="), ended=True) == "parses")
        if "\n" in cut.strip():
            judged["cut"].append(outcome(begun, cut, ended=False) != "broken")
    assert len(judged["whole"]) > 200
    assert all(judged["whole"])
    assert all(judged["cut"])
    assert not any(judged["damaged"])
