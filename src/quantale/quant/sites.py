"""What can be quantized in a model: linear layers, GPT-2's Conv1D, embeddings, heads, norms.

A site is one weight seen as (out, in), whatever its module stores. Tied weights are one site. Sites
are found by what modules are, never by the family of the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import UsageError
from quantale.models.adapter_record import is_adapted
from quantale.models.blocks import find_blocks

LINEAR_ROLES: Final = ("attention", "mlp")
EMBEDDING_ROLES: Final = ("embedding", "position")
_SPARE_POSITIONS: Final = 2
"""Rows that OPT's and BART's position tables have beyond the longest context."""
_MATRIX_FREE: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Modules of a block whose weights have three and more dimensions without being experts."""


@dataclass(frozen=True)
class Site:
    """One weight that can be quantized."""

    name: str
    """Dotted name of its module."""
    role: str
    """"attention", "mlp", "embedding", "position", "head", "norm" or "other"."""
    shape: tuple[int, int]
    """(out, in); of an embedding (entries, width), of a norm (1, width)."""
    tied: str | None = None
    """Name of a second module that uses the same weight (the head of a tied embedding)."""

    def weight(self, model: nn.Module) -> Tensor:
        """Return the (out, in) view of the weight."""
        return weight_view(model.get_submodule(self.name))

    def bias(self, model: nn.Module) -> Tensor | None:
        """Return the bias (out,) or None."""
        return getattr(model.get_submodule(self.name), "bias", None)


def weight_view(module: nn.Module) -> Tensor:
    """Return a linear layer's, Conv1D's or embedding's weight as (out, in), a norm's as (1, n)."""
    weight = module.get_parameter("weight").detach()
    if weight.dim() == 1:
        return weight.unsqueeze(0)
    return weight.t() if isinstance(module, Conv1D) else weight


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is exactly a Linear or a Conv1D."""
    return type(module) in (nn.Linear, Conv1D)


def is_norm(module: nn.Module) -> bool:
    """Say whether a module stores a one-dimensional weight, perhaps a bias, and nothing else."""
    parameters = dict(module.named_parameters())
    weight = parameters.get("weight")
    return (
        weight is not None
        and weight.dim() == 1
        and set(parameters) <= {"weight", "bias"}
        and set(module.state_dict()) == set(parameters)
        and not any(True for _ in module.children())
    )


def find_sites(model: PreTrainedModel) -> list[Site]:
    """Return every site in module order.

    Raises UsageError for blocks with weights that would be left out silently: experts in one tensor
    of three dimensions, and subclasses of Linear, which may compute something else; and for a model
    with an adapter in it.
    """
    if is_adapted(model):
        raise UsageError("the model is an adapter over its base; merge it, then quantize that")
    prefix, blocks = find_blocks(model)
    for name, module in blocks.named_modules(prefix=prefix):
        _refuse_unknown(name, module)
    return list_sites(model)


def list_sites(model: PreTrainedModel) -> list[Site]:
    """Return the sites of a model as far as they are known; packed modules are not among them."""
    blocks_name, _ = find_blocks(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    tied = head is not None and head.weight is embedding.weight
    roles = _Roles(model, blocks_name)
    return [
        Site(
            name,
            roles.of(name, module),
            _shape(weight_view(module)),
            names[id(head)] if tied and module is embedding else None,
        )
        for name, module in _quantizable(model)
        if not (tied and module is head)
    ]


def choose(sites: list[Site], *, embedding: bool, head: bool) -> list[Site]:
    """Return the sites of the blocks' linears, and embeddings and the head when asked for.

    Raises UsageError when nothing is left, or when the head was asked for and there is none.
    """
    roles = [*LINEAR_ROLES, *(EMBEDDING_ROLES if embedding else ()), *(("head",) if head else ())]
    chosen = [site for site in sites if site.role in roles or (head and site.tied)]
    if not any(site.role in LINEAR_ROLES for site in chosen):
        there = ", ".join(f"{site.name} ({site.role})" for site in sites[:5]) or "none"
        raise UsageError(f"no linear layer of a transformer block matches; sites: {there}")
    if head and not any(site.role == "head" or site.tied for site in chosen):
        raise UsageError("head_bits was given but the model has no head that can be quantized")
    return chosen


def _shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], weight.shape[1]


def _quantizable(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        known = is_linear(module) or isinstance(module, nn.Embedding) or is_norm(module)
        if known and "weight" in dict(module.named_parameters(recurse=False)):
            yield name, module


def _refuse_unknown(name: str, module: nn.Module) -> None:
    kind = type(module).__name__
    if isinstance(module, nn.Linear | Conv1D) and not is_linear(module):
        raise UsageError(f"{name}: a {kind} is no plain linear layer and cannot be quantized")
    for key, parameter in module.named_parameters(recurse=False):
        if parameter.dim() > 2 and not isinstance(module, _MATRIX_FREE):
            raise UsageError(
                f"{name}.{key}: a weight of shape {tuple(parameter.shape)} (mixture of experts?) "
                "cannot be quantized"
            )


class _Roles:
    """What each module of one model is for."""

    def __init__(self, model: PreTrainedModel, blocks: str) -> None:
        self._blocks = f"{blocks}."
        self._embedding = model.get_input_embeddings()
        self._head = model.get_output_embeddings()
        self._body = {id(module) for module in model.base_model.modules()}
        self._context = getattr(model.config.get_text_config(), "max_position_embeddings", 0)

    def of(self, name: str, module: nn.Module) -> str:
        """Return the role of a module that can be quantized."""
        if module is self._embedding:
            return "embedding"
        if is_norm(module):
            return "norm"
        if name.startswith(self._blocks):
            return "other" if isinstance(module, nn.Embedding) else self._inside(name)
        if isinstance(module, nn.Embedding):
            spare = module.num_embeddings - self._context
            return "position" if 0 <= spare <= _SPARE_POSITIONS else "other"
        return "head" if module is self._head or id(module) not in self._body else "other"

    def _inside(self, name: str) -> str:
        parts = name.removeprefix(self._blocks).split(".")[1:]
        return "attention" if any("attn" in p or "attention" in p for p in parts) else "mlp"
