"""Look at a model as it is used, in the middle of preparing its training."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def dropout_off(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for the time of a block; gradients stay as they are."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
