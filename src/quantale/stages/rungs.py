"""The rungs of the ladder: what may be done to a model at so many bits, the cheapest first.

A rung is a variant: a quantization and perhaps a training. Rungs whose tuning method is not
installed are left out, so that a new method is one more entry here.
"""

from dataclasses import dataclass
from typing import Any

from quantale.core.errors import UsageError
from quantale.core.recipe_variants import VariantSection
from quantale.stages.heal import QAT_MOMENTUM, Budget, taught_section

_GROUP = 64
_ROUNDED: dict[str, dict[str, Any]] = {
    "1.58": {"method": "bitnet"},
    **{
        str(n): {
            "method": "gptq",
            "bits": n,
            "group_size": _GROUP,
            "settings": {"zero_dtype": "float16", "correct": 0.5},
        }
        for n in range(1, 9)
    },
}
"""How codes are chosen that are healed, by bits; zero points are floats, so that they can learn."""
_WITHIN: dict[str, dict[str, Any]] = {
    "1": {"method": "binary", "group_size": _GROUP},
    "1.58": {"method": "bitnet"},
    **{str(n): {"method": "rtn", "bits": n, "group_size": _GROUP} for n in range(2, 9)},
}
"""What a model is trained through, step by step: methods that take little time."""
_HEAL_RATE, _ADAPTER_RATE, _QAT_RATE = 1e-2, 2e-3, 5e-4
PTQ = "ptq"
"""The name of the first rung, which quantizes and trains nothing."""


@dataclass(frozen=True)
class Rung:
    """One way to make the model small."""

    name: str
    variant: VariantSection
    """What is quantized, and the training that goes with it."""
    after: str = PTQ
    """The rung whose model a training of packed weights begins with."""


def rungs(bits: str, budget: Budget) -> list[Rung]:
    """Return the rungs for so many bits that this installation can climb.

    Raises UsageError for a width that there is not.
    """
    if bits not in _ROUNDED:
        raise UsageError(f"bits are {', '.join(sorted(_ROUNDED))}; {bits!r} came")
    plain = VariantSection(name=PTQ, **_ROUNDED[bits])
    heal = taught_section("heal", {"parts": "scales,zeros"}, _HEAL_RATE, budget)
    whole = taught_section("heal", {}, _HEAL_RATE, budget)
    beside = taught_section("heal", {"parts": "adapters"}, _ADAPTER_RATE, budget)
    taught: dict[str, Any] = {"teacher_weight": 1.0, "equalize": True}
    aware = taught_section("qat", taught, _QAT_RATE, budget, QAT_MOMENTUM)
    return [
        Rung(PTQ, plain),
        Rung("scales", plain.model_copy(update={"name": "scales", "tune": heal})),
        Rung("heal", plain.model_copy(update={"name": "heal", "tune": whole})),
        Rung("adapters", plain.model_copy(update={"name": "adapters", "tune": beside}), "heal"),
        Rung("qat", VariantSection(name="qat", tune=aware, **_WITHIN[bits])),
    ]
