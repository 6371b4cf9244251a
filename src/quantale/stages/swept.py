"""The sweeps of a recipe as the page draws them: a line a method, a point a variant."""

import json
from collections.abc import Iterator

from quantale.core.recipe import Recipe
from quantale.core.recipe_base import Scalar
from quantale.core.recipe_sweep import Point, SweepSection, points
from quantale.report.model import SweepLine, SweepPoint


def swept(recipe: Recipe) -> tuple[SweepLine, ...]:
    """Return the lines of all sweeps; variants that are not made now are left out."""
    variants = {v.name: v.model_dump(mode="json") for v in recipe.variants}
    found: list[SweepLine] = []
    for sweep in recipe.sweep:
        if sweep.variant in variants:
            made = (point for point in points(sweep, variants) if point.name in variants)
            found += _lines(sweep, tuple(made))
    return tuple(found)


def seeds_in_words(recipe: Recipe) -> str:
    """Return which training seeds there are, and which number rests on which."""
    seeds = ", ".join(map(str, (recipe.seed, *recipe.seeds)))
    return f"{seeds}: verdicts and losses are over all of them, everything else is {recipe.seed}"


def _lines(sweep: SweepSection, found: tuple[Point, ...]) -> Iterator[SweepLine]:
    """Yield a line for every combination of the keys behind the first, which is the axis."""
    axis, *others = sweep.over
    for rest in dict.fromkeys(point.values[1:] for point in found):
        words = (f"{key} {_word(value)}" for key, value in zip(others, rest, strict=True))
        yield SweepLine(
            axis,
            ", ".join((str(sweep.variant), *words)),
            tuple(SweepPoint(_word(p.values[0]), p.name) for p in found if p.values[1:] == rest),
        )


def _word(value: Scalar) -> str:
    return value if isinstance(value, str) else json.dumps(value)
