"""Sweeps: one variant of a recipe with other values of a setting, each a variant of its own.

`{variant: nf4, over: {group_size: [16, 64, row]}}` writes nf4-group_size-16 and nf4-group_size-row
beside nf4; a value that the variant has already is the variant itself. With several keys every
combination is made: the first key is the axis of the plot, each value of the others a line. The
variants are written when a recipe is read, before it is checked, so that all else sees plain
variants; writing them a second time changes nothing.

`{over: {seed: [1, 2, 3]}}`, without a variant, trains the base and all variants again with each of
these seeds.
"""

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import Field, model_validator

from quantale.core.errors import nearest
from quantale.core.recipe_base import Scalar, Section, Text, broken_rule
from quantale.core.recipe_yaml import KeyPath, paths

KEY = "sweep"
"""Where a recipe keeps them."""
ORIGIN = "sweep"
"""How the place of a value begins that a sweep wrote."""
SEED = "seed"
"""What a sweep without a variant is over."""
_FIXED = ("name", "start", "group")
"""Keys of a variant that say which model it is, not how it is made."""


class SweepSection(Section):
    """One variant, and the values of its keys that are tried."""

    variant: Text | None = None
    """Name of the variant that is varied; it stays as it is. None: the whole recipe, over seed."""
    over: Mapping[Text, tuple[Scalar, ...]] = Field(min_length=1)
    """Values by key of the variant, such as bits, group_size, settings.double_quant,
    tune.settings.rank."""

    @model_validator(mode="after")
    def _values_can_be_told_apart(self) -> Self:
        if self.variant is None and list(self.over) != [SEED]:
            raise broken_rule("variant", f"is missing; without one, only {SEED!r} is swept over")
        for key, values in self.over.items():
            if self.variant is None and not all(map(_is_seed, values)):
                raise broken_rule(f"over.{key}", "seeds are whole numbers from 0")
            if key.split(".")[0] in _FIXED:
                raise broken_rule(f"over.{key}", f"{key!r} is not how a model is made")
            if not values or len({repr(value) for value in values}) < len(values):
                raise broken_rule(f"over.{key}", "should be one value or more, all different")
        return self


@dataclass(frozen=True)
class Point:
    """One variant of a sweep."""

    name: str
    values: tuple[Scalar, ...]
    """Of the keys of the sweep, in their order."""


def points(sweep: SweepSection, variants: Mapping[str, Any]) -> tuple[Point, ...]:
    """Return the points of a sweep; variants: as plain data, by name."""
    if sweep.variant is None:
        return ()
    named = _named(sweep.variant, sweep.over, variants)
    return tuple(Point(name, values) for name, values in named)


def further_seeds(sweeps: tuple[SweepSection, ...], seed: int) -> tuple[int, ...]:
    """Return the training seeds that are swept over, without the recipe's own."""
    asked = (value for sweep in sweeps if sweep.variant is None for value in sweep.over[SEED])
    return tuple(dict.fromkeys(int(value) for value in asked if value not in (None, seed)))


def check_seeds(sweeps: tuple[SweepSection, ...], *, trains: bool, classifies: bool) -> None:
    """Raise where seeds are swept over that would change nothing, or could not be compared."""
    for index, sweep in enumerate(sweeps):
        if sweep.variant is not None:
            continue
        if not trains:
            reason = "a base that is not trained has no seed; give the recipe a train section"
            raise broken_rule(f"{KEY}.{index}.over", reason)
        if classifies:
            reason = "seeds of classifiers are compared by `quantale compare A,B,C D,E,F` alone"
            raise broken_rule(f"{KEY}.{index}.over", reason)


def expand(data: dict[str, Any], places: dict[KeyPath, str]) -> None:
    """Write the variants of a recipe's sweeps into its data, behind all others.

    What is no sweep, or varies a variant that is not there, is left to the check of the recipe.
    """
    variants, sweeps = data.get("variants"), data.get(KEY)
    if not isinstance(variants, list) or not isinstance(sweeps, list):
        return
    known = {v["name"]: v for v in variants if isinstance(v, dict) and _is_text(v.get("name"))}
    for index, sweep in enumerate(sweeps):
        place = f"{ORIGIN} {places.get((KEY, index), 'recipe')}"
        for made in _made(sweep, known):
            known[made["name"]] = made
            places.update(dict.fromkeys(paths(made, ("variants", len(variants))), place))
            variants.append(made)


def check_sweeps(sweeps: tuple[SweepSection, ...], variants: Mapping[str, Any]) -> None:
    """Raise for a sweep of no variant, and for a variant in its way; variants: see `points`."""
    for index, sweep in enumerate(sweeps):
        if sweep.variant is None:
            continue
        if sweep.variant not in variants:
            hint = nearest(sweep.variant, variants)
            raise broken_rule(f"{KEY}.{index}.variant", f"no variant {sweep.variant!r}{hint}")
        for point in points(sweep, variants):
            found = variants.get(point.name, {})
            wanted = zip(sweep.over, point.values, strict=True)
            if any(_value(found, key) != value for key, value in wanted):
                reason = f"the variant {point.name!r} should be its, and has other values"
                raise broken_rule(f"{KEY}.{index}.over", reason)


def _made(sweep: Any, known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the variants that a sweep needs and that are not there yet."""
    if not isinstance(sweep, dict) or not _is_text(sweep.get("variant")):
        return []
    over, varied = sweep.get("over"), known.get(sweep["variant"])
    if varied is None or not isinstance(over, dict) or not over:
        return []
    if not all(isinstance(values, list) for values in over.values()):
        return []
    found = []
    for name, values in _named(sweep["variant"], over, known):
        if name not in known:
            made = copy.deepcopy(varied) | {"name": name}
            for key, value in zip(over, values, strict=True):
                _put(made, key, value)
            found.append(made)
    return found


def _named(
    varied: str, over: Mapping[str, Any], variants: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Scalar, ...]]]:
    """Yield name and values of every combination."""
    there = variants.get(varied, {})
    for values in itertools.product(*over.values()):
        parts = [
            f"-{key.rpartition('.')[2]}-{_in_a_name(value)}"
            for key, value in zip(over, values, strict=True)
            if _value(there, key) != value
        ]
        yield varied + "".join(parts), values


def _in_a_name(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool | None) else str(value)


def _value(variant: Any, key: str) -> Any:
    """Return what a variant has under a dotted key, None where it has nothing."""
    for part in key.split("."):
        if isinstance(variant, list) and part.isdecimal() and int(part) < len(variant):
            variant = variant[int(part)]
        elif isinstance(variant, Mapping):
            variant = variant.get(part)
        else:
            return None
    return variant


def _put(variant: dict[str, Any], key: str, value: Scalar) -> None:
    """Write a value under a dotted key; sections that are missing begin empty."""
    *above, last = key.split(".")
    parent: Any = variant
    for part in above:
        is_item = isinstance(parent, list) and part.isdecimal() and int(part) < len(parent)
        if is_item:
            parent = parent[int(part)]
        elif isinstance(parent, dict):
            parent = parent.setdefault(part, {})
    if isinstance(parent, dict):
        parent[last] = value


def _is_seed(value: Scalar) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
