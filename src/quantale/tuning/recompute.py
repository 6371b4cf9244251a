"""Gradient checkpointing: activations inside blocks are computed again for the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174, section 4.1: the
inputs of the blocks are kept and one block at a time is computed anew, a third more work. The
non-reentrant form needs no input that requires a gradient, so frozen embeddings are no obstacle;
random states are put back, so dropout falls on the same numbers.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError


@contextmanager
def recomputing(model: nn.Module, wanted: bool) -> Iterator[None]:
    """Let the transformers model in `model` recompute its blocks while the block lasts.

    Raises UsageError for a model that cannot.
    """
    if not wanted:
        yield
        return
    inner = _transformers_model(model)
    with warnings.catch_warnings():  # a newer name for the same is not in all supported versions
        warnings.simplefilter("ignore", FutureWarning)
        inner.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            inner.gradient_checkpointing_disable()


def _transformers_model(model: nn.Module) -> PreTrainedModel:
    found = next((m for m in model.modules() if isinstance(m, PreTrainedModel)), None)
    if found is None or not found.supports_gradient_checkpointing:
        raise UsageError(f"{type(found or model).__name__} has no gradient checkpointing")
    return found
