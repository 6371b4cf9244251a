"""Begin and train low-rank terms beside weights that are trained through few bits.

The weight W of a layer becomes a latent weight W - L R, which is quantized at every call, and the
term L R. Both begin where quantizing and taking the leading singular vectors of what it got wrong,
in turn, lead: Li et al., "LoftQ", arXiv 2310.08659, algorithm 1. What is wrong is measured at the
layer's outputs, as in Saha et al., "CALDERA", arXiv 2405.18886: with H = R RT the mean of x xT over
the inputs x, the leading singular vectors are those of (W - Q) R.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks
from quantale.quant.apply import Method
from quantale.quant.globs import Glob
from quantale.quant.hessian import factorize
from quantale.quant.learned import through
from quantale.quant.low_rank import Factor, LowRank, is_rank, product, rounded
from quantale.quant.sites import weight_view
from quantale.tuning.modes import dropout_off

_PAIR: Final = re.compile(r"\s*([^=]+?)\s*=\s*(\d{1,9})\s*(?:,|$)")
_PAIRS: Final = re.compile(rf"(?:{_PAIR.pattern})*")
_ROUNDS: Final = 10
_DAMP: Final = 0.01
_PASSES: Final = 4
"""Power iterations of the randomized singular value decomposition."""
_SPARE: Final = 8
"""Directions that it looks for beyond those that are kept."""
_TINY: Final = 1e-12
_GAIN: Final = 3.0
"""The factors are trained as thirds of themselves: Adam moves them three times as fast."""


@dataclass(frozen=True)
class Ranks:
    """Which rank the term of a layer has."""

    rank: int = 0
    """Of every layer that no pattern fits; 0: it has none."""
    pattern: str = ""
    """Ranks of their own, with commas between: `**.0.*attn.*=96,**.down_proj=8`."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise UsageError(f"a rank is 0 or more, {self.rank} came")
        if not _PAIRS.fullmatch(self.pattern):
            raise UsageError(
                f"rank_pattern: {self.pattern!r} came; write PATTERN=RANK, with commas between"
            )
        _ = self._own  # reads the patterns

    def __bool__(self) -> bool:
        """Say whether any layer may have a term."""
        return self.rank > 0 or any(rank > 0 for _, rank in self._own)

    def of(self, names: list[str]) -> dict[str, int]:
        """Return the ranks above 0 by name; raises UsageError for a pattern that fits none."""
        for glob, _ in self._own:
            if not any(map(glob.fits, names)):
                raise UsageError(f"rank_pattern: {glob.pattern} fits no quantized linear layer")
        found = {}
        for name in names:
            rank = next((rank for glob, rank in self._own if glob.fits(name)), self.rank)
            if rank > 0:
                found[name] = rank
        return found

    @cached_property
    def _own(self) -> list[tuple[Glob, int]]:
        return [(Glob(pattern), int(rank)) for pattern, rank in _PAIR.findall(self.pattern)]


