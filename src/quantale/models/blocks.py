"""Find the transformer blocks of any causal language model by what they are, not by their name."""

from itertools import chain

from torch import nn

from quantale.core.errors import UsageError


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the dotted name and the list of the model's transformer blocks.

    That is the ModuleList of equal modules that holds the most numbers (parameters and buffers,
    so that packed models are found too). Raises UsageError when there is none.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len({type(block) for block in module}) == 1
    ]
    if not lists:
        raise UsageError(f"{type(model).__name__} has no list of equal blocks to work through")
    return max(lists, key=lambda item: _numbers(item[1]))


def _numbers(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in chain(module.parameters(), module.buffers()))
