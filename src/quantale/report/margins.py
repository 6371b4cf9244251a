"""Margins as people write them: 0.01, 1%, 0.5pt."""

import math
import re
from dataclasses import dataclass
from typing import Any

from quantale.core.errors import UsageError
from quantale.report.metrics import Group

_FORM = re.compile(r"(?P<number>\d+(\.\d*)?|\.\d+)\s*(?P<unit>%|pt|points?)?")
_SHARES = ("accuracy", "macro_f1")


@dataclass(frozen=True)
class Margin:
    """A margin before it is known what it is a margin of."""

    number: float
    unit: str
    """Empty, "%" (of the base's value) or "pt" (points of a hundred)."""

    @classmethod
    def parse(cls, text: str) -> "Margin":
        """Read "0.01", "1%" or "0.5pt"; raises UsageError."""
        match = _FORM.fullmatch(text.strip())
        if match is None or not math.isfinite(float(match["number"])):
            raise UsageError(
                f"a margin is a number from 0 up, such as 0.01, 1% or 0.5pt; {text!r} came"
            )
        unit = match["unit"] or ""
        return cls(float(match["number"]), "pt" if unit.startswith("p") else unit)

    def of(self, metric: str, base: Group[Any]) -> float:
        """Return the margin in the metric's unit; raises UsageError where it has no meaning."""
        if self.unit == "":
            return self.number
        is_share = metric in _SHARES
        if is_share != (self.unit == "pt"):
            wanted = "points: 0.5pt, or 0.005" if is_share else "a share of the base: 1%, or 0.01"
            raise UsageError(f"the margin of {metric} is {wanted}; {self.number:g}{self.unit} came")
        if metric == "bits_per_byte":
            return self.number / 100 * _bits_per_byte(base)
        return self.number / 100


def _bits_per_byte(base: Group[Any]) -> float:
    nll = sum(sum(run.nll) for run in base.runs)
    return float(nll / math.log(2) / sum(sum(run.size) for run in base.runs))
