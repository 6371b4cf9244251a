"""Run a model whose pieces are not in memory together: the first inputs, each block, the tail.

The model's own `forward` runs every time, so masks, positions and whatever a family does between
its blocks are its own. Modules that are not in memory are bridged: for the time of a call their
`forward` is a function of ours.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks


class Stop(Exception):  # noqa: N818
    """Raised by a hook to end a forward pass whose rest is not needed."""


@dataclass(frozen=True)
class BlockCall:
    """How the model calls one block: everything but the hidden states."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        """Call the block: (batch, length, width) -> the same shape."""
        out = block(hidden, *self.args, **self.kwargs)
        return out[0] if isinstance(out, tuple) else out


@dataclass(frozen=True)
class _Calls:
    """What one shape of tokens leads to."""

    blocks: tuple[BlockCall, ...]
    beside: tuple[Any, ...] | None
    """What a block returns beside the hidden states; None: it returns no tuple."""

    def styled(self, hidden: Tensor) -> Any:
        """Return hidden states as a block of this model would."""
        return hidden if self.beside is None else (hidden, *self.beside)


class Relay:
    """Runs the parts of a model one at a time."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._blocks = find_blocks(model)[1]
        self._calls: dict[tuple[int, ...], _Calls] = {}

    def first(self, tokens: Tensor) -> Tensor:
        """Return the hidden states (n, length, width) that enter the first block.

        The front must be in memory.
        """
        seen: list[Tensor] = []

        def keep(*args: Any, **kwargs: Any) -> Any:
            del kwargs
            seen.append(_hidden(args).detach().clone())
            raise Stop

        with bridged({self._blocks[0]: keep}):
            self._forward(tokens)
        if not seen:
            raise UsageError("the model ran without calling its first block")
        return seen[0]

    def early(self, module: nn.Module, tokens: Tensor) -> Tensor | None:
        """Return the input of a module in front of the first block; None when it comes later.

        The front must be in memory.
        """
        seen: list[Tensor] = []

        def keep(*args: Any, **kwargs: Any) -> Any:
            del kwargs
            seen.append(args[0])
            raise Stop

        def stop(*args: Any, **kwargs: Any) -> Any:
            del args, kwargs
            raise Stop

        with bridged({module: keep, self._blocks[0]: stop}):
            self._forward(tokens)
        return seen[0] if seen else None

    def record(self, tokens: Tensor) -> None:
        """Learn how the model calls its blocks for tokens of this shape (n, length).

        The outer part and the first block must be in memory. What is learned holds for all tokens
        of that shape, because it depends on positions only.
        """
        calls: list[BlockCall] = []
        outs: list[Any] = []
        real = self._blocks[0].forward

        def bridge(index: int) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                hidden = _hidden(args)
                calls.append(BlockCall(args[1:], dict(kwargs)))
                if index == 0:
                    outs.append(real(hidden, *args[1:], **kwargs))
                if len(calls) == len(self._blocks):
                    raise Stop
                return outs[0]

            return forward

        found = {block: bridge(index) for index, block in enumerate(self._blocks)}
        with bridged(found | self._no_embedding()):
            self._forward(tokens)
        if len(calls) != len(self._blocks):
            raise UsageError("the model ran without calling all of its blocks")
        beside = outs[0][1:] if isinstance(outs[0], tuple) else None
        self._calls[tuple(tokens.shape)] = _Calls(tuple(calls), beside)

    def call(self, index: int, tokens: Tensor) -> BlockCall:
        """Return how the model calls a block for tokens of a recorded shape."""
        return self._calls[tuple(tokens.shape)].blocks[index]

    def tail(self, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Return the logits for hidden states that leave the last block.

        The outer part and the head must be in memory; the shape of the tokens was recorded.
        """
        return self._tail(tokens, hidden).logits

    def before(self, module: nn.Module, tokens: Tensor, hidden: Tensor) -> Tensor:
        """Return the input of a module behind the last block."""
        seen: list[Tensor] = []

        def keep(*args: Any, **kwargs: Any) -> Any:
            del kwargs
            seen.append(args[0])
            raise Stop

        with bridged({module: keep}):
            self._tail(tokens, hidden)
        if not seen:
            raise UsageError("a module that was to be calibrated is never called by the model")
        return seen[0]

    def _tail(self, tokens: Tensor, hidden: Tensor) -> Any:
        style = self._calls[tuple(tokens.shape)].styled

        def passed(*args: Any, **kwargs: Any) -> Any:
            del args, kwargs
            return style(hidden)

        with bridged(dict.fromkeys(self._blocks, passed) | self._no_embedding()):
            return self._forward(tokens)

    def _forward(self, tokens: Tensor) -> Any:
        with torch.no_grad():
            try:
                return self._model(input_ids=tokens, use_cache=False)
            except Stop:
                return None

    def _no_embedding(self) -> dict[nn.Module, Callable[..., Tensor]]:
        """Bridge the embedding, whose values are not needed, by zeros."""
        embedding = self._model.get_input_embeddings()
        width, dtype = embedding.embedding_dim, self._model.dtype

        def zeros(index: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            del args, kwargs
            return torch.zeros(*index.shape, width, dtype=dtype)

        return {embedding: zeros}


@contextmanager
def bridged(functions: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let functions answer for modules for the time of the block."""
    for module, function in functions.items():
        module.forward = function
    try:
        yield
    finally:
        for module in functions:
            del module.forward


def _hidden(args: tuple[Any, ...]) -> Tensor:
    if not args or not isinstance(args[0], Tensor):
        raise UsageError("the blocks of this model do not take hidden states as first argument")
    return args[0]
