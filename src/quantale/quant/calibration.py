"""Calibration: what each layer's inputs look like, gathered block by block.

Hidden states at the border of a block live in a scratch file, so that memory holds one batch,
one block and the Hessians of one group of sites, however large the calibration set.
Sites that read the same input share one Hessian. Every site sees the inputs that its already
quantized predecessors produce ("true sequential", section 4 of arXiv 2210.17323).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from quantale.core.errors import DataError, NumericalError, UsageError
from quantale.quant.relay import BlockCall, Stop

_TILE = 256
"""Columns of a Hessian that are computed together."""
_SAFE = torch.finfo(torch.float32).max / 16


@dataclass
class LayerStats:
    """What calibration saw of one site's inputs."""

    width: int
    hessian: Tensor = field(init=False)
    """(in, in) float32: mean over rows of 2 x xT."""
    absmax: Tensor = field(init=False)
    """(in,) float32."""
    cross: Tensor | None = None
    """(in, in) float32: mean over rows of 2 (r - x) xT, where r is the input that the model in
    full precision has in the place of x; None when nobody asked for it."""
    rows: int = 0
    """Input vectors seen."""

    def __post_init__(self) -> None:
        self.hessian = torch.zeros(self.width, self.width)
        self.absmax = torch.zeros(self.width)

    def add(self, x: Tensor, reference: Tensor | None = None) -> None:
        """Add inputs (..., in); the running mean keeps the scale of the Hessian bounded.

        reference: the same inputs in full precision, for `cross`.
        """
        flat = x.detach().reshape(-1, self.width).to(torch.float32)
        self.rows += flat.shape[0]
        kept, share = 1 - flat.shape[0] / self.rows, 2 / self.rows
        largest = flat.abs().amax(0)
        torch.maximum(self.absmax, largest, out=self.absmax)
        before, after = _shares(share, flat.shape[0], float(largest.max()))
        _add_square(self.hessian.mul_(kept), flat * before if before != 1 else flat, flat, after)
        if reference is not None:
            off = reference.detach().reshape(-1, self.width).to(torch.float32) - flat
            self.cross = torch.zeros_like(self.hessian) if self.cross is None else self.cross
            self.cross.mul_(kept).addmm_(off.mul_(before).t(), flat, alpha=after)

    def power(self) -> Tensor:
        """Return the mean square of every input, (in,) float32."""
        return self.hessian.diagonal() / 2


def _shares(share: float, rows: int, largest: float) -> tuple[float, float]:
    """Return what of a share multiplies the inputs and what their sum of products.

    A library may add the products up before it multiplies: where that could overflow, the inputs
    are made smaller first.
    """
    return (1.0, share) if rows * largest**2 < _SAFE else (share, 1.0)


def _add_square(hessian: Tensor, left: Tensor, x: Tensor, share: float) -> None:
    """Add share * leftT x, both (rows, in) and alike but for a factor.

    Half the products are enough: the result is symmetric.
    """
    width = hessian.shape[0]
    for start in range(0, width, _TILE):
        rows = slice(start, min(start + _TILE, width))
        hessian[rows, start:].addmm_(left[:, rows].t(), x[:, start:], alpha=share)
        hessian[rows.stop :, rows] = hessian[rows, rows.stop :].t()


def input_groups(
    block: nn.Module, names: list[str], call: BlockCall, hidden: Tensor
) -> list[list[str]]:
    """Return the named submodules in the order of execution, those with one input together.

    Raises UsageError naming a submodule that the block never called.
    """
    groups: list[list[str]] = []
    last: list[Tensor] = []

    def keep(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            del module
            if last and args[0] is last[-1]:
                groups[-1].append(name)
            else:
                groups.append([name])
            last.append(args[0])

        return hook

    with hooked({name: (block.get_submodule(name), keep(name)) for name in names}), torch.no_grad():
        call.run(block, hidden)
    missing = set(names) - {name for group in groups for name in group}
    if missing:
        raise UsageError(
            f"{sorted(missing)[0]} is never called by its block; leave it out by a rule"
        )
    return groups


@contextmanager
def hooked(hooks: Mapping[str, tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Register forward pre-hooks for the time of the block."""
    handles = [module.register_forward_pre_hook(hook) for module, hook in hooks.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Inputs:
    """Where a module's inputs come from: the module, and what runs one batch up to it."""

    module: nn.Module
    run: Callable[[slice], object]

    def at(self, pick: slice) -> Tensor:
        """Return the module's input for one batch; what comes after it is not run."""
        seen: list[Tensor] = []

        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            del module
            seen.append(args[0])
            raise Stop

        with hooked({"": (self.module, hook)}), torch.no_grad():
            try:
                self.run(pick)
            except Stop:
                return seen[0]
        raise UsageError("a module that was to be calibrated is never called by its block")


def gather(
    name: str, width: int, inputs: Inputs, picks: list[slice], reference: Inputs | None = None
) -> LayerStats:
    """Sum up the inputs of a module over all batches; `reference` gives them in full precision."""
    stats = LayerStats(width)
    for pick in picks:
        stats.add(inputs.at(pick), None if reference is None else reference.at(pick))
    check_stats(name, stats)
    return stats


def check_stats(name: str, stats: LayerStats) -> None:
    """Raise when a site saw no input or inputs that are not finite."""
    if not stats.rows:
        raise DataError(f"{name}: saw no calibration data")
    if not torch.isfinite(stats.hessian).all():
        raise NumericalError(f"{name}: its calibration inputs are not finite or overflow float32")
