"""Pydantic's report on a recipe as one line: place, key, what is wrong, the nearest name."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from quantale.core.errors import nearest
from quantale.core.recipe import Recipe
from quantale.core.recipe_yaml import KeyPath, show


def explain(
    error: ValidationError,
    data: Any,
    places: Mapping[KeyPath, str],
    root: type[BaseModel] = Recipe,
) -> str:
    """Return one line about the first fault; `places` says where each path was written.

    root: the schema of `data`.

    An unknown key comes before others: a misspelt one is missing too, and its spelling helps.
    """
    details = sorted(
        error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden"
    )
    path = _path(details[0], data)
    same = [detail for detail in details if _path(detail, data) == path]
    parts = (_place(path, places), show(path), _reason(same, path, root))
    return ": ".join(part for part in parts if part)


def section_fields(path: KeyPath, root: type[BaseModel] = Recipe) -> tuple[str, ...]:
    """Return the keys of the section at `path` in the schema; none where there is no section."""
    section = _section(path, root)
    return tuple(section.model_fields) if section else ()


def _path(detail: ErrorDetails, data: Any) -> KeyPath:
    """Return the part of an error's location that exists in the data, or is missing from it.

    Pydantic appends the names of a union's members to the location; they are dropped.
    """
    location = tuple(detail["loc"])
    if detail["type"] == "missing":
        return location
    path: KeyPath = ()
    for part in location:
        if not _has(data, part):
            break
        data, path = data[part], (*path, part)
    field = detail.get("ctx", {}).get("field", "")
    parts = field.split(".") if detail["type"] == "recipe_rule" else []
    return (*path, *(int(part) if part.isdecimal() else part for part in parts))


def _has(data: Any, part: str | int) -> bool:
    if isinstance(data, dict):
        return part in data
    return isinstance(data, list) and isinstance(part, int) and part < len(data)


def _place(path: KeyPath, places: Mapping[KeyPath, str]) -> str:
    for length in range(len(path), -1, -1):
        if path[:length] in places:
            return places[path[:length]]
    return "recipe"


def _reason(details: Sequence[ErrorDetails], path: KeyPath, root: type[BaseModel]) -> str:
    first = details[0]
    match first["type"]:
        case "extra_forbidden":
            return f"unknown key{_nearest_key(path, root)}"
        case "missing":
            return "is missing"
        case "recipe_rule":
            return str(first["msg"])
    wishes = dict.fromkeys(_wish(detail) for detail in details)
    hint = _nearest_word(details)
    return f"{', or '.join(wishes)}; got {_short(first['input'])}{hint}"


def _wish(detail: ErrorDetails) -> str:
    message = str(detail["msg"]).removeprefix("Input ")
    return message[:1].lower() + message[1:]


def _nearest_key(path: KeyPath, root: type[BaseModel]) -> str:
    fields = section_fields(path[:-1], root)
    return nearest(str(path[-1]), fields) or f"; there are {', '.join(fields)}"


def _nearest_word(details: Sequence[ErrorDetails]) -> str:
    given = details[0]["input"]
    if not isinstance(given, str):
        return ""
    expected = " ".join(str(detail.get("ctx", {}).get("expected", "")) for detail in details)
    return nearest(given, expected.split("'")[1::2])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _section(path: KeyPath, root: type[BaseModel]) -> type[BaseModel] | None:
    section: type[BaseModel] | None = root
    for part in path:
        if isinstance(part, int):
            continue
        field = section.model_fields.get(part) if section else None
        section = _model_in(field.annotation) if field else None
    return section


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the section in an annotation such as `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model), None)
