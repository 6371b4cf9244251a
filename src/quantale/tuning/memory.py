"""How much memory a training takes, from geometry alone: what `plan` says before anything starts.

The arithmetic follows what torch keeps for the backward pass of a transformer block in
transformers' own code (RMSNorm or LayerNorm, fused attention, gated or plain MLP), counted by hand.
Frozen layers keep nothing of their inputs: their gradient needs the weight alone, and a packed one
is dequantized again for it. All in bytes; nothing is measured here.
"""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

PROCESS = 700 * 2**20
"""Resident size of Python with torch (CPU build) and transformers loaded, as measured."""
_UNPACKING = 48 * 2**20
"""Codes and values of one part, three times 4 bytes a weight (`quant/rows.py`)."""
_MOMENTS = 2
"""Numbers that AdamW keeps a parameter."""


@dataclass(frozen=True)
class Geometry:
    """What a model's activations depend on."""

    layers: int
    width: int
    mlp: int
    """Width inside the MLP."""
    heads: int
    key_width: int
    """Numbers of all keys of one token: less than `width` where heads share keys."""
    vocabulary: int
    is_gated: bool
    """Whether the MLP multiplies two products (Llama) or has one (GPT-2)."""


@dataclass(frozen=True)
class Trained:
    """What is trained, and how."""

    batch: int
    """Rows of a forward pass."""
    length: int
    """Tokens a row."""
    trainable: int
    """Parameters that the optimizer changes."""
    rank: int = 0
    """Of adapters; 0: the layers themselves are trained."""
    adapted: Literal["attention", "all"] = "attention"
    """Which linear layers of a block have adapters."""
    dropout: bool = False
    """Whether adapters drop inputs, each its own."""
    checkpointing: bool = False
    """Whether a block is computed again in the backward pass, so that only its input is kept."""
    itemsize: int = 4
    """Bytes of an activation."""
    state_itemsize: int = 4
    """Bytes of a number of AdamW's moments: 1 for 8-bit AdamW."""


@dataclass(frozen=True)
class Predicted:
    """Where the bytes go; `peak` is the largest sum that is there at one time."""

    weights: int
    gradients: int
    optimizer: int
    best: int
    """The copy of the best weights that the loop keeps."""
    activations: int
    """What all blocks keep for the backward pass."""
    logits: int
    """Logits, their logarithms and their gradient, which are there together once."""
    dequantized: int
    """The largest packed weight while it is multiplied by, and the unpacking of a part of it."""
    process: int = PROCESS

    @property
    def peak(self) -> int:
        """The loss is where it is most, or a block's backward pass just behind it."""
        always = self.weights + self.gradients + self.optimizer + self.best + self.process
        return always + self.activations + max(self.logits, self.dequantized)


def geometry_of(config: Any) -> Geometry:
    """Read the geometry off a transformers configuration."""
    text = config.get_text_config()
    width, heads = int(text.hidden_size), int(text.num_attention_heads)
    keys = int(getattr(text, "num_key_value_heads", None) or heads)
    head = int(getattr(text, "head_dim", None) or width // heads)
    inner = getattr(text, "intermediate_size", None) or getattr(text, "n_inner", None)
    return Geometry(
        layers=int(text.num_hidden_layers),
        width=width,
        mlp=int(inner or 4 * width),
        heads=heads,
        key_width=keys * head,
        vocabulary=int(text.vocab_size),
        is_gated=getattr(text, "intermediate_size", None) is not None
        and str(getattr(text, "hidden_act", "")).startswith(("silu", "gelu_pytorch", "swish")),
    )


def predict(shape: Geometry, weights: int, largest: int, how: Trained) -> Predicted:
    """Return what a training takes.

    weights: resident bytes of the model, adapters included. largest: bytes of its largest packed
    layer once dequantized; 0 where none is packed.
    """
    tokens = how.batch * how.length
    block = tokens * kept_by_block(shape, how)
    if how.checkpointing:
        activations = shape.layers * tokens * shape.width * how.itemsize + block
    else:
        activations = shape.layers * block
    return Predicted(
        weights=weights,
        gradients=4 * how.trainable,
        optimizer=_MOMENTS * how.state_itemsize * how.trainable,
        best=4 * how.trainable,
        activations=activations,
        logits=3 * tokens * shape.vocabulary * 4,
        dequantized=largest + min(_UNPACKING, 3 * largest),
    )


def kept_by_block(shape: Geometry, how: Trained) -> int:
    """Return the bytes that one block keeps of each token for the backward pass."""
    numbers = 2 * shape.width  # the inputs of both norms
    numbers += 2 * shape.width + 2 * shape.key_width  # queries, keys, values, what attention gives
    numbers += (3 if shape.is_gated else 2) * shape.mlp  # activation and product, or activation
    return how.itemsize * (numbers + _kept_for_weights(shape, how))


def _kept_for_weights(shape: Geometry, how: Trained) -> int:
    """Return the numbers a token that are kept because weights are trained, inputs above all."""
    width, mlp, is_all = shape.width, shape.mlp, how.adapted == "all"
    if not how.rank:
        return 2 * width + (mlp + 2 * width if shape.is_gated else 0)
    layers = 4 + (3 if is_all and shape.is_gated else 2 if is_all else 0)
    low = layers * how.rank
    if not how.dropout:
        return low + width + (width + mlp if is_all else 0)
    read = 4 * width + ((2 if shape.is_gated else 1) * width + mlp if is_all else 0)
    return low + 2 * read  # what is left of each input, and the mask, which is as large


def resident_bytes(model: nn.Module) -> int:
    """Return the bytes of parameters and buffers, shared ones once."""
    tensors = {id(t): t for t in (*model.parameters(), *model.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
