"""YAML as plain data that remembers the line of every key, and back.

Stricter than YAML: duplicate keys, NaN, infinities, aliases and tags are refused, so that a
file says one thing only and reading it executes nothing.
"""

import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from quantale.core.errors import UsageError

KeyPath = tuple[str | int, ...]
Place = Callable[[int], str]
_TAG = "tag:yaml.org,2002:"
_MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 20
_LARGEST = 2**63 - 1
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*( [A-Za-z0-9_./-]+)*")
_TYPED = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}
"""Words that some version of YAML reads as something else than text."""


def parse(text: str, place: Place) -> tuple[Any, dict[KeyPath, str]]:
    """Return the data of a YAML text and the place of each path in it.

    `place` names a line (from 1), here and in errors: `file.yaml:12: data.source: duplicate key`.
    """
    if len(text) > _MAX_CHARACTERS:
        raise UsageError(f"{place(1)}: longer than {_MAX_CHARACTERS} characters: not a recipe")
    builder = _Builder(place)
    return builder.build(_compose(text, place), ()), builder.places


def dump(data: Mapping[str, Any]) -> str:
    """Return plain data as YAML that `parse` reads back to the same data."""
    return "".join(f"{line}\n" for line in _lines(data)) or "{}\n"


def show(path: KeyPath) -> str:
    """Return a path as people write it: `variants[2].method`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def items(value: Any) -> list[tuple[str | int, Any]]:
    """Return the keys and values of a mapping, the numbers and values of a list; else nothing."""
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yield `path` and every path below it."""
    yield path
    for key, item in items(value):
        yield from paths(item, (*path, key))


def _lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield a mapping in block style; lists of plain values stay on one line."""
    for key, value in data.items():
        if isinstance(value, dict) and value:
            yield f"{_text(key)}:"
            yield from (f"  {line}" for line in _lines(value))
        elif isinstance(value, list) and value and all(isinstance(x, dict) and x for x in value):
            yield f"{_text(key)}:"
            for item in value:
                first, *rest = _lines(item)
                yield f"  - {first}"
                yield from (f"    {line}" for line in rest)
        else:
            yield f"{_text(key)}: {_flow(value)}"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)}: {_flow(x)}" for key, x in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _text(value) if isinstance(value, str) else json.dumps(value, allow_nan=False)


def _text(text: str) -> str:
    """Return a plain word as it is, anything else in double quotes with YAML's escapes."""
    if _PLAIN.fullmatch(text) and text.lower() not in _TYPED:
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = (c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
    return '"' + "".join(escaped) + '"'


def _compose(text: str, place: Place) -> Node | None:
    try:
        node: Node | None = YAML(typ="safe", pure=True).compose(io.StringIO(text))
        return node
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise UsageError(f"{place(line)}: not YAML: {error.problem or error}") from error
    except (YAMLError, RecursionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"{place(1)}: not YAML: {reason}") from error


@dataclass
class _Builder:
    """Turns composed nodes into data; collects places on the way."""

    place: Place
    places: dict[KeyPath, str] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    constructor: Any = field(default_factory=lambda: YAML(typ="safe", pure=True).constructor)

    def build(self, node: Node | None, path: KeyPath) -> Any:
        if node is None:
            return None
        self.places.setdefault(path, self.place(node.start_mark.line + 1))
        if id(node) in self.seen:
            raise self.error(node, path, "aliases are not used in recipes: write the value again")
        if len(path) > _MAX_DEPTH:
            raise self.error(node, path, "nested too deeply")
        self.seen.add(id(node))
        if isinstance(node, MappingNode) and node.tag == _TAG + "map":
            return self.mapping(node, path)
        if isinstance(node, SequenceNode) and node.tag == _TAG + "seq":
            return [self.build(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.scalar(node, path)

    def mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag == _TAG + "merge":
                raise self.error(key_node, path, "a key should be a plain word")
            key = key_node.value
            if key in data:
                raise self.error(key_node, (*path, key), "duplicate key")
            self.places[*path, key] = self.place(key_node.start_mark.line + 1)
            data[key] = self.build(value_node, (*path, key))
        return data

    def scalar(self, node: Node, path: KeyPath) -> Any:
        kind = str(node.tag).removeprefix(_TAG) if isinstance(node, ScalarNode) else ""
        match kind:
            case "null":
                return None
            case "bool":
                return self.constructor.construct_yaml_bool(node)
            case "str" | "timestamp":
                return node.value
            case "int" | "float":
                return self.number(node, path, kind)
        raise self.error(node, path, f"tag {str(node.tag)!r} is not used in recipes")

    def number(self, node: Node, path: KeyPath, kind: str) -> int | float:
        construct = self.constructor.construct_yaml_int
        if kind == "float":
            construct = self.constructor.construct_yaml_float
        try:
            value: int | float = construct(node)
        except ValueError as error:
            raise self.error(node, path, f"{node.value!r} is not a number") from error
        if isinstance(value, int) and abs(value) > _LARGEST:
            raise self.error(node, path, "a number that does not fit into 64 bits")
        if not math.isfinite(value):
            raise self.error(node, path, f"{node.value} is not a finite number")
        return value

    def error(self, node: Node, path: KeyPath, reason: str) -> UsageError:
        where = self.place(node.start_mark.line + 1)
        return UsageError(": ".join(part for part in (where, show(path), reason) if part))
