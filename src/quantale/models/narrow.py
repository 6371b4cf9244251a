"""Make a narrower model out of a wider one: fewer channels, heads and columns of the MLP.

Which of them stay is chosen as in Muralidharan et al., "Compact Language Models via Pruning and
Knowledge Distillation" (Minitron), arXiv 2407.14679, section 2.2: by forward passes over a sample
alone, channels of the residual stream by what the norms give out, summed over all norms, heads by
what attention gives out, columns of the MLP by its activations. Differences: magnitudes are root
mean squares over all tokens; heads that share keys stay or go together; without a sample the first
ones stay. What stays keeps its order, so that a model of equal width is the same model.

Heads keep their size. Families whose blocks are named as GPT-2's, nanoGPT's or Llama's are known.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks

_AXES: Final[Mapping[str, tuple[str, str]]] = {
    "attn.c_attn": ("thirds", "channels"),
    "attn.c_proj": ("channels", "heads"),
    "mlp.c_fc": ("mlp", "channels"),
    "mlp.c_proj": ("channels", "mlp"),
    "self_attn.q_proj": ("heads", "channels"),
    "self_attn.k_proj": ("keys", "channels"),
    "self_attn.v_proj": ("keys", "channels"),
    "self_attn.o_proj": ("channels", "heads"),
    "mlp.gate_proj": ("mlp", "channels"),
    "mlp.up_proj": ("mlp", "channels"),
    "mlp.down_proj": ("channels", "mlp"),
}
"""What the two axes, out and in, of a block's linear layers are made of."""
_ENDS: Final = ("attn.c_proj", "self_attn.o_proj"), ("mlp.c_proj", "mlp.down_proj")
"""The layers that read what the heads, and what the columns of the MLP, give out."""


@dataclass(frozen=True)
class Widths:
    """The sizes of a narrower model; what is None follows from the width."""

    width: int
    """Channels of the residual stream."""
    heads: int | None = None
    """Of attention."""
    mlp: int | None = None
    """Columns inside the MLP."""


@dataclass(frozen=True)
class _Shape:
    """Sizes of a model."""

    width: int
    heads: int
    keys: int
    """Heads of keys and values."""
    size: int
    """Numbers of a head."""
    mlp: int

    @property
    def sharing(self) -> int:
        """Heads that share keys and values."""
        return self.heads // self.keys


Pick = Mapping[str, Tensor]
"""What stays, by the kind of an axis."""


def narrow(model: PreTrainedModel, widths: Widths, sample: Tensor | None = None) -> PreTrainedModel:
    """Return a new model with copies of what matters most.

    sample: (rows, tokens) token ids by which that is told. Raises UsageError for sizes that are
    larger than the model's or do not fit together, and for a family that is not known.
    """
    if getattr(model, "is_quantized", False):
        raise UsageError("a quantized model cannot be narrowed; narrow the original")
    name, blocks = find_blocks(model)
    before = _shape(model, blocks[0])
    after = _narrower(before, widths, is_square="attn.c_attn" in dict(blocks[0].named_modules()))
    scores = _Scores(name, len(blocks), before).of(model, sample)
    picks = [_picks(before, after, scores, layer) for layer in range(len(blocks))]
    with torch.random.fork_rng(devices=[]):
        student: PreTrainedModel = type(model)(_config(model.config, before, after))
    found = _shape(student, find_blocks(student)[1][0])
    if found != after:
        raise UsageError(f"{type(model).__name__} cannot have these sizes: {after} became {found}")
    student.load_state_dict(_taken(model, name, picks, before.width))
    student.tie_weights()
    if model.can_generate():
        student.generation_config = copy.deepcopy(model.generation_config)
    return student.to(dtype=model.dtype, device=model.device).train(model.training)


