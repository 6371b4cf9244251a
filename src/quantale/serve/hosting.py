"""The models of one server: each with an engine of its own."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from quantale.inference.engine import Engine
from quantale.inference.speculative import Draft
from quantale.models.load import load
from quantale.stages.evaluate import named


@dataclass(frozen=True)
class Serving:
    """How models are served."""

    slots: int = 4
    """Requests that a model writes at once."""
    queue: int = 16
    """Requests that may wait for a model."""
    context: int | None = None
    """Tokens of prompt and answer; None: the model's own, at most 4096."""
    exact: bool = False
    """Only kernels that keep to the format's result bit for bit."""
    draft: str | None = None
    """A smaller model of the same tokenizer that guesses ahead."""
    ahead: int = 4
    """Tokens that the draft guesses."""


@contextlib.contextmanager
def hosted(paths: list[str], serving: Serving) -> Iterator[Mapping[str, Engine]]:
    """Load models and keep their engines for the time of the block, by the names of `evaluate`.

    Several models share the processor's threads evenly.
    """
    torch.set_num_threads(max(1, torch.get_num_threads() // len(paths)))
    with contextlib.ExitStack() as stack:
        draft = None if serving.draft is None else Draft(load(serving.draft), serving.ahead)
        engines = {}
        for name, path in named(paths).items():
            engine = Engine(
                load(path),
                slots=serving.slots,
                queue=serving.queue,
                context=serving.context,
                fast=not serving.exact,
                name=name,
                draft=draft,
            )
            engines[name] = stack.enter_context(engine)
        yield engines
