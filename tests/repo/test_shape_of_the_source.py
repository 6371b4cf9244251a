"""Files and functions stay small, names say something, and nothing private leaks into the text."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from repository import ROOT, documents, name_of, python_files, text_files

FILE_LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 7
NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools", "stuff"}
WORDS = ("sess" + "ion", "assis" + "tant", "ag" + "ent", "helper" + "-tool", "work" + "place")
FORBIDDEN = re.compile(rf"(?<![a-z_])(?:{'|'.join(WORDS)})s?(?![a-z_])", re.IGNORECASE)
MACHINE_PATH = re.compile(r"(?<![\w.~:/-])/(?:work|root|home|Users)/\w")
THEIR_SIGNATURES = {"src/quantale/models/nanogpt.py:forward"}
"""Functions whose parameters transformers fixes."""


def functions() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, node


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    declared = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([one for one in declared if one.arg not in ("self", "cls")])


def test_no_python_file_is_longer_than_its_limit() -> None:
    sizes = {name_of(p): len(p.read_text(encoding="utf-8").splitlines()) for p in python_files()}
    assert {name: size for name, size in sizes.items() if size > FILE_LINES} == {}


def test_no_file_is_named_after_nothing() -> None:
    assert [name_of(p) for p in python_files() if p.stem.strip("_") in NAMES] == []


def test_no_function_is_longer_than_its_limit() -> None:
    long = [
        f"{name_of(path)}:{node.lineno} {node.name}"
        for path, node in functions()
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    ]
    assert long == []


def test_no_function_of_the_library_takes_too_many_parameters() -> None:
    """The command line is free: there a parameter is an option."""
    cli = ROOT / "src" / "quantale" / "cli"
    many = [
        f"{name_of(path)}:{node.lineno} {node.name}: {parameters(node)}"
        for path, node in functions()
        if path.is_relative_to(ROOT / "src")
        and not path.is_relative_to(cli)
        and f"{name_of(path)}:{node.name}" not in THEIR_SIGNATURES
        and parameters(node) > PARAMETERS
    ]
    assert many == []


@pytest.mark.parametrize("pattern", [FORBIDDEN, MACHINE_PATH], ids=["words", "paths"])
def test_no_text_holds_what_belongs_to_one_machine(pattern: re.Pattern[str]) -> None:
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1)
        if pattern.search(line)
    ]
    assert found == []


def test_the_scan_sees_what_it_looks_for() -> None:
    assert FORBIDDEN.search("an " + WORDS[2] + " wrote this")
    assert not FORBIDDEN.search("agenda, reagents")
    assert MACHINE_PATH.search("see " + "/".join(["", "home", "me", "x"]))
    assert not MACHINE_PATH.search("https://example.org/home/me")
    assert len(python_files()) > 100
    assert ROOT / "README.md" in documents()
