"""From a variant's settings to methods and rules; nothing is loaded or run.

A method gets the settings that were given and no others, so that what a recipe leaves out is the
method's own default, and a method without `bits` is not asked for them.
"""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from quantale.core.errors import UsageError, nearest
from quantale.core.recipe_variants import RuleSection, VariantSection
from quantale.core.registry import METHODS, TUNINGS, Registry
from quantale.quant.apply import Method
from quantale.quant.rules import Rule
from quantale.quant.whole import Methods
from quantale.tuning.method import Tuning

_SHARED = ("group_size", "symmetric", "scale_dtype")
"""Settings that embedding and head take over from the linear layers, where they have them."""


def make_method(name: str, settings: Mapping[str, Any]) -> Method:
    """Build a method; raises UsageError for a name, setting or type that does not exist."""
    method: Method = _make(METHODS, name, settings)
    return method


def make_tuning(name: str, settings: Mapping[str, Any]) -> Tuning:
    """Build a tuning method; raises UsageError as `make_method` does."""
    tuning: Tuning = _make(TUNINGS, name, settings)
    return tuning


def _make(registry: Registry, name: str, settings: Mapping[str, Any]) -> Any:
    kind = registry.get(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    types = typing.get_type_hints(kind)
    for key, value in settings.items():
        if key not in fields:
            hint = nearest(key, fields)
            raise UsageError(f"{name} has no setting {key!r}; it has {', '.join(fields)}{hint}")
        _check_type(f"{name}: {key}", value, types[key])
    for key, field in fields.items():
        if field.default is dataclasses.MISSING and key not in settings:
            raise UsageError(f"{name} needs {key}")
    return kind(**settings)


def make_methods(variant: VariantSection) -> Methods:
    """Return the methods and rules of a variant; embeddings and heads are rounded by default.

    Raises UsageError for a method that does not exist, does not take its settings, or would
    calibrate on an embedding.
    """
    given = variant.given()
    linear = None if variant.method is None else make_method(variant.method, given)
    embedding = _end(variant.embedding_method, variant.embedding_bits, given)
    if embedding is not None and embedding.needs_calibration:
        raise UsageError(
            f"embedding_method {variant.embedding_method} needs calibration, and an embedding "
            "looks rows up instead of multiplying; take rtn, hqq or nf4"
        )
    head = _end(variant.head_method, variant.head_bits, given)
    return Methods(linear, embedding, head, tuple(map(_rule, variant.rules)))


def _end(name: str | None, bits: int | None, given: Mapping[str, Any]) -> Method | None:
    """Return the method of an embedding or head, None when neither name nor bits were given."""
    if name is None and bits is None:
        return None
    name = name or "rtn"
    fields = {field.name for field in dataclasses.fields(METHODS.get(name))}
    settings = {key: given[key] for key in _SHARED if key in given and key in fields}
    return make_method(name, settings if bits is None else {**settings, "bits": bits})


def _rule(section: RuleSection) -> Rule:
    method = None if section.plugin is None else make_method(section.plugin, section.given())
    return Rule(method, section.match, section.role, section.min_size, section.max_size)


def _check_type(what: str, value: Any, kind: Any) -> None:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        wishes = dict.fromkeys(detail["msg"] for detail in error.errors(include_url=False))
        wish = " or ".join(text.removeprefix("Input ") for text in wishes)
        raise UsageError(f"{what} {wish}; got {value!r}") from error
