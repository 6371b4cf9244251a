"""The shelf of a model whose weights stay in files: one piece of it is in memory at a time.

Full-precision weights come in float32, so that hidden states are computed in it; what stays in full
precision is stored in the model's own dtype or the one that was asked for, and is rounded to it
before anything is computed with it.
"""

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core import heap
from quantale.models.checkpoint import Checkpoint
from quantale.quant.hf import names_in_files, names_in_memory
from quantale.quant.linear import PackedModule
from quantale.quant.packed import Format, PackedTensor
from quantale.quant.pieces import Piece
from quantale.quant.sites import Site


class Streamed:
    """Fills the modules of a piece from files, and empties them again."""

    def __init__(
        self, model: PreTrainedModel, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32
    ) -> None:
        self._model, self._dtype = model, dtype
        self._tied = dict(model.all_tied_weights_keys)
        self._empty = dict(model.named_parameters(remove_duplicate=False))
        self._places = {
            inside: (checkpoint, name) for inside, name in places(model, checkpoint).items()
        }
        self._expected: frozenset[str] = frozenset()

    def expect(self, names: Collection[str]) -> None:
        """Take note which sites will be packed, and so need no rounding before."""
        self._expected = frozenset(names)

    def fetch(self, piece: Piece) -> None:
        """Read what is missing in the modules of a piece."""
        for owner, module in piece.modules(self._model):
            for key, tensor in _stored(module):
                if tensor.is_meta:
                    self._put(owner, module, key)

    def release(self, piece: Piece) -> None:
        """Empty the modules of a piece; tied parameters stay one and the same."""
        for owner, module in piece.modules(self._model):
            for key, tensor in _stored(module):
                empty = torch.empty_like(tensor, device="meta")
                if key in module._buffers:
                    module._buffers[key] = empty
                    continue
                first = self._empty.get(_dotted(owner, key))
                usable = first is not None and first.shape == tensor.shape
                module._parameters[key] = first if usable else _parameter(empty)
        heap.trim()

    def rest(self, piece: Piece) -> dict[str, Tensor]:
        """Read the tensors of a piece that are not packed, as they will be stored."""
        found = {}
        for owner, module in piece.modules(self._model):
            for key, tensor in _stored(module):
                name = _dotted(owner, key)
                packed = isinstance(module, PackedModule) and key in module._buffers
                if not packed and name not in self._tied:
                    found[name] = self._read(name, self._dtype if _is_real(tensor) else None)
        return found

    def kept(self, piece: Piece, path: Path) -> None:
        """Read a piece from this file from now on."""
        del piece
        if path.is_file():
            checkpoint = Checkpoint([path])
            names = names_in_memory(self._model, checkpoint)
            self._places |= {names[name]: (checkpoint, name) for name in checkpoint}

    def packed(self, path: Path, site: Site, layout: Format) -> PackedTensor:
        """Return the packed weight without its content, which `fetch` reads."""
        del path
        announced = layout.tensors(site.shape).items()
        tensors = {n: torch.empty(s, dtype=d, device="meta") for n, (s, d) in announced}
        return PackedTensor(layout, site.shape, tensors)

    def settled(self, packed: PackedTensor) -> PackedTensor:
        """Return a packed weight without its content."""
        tensors = {n: torch.empty_like(t, device="meta") for n, t in packed.tensors.items()}
        return PackedTensor(packed.format, packed.shape, tensors)

    def names(self, names: list[str]) -> dict[str, str]:
        """Return what tensors of the model are called in files."""
        return names_in_files(self._model, names)

    def _put(self, owner: str, module: nn.Module, key: str) -> None:
        name = _dotted(owner, key)
        if key in module._buffers:
            real = _is_real(module.get_buffer(key)) and not isinstance(module, PackedModule)
            module._buffers[key] = self._read(name, torch.float32 if real else None)
            return
        rounded = owner not in self._expected or key != "weight"
        module._parameters[key] = _parameter(self._computed(name, rounded=rounded))

    def _computed(self, name: str, *, rounded: bool) -> Tensor:
        """Return a weight in float32, with `rounded` as it comes back after storing."""
        checkpoint, stored = self._places[self._tied.get(name, name)]
        kind = checkpoint.dtype(stored)
        if not rounded or torch.promote_types(kind, self._dtype) == self._dtype:
            return self._read(name, torch.float32)
        return self._read(name, self._dtype).to(torch.float32)

    def _read(self, name: str, dtype: torch.dtype | None) -> Tensor:
        checkpoint, stored = self._places[self._tied.get(name, name)]
        return checkpoint.read(stored, dtype)


def places(model: PreTrainedModel, stored: Iterable[str]) -> dict[str, str]:
    """Return the stored name of every tensor that the model needs, as far as there is one.

    A file may hold the body of the model alone under names without its prefix.
    """
    wanted = needed(model)
    prefix = model.base_model_prefix
    found = {}
    for name, inside in names_in_memory(model, stored).items():
        full = inside if inside in wanted else f"{prefix}.{inside}"
        if full in wanted:
            found[full] = name
    return found


def needed(model: PreTrainedModel) -> set[str]:
    """Return the names of all tensors that a file of this model holds, tied ones once."""
    return set(model.state_dict()) - set(model.all_tied_weights_keys)


def fits(model: PreTrainedModel, checkpoint: Checkpoint) -> bool:
    """Say whether each tensor of the file is one of the model, by name and shape, and none lacks.

    Otherwise transformers has to convert while it loads, which needs the whole model.
    """
    found = places(model, checkpoint)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    spare = set(checkpoint) - set(found.values())
    tied = set(names_in_files(model, model.all_tied_weights_keys))
    return (
        set(found) == needed(model)
        and spare <= tied
        and all(checkpoint.shape(stored) == shapes[name] for name, stored in found.items())
    )


def _stored(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and stored buffers of a module itself."""
    yield from ((key, p) for key, p in list(module._parameters.items()) if p is not None)
    hidden = module._non_persistent_buffers_set
    for key, buffer in list(module._buffers.items()):
        if buffer is not None and key not in hidden:
            yield key, buffer


def _parameter(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value, requires_grad=False)


def _is_real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _dotted(owner: str, key: str) -> str:
    return f"{owner}.{key}" if owner else key
