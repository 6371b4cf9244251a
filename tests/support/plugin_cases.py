"""Every method that the registry finds, with settings made from the names of its fields.

A new plug-in is covered without a change here, unless a field that has no default is called by a
name that `VALUES` does not know yet.
"""

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor

from quantale.core.errors import EnvironmentLackingError, UsageError
from quantale.core.registry import METHODS
from quantale.quant.apply import Method
from quantale.quant.calibration import LayerStats
from quantale.quant.packed import PackedTensor

VALUES: dict[str, tuple[Any, ...]] = {"bits": tuple(range(1, 9)), "group_size": ("row", "tensor")}
"""What is tried for a field; values that the method refuses with a UsageError are left out."""
MIDDLE: tuple[dict[str, Any], ...] = ({"bits": 4, "group_size": 8}, {"bits": 4, "group_size": 32})
"""What the other fields are meanwhile, and while each switch is turned over: the first that the
method accepts."""
FEW_BITS = (1, 2, 3, 4, 8)
"""Enough where methods are tested and not the packing of codes."""


def method_cases(bits: tuple[int, ...] = VALUES["bits"]) -> list[tuple[str, Method]]:
    """Return (id, method) for every method, one field varied at a time."""
    return [
        (f"{name}-{_shown(case)}", case)
        for name in METHODS.names()
        for case in _cases_of(name)
        if getattr(case, "bits", bits[0]) in bits
    ]


@cache
def _cases_of(name: str) -> tuple[Method, ...]:
    kind = METHODS.get(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    tried = {key: VALUES[key] for key in VALUES if key in fields}
    needed = {key for key, field in fields.items() if field.default is dataclasses.MISSING}
    assert needed <= set(VALUES), f"{name}: add {needed - set(VALUES)} to VALUES"
    middles = [{key: value for key, value in one.items() if key in fields} for one in MIDDLE]
    try:
        middle = next((one for one in middles if any(_accepted(kind, [one]))), middles[0])
    except EnvironmentLackingError:
        return ()  # an optional package that is not here
    switches = {k: (not f.default,) for k, f in fields.items() if isinstance(f.default, bool)}
    grid = [middle] + [
        {**middle, key: value}
        for key, values in {**tried, **switches}.items()
        for value in values
        if value != middle.get(key)
    ]
    made = tuple(_accepted(kind, grid))
    assert made, f"{name}: no setting was accepted"
    return made


def _accepted(kind: Any, grid: list[dict[str, Any]]) -> Iterator[Method]:
    """Settings count as refused when making the method or quantizing with it says so."""
    for settings in grid:
        try:
            method: Method = kind(**settings)
            method.quantize(drawn(4, 16), stats_of(inputs(16)))
        except UsageError:
            continue
        yield method


def _shown(method: Method) -> str:
    settings = vars(method)
    values = [f"{key}={settings[key]}" for key in VALUES if key in settings]
    switched = [
        key for key, value in settings.items() if value != getattr(type(method), key, value)
    ]
    return "-".join([*values, *(key for key in switched if key not in VALUES)]) or "plain"


def is_frozen(kind: Any) -> bool:
    """Say whether a class is a frozen dataclass."""
    return dataclasses.is_dataclass(kind) and bool(vars(kind)["__dataclass_params__"].frozen)


def drawn(rows: int, width: int, seed: int = 0) -> Tensor:
    """Return a random weight."""
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def weights() -> dict[str, Tensor]:
    """Return weights of every kind that a method must survive, by name."""
    outliers = drawn(24, 48)
    outliers[3, 5], outliers[11, 40] = 90.0, -70.0
    lines = drawn(24, 48)
    lines[4], lines[:, 7] = 0.0, 0.0
    return {
        "random": drawn(24, 48),
        "odd": drawn(7, 13),
        "one row": drawn(1, 48),
        "one column": drawn(9, 1),
        "constant": torch.full((8, 48), -0.3),
        "zero": torch.zeros(8, 48),
        "positive": drawn(8, 48).abs() + 2,
        "zero row and column": lines,
        "outliers": outliers,
        "tiny": drawn(8, 48) * 1e-12,
        "huge": drawn(8, 48) * 1e6,
        "subnormal": torch.full((4, 16), 1e-40),
    }


def inputs(width: int, rows: int = 120, seed: int = 1) -> Tensor:
    """Return correlated inputs (rows, width)."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(width, width, generator=generator) / width**0.5
    return torch.randn(rows, width, generator=generator) @ (mixed + torch.eye(width))


def stats_of(x: Tensor) -> LayerStats:
    """Return what calibration on these inputs knows."""
    stats = LayerStats(x.shape[-1])
    stats.add(x)
    return stats


def output_error(weight: Tensor, packed: PackedTensor, x: Tensor) -> float:
    """Return the squared error of the outputs on x, summed in float64."""
    wrong = (packed.dequantize() - weight).double()
    return float((x.double() @ wrong.t()).square().sum())


@cache
def packed_cases() -> tuple[tuple[str, PackedTensor], ...]:
    """Return (id, packed) of what every method makes of an even and of an odd shape."""
    made = []
    for label, method in method_cases():
        for rows, width in ((24, 48), (7, 13)):
            packed = method.quantize(drawn(rows, width), stats_of(inputs(width)))
            made.append((f"{label}-{rows}x{width}", packed))
    return tuple(made)
