"""What can be quantized in a model: linear layers, GPT-2's Conv1D, embeddings, heads.

A site is one weight seen as (out, in), whatever its module stores. Tied weights are one site.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks

LINEAR_ROLES = ("attention", "mlp")
EMBEDDING_ROLES = ("embedding", "position")


@dataclass(frozen=True)
class Site:
    """One weight that can be quantized."""

    name: str
    """Dotted name of its module."""
    role: str
    """"attention", "mlp", "embedding", "position", "head" or "other"."""
    shape: tuple[int, int]
    """(out, in); of an embedding (entries, width)."""
    tied: str | None = None
    """Name of a second module that uses the same weight (the head of a tied embedding)."""

    def weight(self, model: nn.Module) -> Tensor:
        """Return the (out, in) view of the weight."""
        return weight_view(model.get_submodule(self.name))

    def bias(self, model: nn.Module) -> Tensor | None:
        """Return the bias (out,) or None."""
        return getattr(model.get_submodule(self.name), "bias", None)


def weight_view(module: nn.Module) -> Tensor:
    """Return a linear layer's, Conv1D's or embedding's weight as (out, in)."""
    weight = module.get_parameter("weight").detach()
    return weight.t() if isinstance(module, Conv1D) else weight


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is exactly a Linear or a Conv1D."""
    return type(module) in (nn.Linear, Conv1D)


def find_sites(model: PreTrainedModel) -> list[Site]:
    """Return every site in module order."""
    blocks_name, _ = find_blocks(model)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    tied = head is not None and head.weight is embedding.weight
    return [
        Site(
            name,
            _role(name, module, blocks_name, (embedding, head)),
            _shape(weight_view(module)),
            names[id(head)] if tied and module is embedding else None,
        )
        for name, module in _quantizable(model, embedding)
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


def _quantizable(model: nn.Module, embedding: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        scaled = module is embedding and isinstance(module, nn.Embedding)  # such as Gemma's
        if is_linear(module) or type(module) is nn.Embedding or scaled:
            yield name, module


def _role(
    name: str, module: nn.Module, blocks: str, ends: tuple[nn.Module, nn.Module | None]
) -> str:
    embedding, head = ends
    if module is embedding:
        return "embedding"
    if module is head:
        return "head"
    if type(module) is nn.Embedding:
        return "position"
    if not name.startswith(f"{blocks}."):
        return "other"
    inside = name.removeprefix(f"{blocks}.").split(".")[1:]
    return "attention" if any("attn" in part or "attention" in part for part in inside) else "mlp"