class LearnedLowRank(nn.Module):
    """A term in training: exact factors, used rounded as they will be stored."""

    def __init__(self, left: Tensor, right: Tensor) -> None:
        super().__init__()
        self.left = nn.Parameter((left / _GAIN).contiguous())
        self.right = nn.Parameter((right / _GAIN).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: (..., in) -> (..., out); gradients pass the rounding as if it were not there.

        Bengio et al., arXiv 1308.3432, section 4.
        """
        left, right = self.left * _GAIN, self.right * _GAIN
        stored = _rounded(left, right)
        return product(x, through(left, stored[0].values), through(right, stored[1].values))

    @torch.no_grad()
    def finished(self) -> LowRank:
        """Return the term as it is stored."""
        return LowRank(*_rounded(self.left * _GAIN, self.right * _GAIN))


def _rounded(left: Tensor, right: Tensor) -> tuple[Factor, Factor]:
    return rounded(left, along=0), rounded(right, along=1)


@dataclass(frozen=True)
class TermPlan:
    """Which layers get a term, and what it begins from."""

    ranks: Ranks
    sample: Tensor | None = None
    """(rows, tokens) token ids, by which the inputs of the layers are known; without them all
    directions of the inputs count alike."""
    mask: Tensor | None = None
    """(rows, tokens) bool, true where the sample has tokens and no filling; None: everywhere."""
    seed: int = 0
    """Of the singular value decomposition."""

    def begun(
        self, model: PreTrainedModel, methods: Mapping[str, Method]
    ) -> dict[str, LearnedLowRank]:
        """Return the terms of a model in full precision by name; its weights are to lose them.

        methods: what quantizes each layer. Raises UsageError for a rank that a weight cannot have.
        """
        ranks = self.ranks.of(list(methods))
        for name, rank in ranks.items():
            rows, width = weight_view(model.get_submodule(name)).shape
            if not is_rank(rank, (rows, width)):
                raise UsageError(f"{name}: a weight of {rows} x {width} has no {rank} directions")
        if model.device.type == "meta":
            return {name: _blank(model.get_submodule(name), rank) for name, rank in ranks.items()}
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            terms = {
                name: LearnedLowRank(*decomposed(weight, methods[name], moments, ranks[name]))
                for name, weight, moments in self._looked_at(model, list(ranks))
            }
        return {name: term.to(model.device) for name, term in terms.items()}

    def _looked_at(
        self, model: PreTrainedModel, names: list[str]
    ) -> Iterator[tuple[str, Tensor, Tensor]]:
        """Give name, weight and second moments of layers, holding those of a block at a time.

        Where a layer's inputs are not seen, all their directions count alike.
        """
        prefix, blocks = find_blocks(model)
        for index in range(len(blocks)):
            inside = f"{prefix}.{index}."
            layers = {n: model.get_submodule(n) for n in names if n.startswith(inside)}
            moments = self._second_moments(model, layers) if layers else {}
            for name, layer in layers.items():
                weight = weight_view(layer)
                seen = moments.pop(name, None)
                yield name, weight, torch.eye(weight.shape[1]) if seen is None else seen

    def _second_moments(
        self, model: PreTrainedModel, layers: Mapping[str, nn.Module]
    ) -> dict[str, Tensor]:
        """Return the mean of x xT over the inputs x of layers, (in, in) float32, by name."""
        found: dict[str, Tensor] = {}
        if self.sample is None:
            return found
        tokens = self.sample.to(model.device)
        mask = None if self.mask is None or bool(self.mask.all()) else self.mask.to(model.device)

        def hook_of(name: str) -> Any:
            def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                del layer
                rows = inputs[0].detach().flatten(0, -2) if inputs else tokens.new_empty(0, 1)
                if mask is not None and len(rows) == mask.numel():
                    rows = rows[mask.flatten()]
                if len(rows):
                    x = rows.to(torch.float32)
                    found[name] = found.get(name, 0) + (x.t() @ x).cpu() / len(x)

            return hook

        given = {} if mask is None else {"attention_mask": mask.long()}
        with ExitStack() as hooks, dropout_off(model):
            for name, layer in layers.items():
                hooks.callback(layer.register_forward_pre_hook(hook_of(name)).remove)
            model.base_model(input_ids=tokens, use_cache=False, **given)
        return found


def take_out(weight: Tensor, term: LearnedLowRank) -> None:
    """Subtract what a term stands for from the (out, in) weight that it begins beside, in place."""
    with torch.no_grad():
        weight.sub_(term.finished().weight(weight.dtype).to(weight.device))


def decomposed(weight: Tensor, method: Method, moments: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the factors (out, rank) and (rank, in) of what a method gets wrong of W - L R.

    weight: (out, in); moments: (in, in), the mean of x xT over the inputs. Both factors have the
    same root mean square.
    """
    exact = weight.detach().to("cpu", torch.float32)
    found = factorize(moments, _DAMP)
    root = found.unit * found.power.sqrt()
    change = torch.zeros_like(exact)
    for _ in range(_ROUNDS):
        wrong = exact - method.quantize(exact - change).dequantize()
        u, s, v = torch.svd_lowrank(wrong @ root, q=_searched(rank, exact), niter=_PASSES)
        left = u[:, :rank] * s[:rank].sqrt()
        right = v[:, :rank].t() * s[:rank].sqrt().unsqueeze(1)
        right = torch.linalg.solve_triangular(root, right, upper=True, left=False)
        change = left @ right
    sizes = [part.square().mean().sqrt().clamp(min=_TINY) for part in (left, right)]
    even = (sizes[1] / sizes[0]).sqrt()
    return left * even, right / even


def _searched(rank: int, weight: Tensor) -> int:
    return min(rank + _SPARE, *weight.shape)


def _blank(layer: nn.Module, rank: int) -> LearnedLowRank:
    rows, width = weight_view(layer).shape
    device = torch.device("meta")
    left, right = torch.empty(rows, rank, device=device), torch.empty(rank, width, device=device)
    return LearnedLowRank(left, right)
