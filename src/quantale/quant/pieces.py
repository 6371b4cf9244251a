"""The pieces of a model that are worked on one after another, and where their weights come from.

A model is cut into what stands before and around its blocks (the front), the blocks, and the head.
Whoever works through them fetches a piece from a shelf, works on it, and puts it back. For a model
that is in memory as a whole the shelf does nothing; `quant/streamed.py` has one that reads the
weights from files and forgets them again.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.models.blocks import find_blocks
from quantale.quant.packed import Format, PackedTensor
from quantale.quant.sites import Site


@dataclass(frozen=True)
class Piece:
    """Modules that are in memory together."""

    name: str
    """Also the name of its folder in the scratch folder."""
    inside: tuple[str, ...]
    """Dotted names of modules that belong to it with all below; "" is the whole model."""
    outside: tuple[str, ...] = ()
    """Dotted names of modules that do not, with all below."""

    def holds(self, name: str) -> bool:
        """Say whether a module belongs to it."""
        return _below(name, self.inside) and not _below(name, self.outside)

    def modules(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield its modules by name, in module order."""
        for name, module in model.named_modules():
            if self.holds(name):
                yield name, module


@dataclass(frozen=True)
class Pieces:
    """A model cut into pieces; every stored tensor belongs to front, one block or the head."""

    front: Piece
    """All that is not below: embeddings, positions, the last norm."""
    embedding: Piece
    """The part of the front that is large and only needed to look up the first inputs."""
    outer: Piece
    """The rest of the front; small, and needed whenever the model runs."""
    blocks: tuple[Piece, ...]
    """The transformer blocks in order."""
    head: Piece
    """What follows the body of the model: the head, or nothing."""

    def later(self, names: Collection[str]) -> "Pieces":
        """Return the pieces with some modules stored with the head instead of the front."""
        front = replace(self.front, outside=(*self.front.outside, *names))
        return replace(
            self, front=front, head=replace(self.head, inside=(*self.head.inside, *names))
        )

    @property
    def stored(self) -> tuple[Piece, ...]:
        """The pieces that together hold everything, in the order of work."""
        return (self.front, *self.blocks, self.head)


def cut(model: PreTrainedModel) -> Pieces:
    """Cut a model into its pieces."""
    names = {id(module): name for name, module in model.named_modules()}
    prefix, blocks = find_blocks(model)
    embedding = names[id(model.get_input_embeddings())]
    body = model.base_model
    ends = [name for name, child in model.named_children() if child is not body]
    heads = tuple(ends) if body is not model else ()
    return Pieces(
        front=Piece("front", ("",), (prefix, *heads)),
        embedding=Piece("embedding", (embedding,)),
        outer=Piece("outer", ("",), (prefix, embedding, *heads)),
        blocks=tuple(Piece(f"block-{i:04d}", (f"{prefix}.{i}",)) for i in range(len(blocks))),
        head=Piece("head", heads),
    )


class Shelf(Protocol):
    """Where the weights of pieces come from and go to."""

    def expect(self, names: Collection[str]) -> None:
        """Take note which sites will be packed: the others are wanted as they will be stored."""
        ...

    def fetch(self, piece: Piece) -> None:
        """Give a piece its weights, in float32."""
        ...

    def release(self, piece: Piece) -> None:
        """Take the weights of a piece out of memory."""
        ...

    def rest(self, piece: Piece) -> dict[str, Tensor]:
        """Return the tensors of a piece that are not packed, as they will be stored."""
        ...

    def kept(self, piece: Piece, path: Path) -> None:
        """Take note that a piece is stored in a file by now: fetch it from there."""
        ...

    def packed(self, path: Path, site: Site, layout: Format) -> PackedTensor:
        """Return a packed weight of a stored piece, to be installed."""
        ...

    def settled(self, packed: PackedTensor) -> PackedTensor:
        """Return what stays of a packed weight when its piece is released."""
        ...

    def names(self, names: list[str]) -> Mapping[str, str]:
        """Return what tensors of the model are called in files."""
        ...


def _below(name: str, roots: tuple[str, ...]) -> bool:
    return any(not root or name == root or name.startswith(f"{root}.") for root in roots)