def _shape(model: PreTrainedModel, block: nn.Module) -> _Shape:
    """Read the sizes off configuration and layers; raises UsageError for unknown names."""
    layers = {key: m for key, m in block.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    unknown = [key for key in layers if key not in _AXES]
    if unknown or not layers:
        raise UsageError(
            f"{type(model).__name__} cannot be narrowed: {next(iter(unknown), 'no linear layer')} "
            "is not known; GPT-2, nanoGPT and models with Llama's blocks are"
        )
    text = model.config.get_text_config()
    width, heads = int(text.hidden_size), int(text.num_attention_heads)
    keys = int(getattr(text, "num_key_value_heads", None) or heads)
    size = int(getattr(text, "head_dim", None) or width // heads)
    reads_mlp = next(layers[key] for key in _ENDS[1] if key in layers)
    return _Shape(width, heads, keys, size, _weight(reads_mlp).shape[1])


def _narrower(before: _Shape, widths: Widths, *, is_square: bool) -> _Shape:
    """Return the new sizes.

    is_square: whether all heads together are as wide as the residual stream.
    """
    share = widths.width / before.width
    heads = widths.heads
    if heads is None:
        heads = max(1, round(before.keys * share)) * before.sharing
    mlp = max(1, round(before.mlp * share)) if widths.mlp is None else widths.mlp
    for what, wanted, there in (
        ("width", widths.width, before.width),
        ("heads", heads, before.heads),
        ("mlp", mlp, before.mlp),
    ):
        if not 1 <= wanted <= there:
            raise UsageError(f"the model has {what} {there}; {wanted} cannot be kept of it")
    if heads % before.sharing:
        raise UsageError(f"{before.sharing} heads share their keys; {heads} heads split them")
    if is_square and heads * before.size != widths.width:
        raise UsageError(
            f"heads are {before.size} wide, so the width must be {before.size} times the heads; "
            f"width {widths.width} and {heads} heads came"
        )
    return _Shape(widths.width, heads, heads // before.sharing, before.size, mlp)


class _Scores:
    """How much each channel, head and column gives out on a sample."""

    def __init__(self, blocks: str, layers: int, shape: _Shape) -> None:
        self._blocks, self._shape = blocks, shape
        self.channels = torch.zeros(shape.width)
        self.heads = [torch.zeros(shape.keys) for _ in range(layers)]
        self.mlp = [torch.zeros(shape.mlp) for _ in range(layers)]

    @torch.no_grad()
    def of(self, model: PreTrainedModel, sample: Tensor | None) -> "_Scores":
        """Run the sample; without one all are equal."""
        if sample is None or model.device.type == "meta":
            return self
        hooks = [module.register_forward_hook(hook) for module, hook in self._hooks(model)]
        was_training = model.training
        try:
            model.eval()(input_ids=sample.to(model.device), use_cache=False)
        finally:
            model.train(was_training)
            for hook in hooks:
                hook.remove()
        return self

    def _hooks(self, model: nn.Module) -> list[tuple[nn.Module, Callable[..., None]]]:
        found: list[tuple[nn.Module, Callable[..., None]]] = []
        for name, module in model.named_modules():
            layer, inner = _place(name, self._blocks)
            if inner in _ENDS[0]:
                found.append((module, self._reads(self.heads[layer], self._groups)))
            elif inner in _ENDS[1]:
                found.append((module, self._reads(self.mlp[layer], _squares)))
            elif _is_norm(module, self._shape.width):
                found.append((module, self._gives))
        return found

    def _reads(self, target: Tensor, score: Callable[[Tensor], Tensor]) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], __: Tensor) -> None:
            target.add_(score(given[0]).to(target.device).sqrt())

        return hook

    def _gives(self, _: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
        self.channels.add_(_squares(out).to(self.channels.device).sqrt())

    def _groups(self, given: Tensor) -> Tensor:
        """Sum the squares of the heads that share keys."""
        return _squares(given).view(self._shape.keys, -1).sum(-1)


def _squares(values: Tensor) -> Tensor:
    """Return the mean square of every column of (..., columns)."""
    return values.flatten(0, -2).float().square().mean(0)


def _picks(before: _Shape, after: _Shape, scores: _Scores, layer: int) -> Pick:
    """Return what stays of one block, in its order."""
    keys = _best(scores.heads[layer], after.keys)
    heads = _spread(keys, before.sharing * before.size)
    inner = before.heads * before.size
    return {
        "channels": _best(scores.channels, after.width),
        "heads": heads,
        "keys": _spread(keys, before.size),
        "thirds": torch.cat([heads, heads + inner, heads + 2 * inner]),
        "mlp": _best(scores.mlp[layer], after.mlp),
    }


def _best(scores: Tensor, count: int) -> Tensor:
    """Return the places of the largest scores, in order; of equal ones the first."""
    return scores.sort(descending=True, stable=True).indices[:count].sort().values


def _spread(places: Tensor, size: int) -> Tensor:
    """Return the columns of parts of a size."""
    return (places.unsqueeze(-1) * size + torch.arange(size)).flatten()


def _config(config: Any, before: _Shape, after: _Shape) -> Any:
    narrower = copy.deepcopy(config)
    text = narrower.get_text_config()
    text.hidden_size, text.num_attention_heads = after.width, after.heads
    for key, value in (("num_key_value_heads", after.keys), ("head_dim", before.size)):
        if getattr(text, key, None) is not None:
            setattr(text, key, value)
    for key in ("intermediate_size", "n_inner"):
        if key in vars(text):
            setattr(text, key, after.mlp)
    return narrower


def _taken(model: PreTrainedModel, blocks: str, picks: list[Pick], width: int) -> dict[str, Tensor]:
    """Return the tensors of the narrower model."""
    found = {}
    for name, tensor in model.state_dict().items():
        owner = name.rpartition(".")[0]
        layer, inner = _place(owner, blocks)
        axes = _axes(model.get_submodule(owner), inner, tensor, width)
        found[name] = _chosen(tensor, axes, picks[max(0, layer)])
    return found


def _axes(module: nn.Module, inner: str, tensor: Tensor, width: int) -> tuple[str, ...]:
    """Return the kind of each axis of a tensor, "" for one that stays as it is."""
    out, into = _AXES.get(inner, ("", "channels"))
    if tensor.dim() == 2:
        return (into, out) if isinstance(module, Conv1D) else (out, into)
    return ("channels" if _is_norm(module, width) else out,)


def _chosen(tensor: Tensor, axes: tuple[str, ...], pick: Pick) -> Tensor:
    for axis, kind in enumerate(axes):
        if kind:
            tensor = tensor.index_select(axis, pick[kind].to(tensor.device))
    return tensor


def _place(name: str, blocks: str) -> tuple[int, str]:
    """Return the block of a module and its name in it; -1 for one outside."""
    number, _, inner = name.removeprefix(f"{blocks}.").partition(".")
    is_inside = name.startswith(f"{blocks}.") and number.isdecimal()
    return (int(number), inner) if is_inside else (-1, name)


def _is_norm(module: nn.Module, width: int) -> bool:
    """Say whether a module scales every channel of the residual stream."""
    weight = module._parameters.get("weight")
    return weight is not None and weight.dim() == 1 and weight.shape[0] == width


def _weight(module: nn.Module) -> Tensor:
    """Return the weight of a linear layer as (out, in)."""
    weight = module.get_parameter("weight")
    return weight.t() if isinstance(module, Conv1D) else weight
