"""GGUF files of GPT-2 and Llama, read without llama.cpp; docs/gguf.md of the ggml project.

Q8_0 becomes an affine weight of 8 bits; Q4_0, Q5_0 and TQ2_0, whose float16 scales may be negative,
become codebooks of whole numbers: the same numbers in the same bits. F32, F16 and BF16 are plain,
and all other types are turned into plain numbers by the optional package gguf. Rows of Llama's q
and k are put back into transformers' order, scales along with them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from quantale.core.errors import EnvironmentLackingError, ModelFileError
from quantale.models.foreign import Foreign, gguf_file
from quantale.models.gguf_header import GgufFile, read_gguf
from quantale.models.gguf_names import config_from, layout_of
from quantale.models.gguf_tokenizer import rebuilt
from quantale.models.load import LOADING_ERRORS, first_line, load_tokenizer
from quantale.models.skeleton import empty_model
from quantale.quant.foreign import Contents, build, named
from quantale.quant.formats.affine import Affine, Grid
from quantale.quant.formats.codebook import Codebook
from quantale.quant.packed import PackedTensor
from quantale.quant.sites import list_sites

_PLAIN: Final = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class Gguf:
    """Reads one GGUF file."""

    def load(self, source: Path, dtype: torch.dtype | None) -> Foreign:
        """Build the model of a file, and the tokenizer that it holds or that lies beside it."""
        path = gguf_file(source)
        contents = named(path, lambda: _contents(read_gguf(path)))
        return Foreign(build(contents, path, dtype), _tokenizer(path), contents.note())

    def sizes(self, source: Path) -> Mapping[str, int]:
        """Return the stored bytes by parameter; everything else counts as the header."""
        path = gguf_file(source)
        header = read_gguf(path)
        config = _config(header)
        names = [name for name, _ in empty_model(config).named_parameters()]
        found = {name: header.tensors[layout_of(name, config).name].nbytes for name in names}
        found[f"{path.name} header"] = path.stat().st_size - sum(found.values())
        return found


def _config(header: GgufFile) -> Any:
    kind = header.values.get("general.architecture")
    if "token_embd.weight" not in header.tensors:
        raise ModelFileError(f"{header.path}: has no token_embd.weight; it is no language model")
    rows = header.tensors["token_embd.weight"].shape[0]
    try:
        config = config_from(header.values, rows, tied="output.weight" not in header.tensors)
    except KeyError as error:
        raise ModelFileError(
            f"{header.path}: architecture {kind!r} without or with an unknown {error}; gpt2 and "
            "llama are read"
        ) from error
    except LOADING_ERRORS as error:
        raise ModelFileError(f"{header.path}: {first_line(error)}") from error
    blocks = config.num_hidden_layers
    if type(blocks) is not int or not 0 < blocks <= len(header.tensors):
        raise ModelFileError(f"{header.path}: block_count {blocks!r} for {len(header.tensors)}")
    return config


def _contents(header: GgufFile) -> Contents:
    config = _config(header)
    contents = Contents("gguf", config)
    model = empty_model(config)
    sites = {site.name for site in list_sites(model) if site.role != "norm"}
    left = dict(header.tensors)
    for name, parameter in model.named_parameters():
        layout = layout_of(name, config)
        entry = left.pop(layout.name, None)
        if entry is None:
            raise ModelFileError(f"lacks tensor {layout.name}")
        turned = layout.there(torch.empty(parameter.shape, device="meta"))
        if entry.shape != tuple(turned.shape):
            raise ModelFileError(f"tensor {layout.name} has shape {entry.shape}")
        owner, _, part = name.rpartition(".")
        take = _TAKEN.get(entry.kind)
        packed = None
        if take is not None and part == "weight" and owner in sites:
            packed = take(header.raw(layout.name), (entry.shape[0], entry.shape[1]), layout.rows)
        if packed is not None:
            contents.packed[owner] = packed
            continue
        contents.plain[name] = layout.back(_values(header, layout.name)).contiguous()
        if entry.kind not in _PLAIN:
            contents.unpacked[owner] = f"{entry.kind} is none of our formats"
    _check_rest(left)
    return contents


def _check_rest(left: Mapping[str, Any]) -> None:
    if left:
        raise ModelFileError(f"tensor {min(left)} is nothing that this family has")


def _values(header: GgufFile, name: str) -> Tensor:
    """Return the float32 numbers of a tensor."""
    entry, data = header.tensors[name], header.raw(name)
    if entry.kind in _PLAIN:
        plain = torch.from_numpy(data.reshape(-1)).view(_PLAIN[entry.kind])
        return plain.to(torch.float32).reshape(entry.shape)
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError as error:
        raise EnvironmentLackingError(
            f"type {entry.kind} needs the package gguf: pip install 'quantale[export]'"
        ) from error
    try:
        values = dequantize(data, GGMLQuantizationType[entry.kind])
    except NotImplementedError as error:
        raise ModelFileError(f"type {entry.kind} is not known to gguf-py: {error}") from error
    return torch.from_numpy(np.array(values, dtype=np.float32)).reshape(entry.shape)


Rows = Callable[[Tensor], Tensor]


def _q8_0(raw: np.ndarray, shape: tuple[int, int], rows: Rows) -> PackedTensor | None:
    blocks = raw.reshape(shape[0], -1, 34)
    scale, codes = _scale(blocks[..., :2]), blocks[..., 2:].view(np.int8).astype(np.int16) + 128
    if bool((scale < 0).any()):
        return None
    layout = Affine(bits=8, group_size=32, symmetric=True)
    grid = Grid(rows(scale), torch.full_like(scale, 128.0), 255, {"scale": rows(scale).half()})
    return layout.store(rows(torch.from_numpy(codes)), grid, shape)


def _q4_0(raw: np.ndarray, shape: tuple[int, int], rows: Rows) -> PackedTensor | None:
    blocks = raw.reshape(shape[0], -1, 18)
    codes = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], axis=-1)
    return _codebook(codes, blocks[..., :2], range(-8, 8), shape, rows)


def _q5_0(raw: np.ndarray, shape: tuple[int, int], rows: Rows) -> PackedTensor | None:
    blocks = raw.reshape(shape[0], -1, 22)
    high = np.unpackbits(blocks[..., 2:6], axis=-1, bitorder="little")
    low = np.concatenate([blocks[..., 6:] & 15, blocks[..., 6:] >> 4], axis=-1)
    return _codebook(low | (high << 4), blocks[..., :2], range(-16, 16), shape, rows)


def _tq2_0(raw: np.ndarray, shape: tuple[int, int], rows: Rows) -> PackedTensor | None:
    blocks = raw.reshape(shape[0], -1, 66)
    quarters = blocks[..., :64].reshape(*blocks.shape[:2], 2, 1, 32)
    codes = (quarters >> np.array([0, 2, 4, 6], dtype=np.uint8)[:, None]) & 3
    codes = codes.reshape(*blocks.shape[:2], 256)
    return _codebook(codes, blocks[..., 64:], range(-1, 3), shape, rows)


def _codebook(
    codes: np.ndarray, scale: np.ndarray, units: range, shape: tuple[int, int], rows: Rows
) -> PackedTensor:
    layout = Codebook(tuple(map(float, units)), codes.shape[-1], "float16")
    scales = {"scale": rows(_scale(scale)).half()}
    return layout.store(rows(torch.from_numpy(codes)), scales, shape)


def _scale(raw: np.ndarray) -> Tensor:
    """Return (rows, blocks) scales of two bytes each as float32."""
    stored = np.ascontiguousarray(raw).view(np.float16)[..., 0]
    return torch.from_numpy(stored.astype(np.float32))


_TAKEN: Final[dict[str, Callable[[np.ndarray, tuple[int, int], Rows], PackedTensor | None]]] = {
    "Q8_0": _q8_0,
    "Q4_0": _q4_0,
    "Q5_0": _q5_0,
    "TQ2_0": _tq2_0,
}


def _tokenizer(path: Path) -> Any:
    """Return the tokenizer beside the file, else the one inside, else None."""
    beside = load_tokenizer(path.parent)
    if beside is not None:
        return beside
    return rebuilt(read_gguf(path).values, path)
