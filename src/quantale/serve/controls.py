"""The page's sliders: their ranges, and what came of them made safe.

Nothing that a browser sends is trusted: what is no number is the default, what is beyond a range is
its end.
"""

import math
from dataclasses import dataclass

from quantale.stages.answering import Settings

SEEDS = 2**31 - 1


@dataclass(frozen=True)
class Range:
    """What a slider can be."""

    low: float
    high: float
    default: float
    step: float

    def held(self, value: object) -> float:
        """Return a number of the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.default
        if isinstance(value, float) and math.isnan(value):
            return self.default
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Controls:
    """All sliders of a page whose models write so many tokens at most."""

    length: Range
    temperature: Range = Range(0.0, 2.0, 0.8, 0.05)
    top_k: Range = Range(0, 200, 0, 1)
    """0: from all tokens."""
    top_p: Range = Range(0.05, 1.0, 1.0, 0.05)
    seed: Range = Range(0, SEEDS, 42, 1)

    @classmethod
    def of(cls, context: int) -> "Controls":
        """Return the sliders for models of this shortest context."""
        most = max(1, min(context - 1, 1000))
        return cls(Range(1, most, min(120, most), 1))

    def settings(
        self, temperature: object, top_k: object, top_p: object, length: object, seed: object
    ) -> Settings:
        """Return what was asked for, within the ranges."""
        k, p = int(self.top_k.held(top_k)), self.top_p.held(top_p)
        return Settings(
            temperature=float(self.temperature.held(temperature)),
            top_k=k or None,
            top_p=None if p >= 1.0 else float(p),
            length=int(self.length.held(length)),
            seed=int(self.seed.held(seed)),
        )


def room(context: int, length: int) -> int:
    """Return how many tokens a prompt may have: an answer gets its length or half the context."""
    return max(1, context - min(length, context // 2))
