"""Make a model with fewer transformer blocks out of one with more, for any family.

The configuration's number of layers changes, and every setting that lists one value a layer is
cut alike; the new model is an ordinary one of the same class.
"""

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks


def evenly(model: nn.Module, count: int) -> tuple[int, ...]:
    """Return the numbers of `count` blocks from first to last, as DistilGPT2's were chosen.

    Of 12 blocks, 6 are 0, 2, 4, 7, 9 and 11. Raises UsageError for none or more than there are.
    """
    there = len(find_blocks(model)[1])
    if not 1 <= count <= there:
        raise UsageError(f"the model has {there} layers; {count} cannot be kept of them")
    return tuple(round(i * (there - 1) / max(1, count - 1)) for i in range(count))


def shorten(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """Return a new model with copies of these blocks, in this order, and of all else.

    Raises UsageError for a block that is not there, named twice, or a model that is packed.
    """
    name, blocks = find_blocks(model)
    _check(model, kept, len(blocks))
    with torch.random.fork_rng(devices=[]):
        student: PreTrainedModel = type(model)(_config(model.config, kept, len(blocks)))
    found = len(find_blocks(student)[1])
    if found != len(kept):
        raise UsageError(
            f"{type(model).__name__} was built with {found} blocks where {len(kept)} were asked; "
            "its configuration does not say how many it has"
        )
    student.load_state_dict(_taken(model.state_dict(), name, kept))
    student.tie_weights()
    if model.can_generate():
        student.generation_config = copy.deepcopy(model.generation_config)
    return student.to(dtype=model.dtype, device=model.device).train(model.training)


def _check(model: PreTrainedModel, kept: Sequence[int], there: int) -> None:
    if getattr(model, "is_quantized", False):
        raise UsageError("a quantized model cannot be shortened; shorten the original")
    wrong = [number for number in kept if not 0 <= number < there]
    if wrong:
        raise UsageError(f"the model has layers 0 to {there - 1}; {wrong[0]} came")
    if not kept or len(set(kept)) < len(kept):
        raise UsageError(f"layers must be named once each; {list(kept)} came")


def _config(config: Any, kept: Sequence[int], there: int) -> Any:
    """Return a copy for fewer layers; lists with one entry a layer are cut to those kept."""
    shorter = copy.deepcopy(config)
    text = shorter.get_text_config()
    for key, value in list(vars(text).items()):
        if isinstance(value, list | tuple) and len(value) == there and "layer" in key:
            setattr(text, key, type(value)(value[number] for number in kept))
    text.num_hidden_layers = len(kept)
    return shorter


def _taken(tensors: dict[str, Tensor], name: str, kept: Sequence[int]) -> dict[str, Tensor]:
    """Return the tensors of the kept blocks under their new numbers, and all others."""
    places = {old: new for new, old in enumerate(kept)}
    pattern = re.compile(rf"{re.escape(name)}\.(\d+)\.(.*)", re.DOTALL)
    found = {}
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if match is None:
            found[key] = tensor
        elif int(match[1]) in places:
            found[f"{name}.{places[int(match[1])]}.{match[2]}"] = tensor
    return found
