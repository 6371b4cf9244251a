"""The shelf of a model that is in memory as a whole: everything is where it belongs."""

from collections.abc import Collection
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from quantale.quant.packed import Format, PackedTensor
from quantale.quant.pieces import Piece
from quantale.quant.sites import Site


class Resident:
    """Fetches and releases nothing."""

    def expect(self, names: Collection[str]) -> None:
        """Do nothing."""

    def fetch(self, piece: Piece) -> None:
        """Do nothing."""

    def release(self, piece: Piece) -> None:
        """Do nothing."""

    def rest(self, piece: Piece) -> dict[str, Tensor]:
        """Return nothing: who holds the model holds the rest of it."""
        del piece
        return {}

    def kept(self, piece: Piece, path: Path) -> None:
        """Do nothing."""

    def packed(self, path: Path, site: Site, layout: Format) -> PackedTensor:
        """Return the packed weight, read from the file."""
        names = layout.tensors(site.shape)
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(f"{site.name}.{name}").clone() for name in names}
        return PackedTensor(layout, site.shape, found)

    def settled(self, packed: PackedTensor) -> PackedTensor:
        """Return it as it is."""
        return packed

    def names(self, names: list[str]) -> dict[str, str]:
        """Return the same names."""
        return {name: name for name in names}
