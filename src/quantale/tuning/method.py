"""What a tuning method is: a plug-in of `tuning/methods/` that makes work for the loop.

A tuning method is a frozen dataclass of its own settings. `begin` may wrap or replace layers of
the model that it is given, and returns what the loop trains, by which loss, and how the model that
is written comes of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel

from quantale.quant.whole import Methods
from quantale.tuning.settings import Objective

Order = Literal["tune-first", "quantize-first", "within"]
"""When a variant that is tuned and quantized is quantized: after the training, before it, or in it.

`tune-first`: the method trains full precision. `quantize-first`: it trains something beside packed
weights, which it is given. `within`: it is given full precision together with the methods that
quantize it, and what it returns is packed.
"""


@dataclass(frozen=True)
class Start:
    """What a tuning method begins with."""

    model: PreTrainedModel
    """In full precision or packed; it may be changed."""
    teacher: PreTrainedModel | None = None
    """In full precision, frozen and in evaluation mode, for methods that need one."""
    methods: Methods | None = None
    """What quantizes the model, for methods of the order `within`."""
    seed: int = 0
    """Of new parameters."""
    dtype: torch.dtype = torch.float32
    """In which the file of the model keeps what is not packed."""
    base: str | None = None
    """Folder or Hub name that the model was loaded from; None for one that was never saved."""
    sample: torch.Tensor | None = None
    """(rows, tokens) token ids of the training data, for methods that look how a model uses them;
    None: there are none yet."""
    sample_mask: torch.Tensor | None = None
    """(rows, tokens) bool, true where the sample has tokens and no filling; None: everywhere."""


@dataclass(frozen=True)
class Work:
    """What the loop is given, and what becomes of it."""

    model: nn.Module
    """What is trained: the model of the start, or what holds it."""
    objective: Objective
    """What is trained in it, by which loss."""
    finish: Callable[[], Any]
    """Called once after the training: the model to write, a transformers or a peft model."""
    record: Callable[[], Mapping[str, Any]] = dict
    """Called after `finish`: what the summary says of this method, JSON-able."""
    maps: bool = False
    """Whether large tensors come and go between those that stay, in every pass, so that the C
    library had better map them; see `core/heap.py`."""


class Tuning(Protocol):
    """A plug-in of `quantale.tuning.methods`."""

    @property
    def order(self) -> Order:
        """When a variant with this method is quantized."""
        ...

    @property
    def needs_teacher(self) -> bool:
        """Whether `Start.teacher` must be there."""
        ...

    def begin(self, start: Start) -> Work:
        """Prepare the model; raises UsageError where method and model do not fit together."""
        ...
