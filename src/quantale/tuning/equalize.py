"""Even out the columns of linear layers, by moving their scales into the norm in front of them.

A norm multiplies every channel by a weight of its own. Where a channel is made k times larger there
and k times smaller in all layers that read it, the model computes what it did, and the columns of
those layers change their size. Nagel et al., "Data-Free Quantization Through Weight Equalization
and Bias Correction", arXiv 1906.04721, section 4.1, does this between layers; Xiao et al.,
"SmoothQuant", arXiv 2211.10438, section 4, between norms and linear layers, towards the inputs.

Here all columns get the same mean magnitude. Large language models grow channels that are large in
the norm and small in the weights (Dettmers et al., "LLM.int8()", arXiv 2208.07339, section 4): with
one scale for a group of weights such columns are lost, and one learning rate does not suit both.
"""

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge
from transformers import PreTrainedModel

from quantale.core.errors import NumericalError
from quantale.models.blocks import find_blocks
from quantale.quant.proof import proof_tokens
from quantale.quant.sites import is_linear, is_norm, weight_view
from quantale.tuning.modes import dropout_off

_TOLERANCE: Final = 1e-3
"""Of the logits, relative to the largest; moving scales rounds, and that stays far below."""


def equalize_columns(model: PreTrainedModel) -> int:
    """Even out the columns of the blocks' linear layers that read a norm; returns how many layers.

    The model, in full precision, is changed in place and computes the same function: norms that
    anything else reads too are left alone. Raises NumericalError for a norm whose outputs do not
    grow with its weight.
    """
    if model.device.type == "meta":
        return 0
    tokens = proof_tokens(model).to(model.device)
    with dropout_off(model):
        readers, before = _readers(model, tokens)
        with torch.no_grad():
            for norm, layers in readers.items():
                _move(norm, layers, _columns(layers))
            after = model(input_ids=tokens).logits
    moved, largest = float((after - before).abs().max()), float(before.abs().max())
    if not moved <= _TOLERANCE * largest:
        raise NumericalError(
            f"equalizing moved a logit by {moved:.3g} (the largest is {largest:.3g}): a norm of "
            "this model does more with its weight than to multiply; leave equalize out"
        )
    return sum(map(len, readers.values()))


@dataclass
class _Read:
    """The output of a norm, and the linear layers whose input it is."""

    norm: nn.Module
    output: Tensor
    layers: list[nn.Module] = field(default_factory=list)


def _readers(
    model: PreTrainedModel, tokens: Tensor
) -> tuple[dict[nn.Module, list[nn.Module]], Tensor]:
    """Return the norms of the blocks that linear layers alone read, with those, and the logits."""
    found: dict[int, _Read] = {}  # by the id of an output, which is kept, so that ids stay apart

    def written(norm: nn.Module, inputs: Any, output: Tensor) -> None:
        del inputs
        if not output.requires_grad:  # of a frozen model
            output.requires_grad_(True)
        found[id(output)] = _Read(norm, output)

    def read(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs and id(inputs[0]) in found:
            found[id(inputs[0])].layers.append(layer)

    with ExitStack() as hooks, torch.enable_grad():
        for module in find_blocks(model)[1].modules():
            if is_norm(module):
                hooks.callback(module.register_forward_hook(written).remove)
            elif is_linear(module):
                hooks.callback(module.register_forward_pre_hook(read).remove)
        logits: Tensor = model(input_ids=tokens).logits
    uses = _uses(logits)
    alone = {
        one.norm: one.layers
        for one in found.values()
        if one.layers and uses[get_gradient_edge(one.output)[:2]] == len(one.layers)
    }
    return alone, logits.detach()


def _uses(result: Tensor) -> Counter[tuple[Any, int]]:
    """Return how often each tensor of the graph behind a result was read, by its gradient edge."""
    counts: Counter[tuple[Any, int]] = Counter()
    waiting, seen = [get_gradient_edge(result).node], set()
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        for edge in node.next_functions:
            if edge[0] is not None:
                counts[edge] += 1
                waiting.append(edge[0])
    return counts


def _columns(layers: list[nn.Module]) -> Tensor:
    """Return the mean magnitude of each column over all layers, (in,), relative to the median.

    Columns of zeros stay as they are.
    """
    sizes = torch.stack([weight_view(layer).abs().sum(0) for layer in layers]).sum(0)
    alive = sizes > 0
    return torch.where(alive, sizes / sizes[alive].median(), 1.0)


def _move(norm: nn.Module, layers: list[nn.Module], scale: Tensor) -> None:
    """Make channels larger in a norm and smaller in the layers that read it."""
    for layer in layers:
        weight_view(layer).div_(scale)
    weight, bias = norm.get_parameter("weight"), getattr(norm, "bias", None)
    offset = _offset(norm)
    weight.copy_((weight + offset) * scale - offset)
    if bias is not None:
        bias.mul_(scale)


def _offset(norm: nn.Module) -> int:
    """Return what a norm adds to its weight: 1 in Gemma's, 0 in others."""
    zeros = {name: torch.zeros_like(value) for name, value in norm.named_parameters()}
    probe = torch.linspace(-1, 1, len(zeros["weight"])).to(zeros["weight"]).unsqueeze(0)
    return int(torch.func.functional_call(norm, zeros, (probe,)).any())
