"""GPTQModel: quantized by its own interface, dequantized here from the file that it saves.

It cannot load a GPT-2 of its own through transformers, so the packed tensors are read from its
safetensors file. Its layout: `qweight` and `qzeros` are streams of codes, little end first, in
32-bit words, `qweight` along the inputs and `qzeros` along the outputs; a stored zero point is
one too small (the "gptq" format, version 1); `g_idx` names the group of every input.

An MLP whose width is no multiple of 32 is padded with zeros, and counts as padded.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks.peers.contract import Given, Made, peak_rss
from benchmarks.peers.linears import block_linears, cropped, load, own_layout, padded

_WORD = 32


@dataclass(frozen=True)
class Gptqmodel:
    """Settings of GPTQModel; the defaults are its own."""

    bits: int = 4
    """2, 3, 4 or 8."""
    group_size: int = 128
    """Inputs that share a scale."""
    sym: bool = True
    """Whether the grid is centred on zero; zero points are stored anyway."""
    desc_act: bool = False
    """Most active inputs first; off, it orders them inside and between whole groups."""
    batch_size: int = 8
    """Windows at once."""

    distribution = "gptqmodel"
    needs_calibration = True

    def run(self, given: Given) -> Made:
        """Quantize and save, then read the file back."""
        if given.windows is None:
            raise ValueError("gptqmodel needs token windows")
        folder = padded(given.folder, max(_WORD, self.group_size), given.scratch)
        out = given.scratch / "gptqmodel"
        seconds, peak = self._quantize(folder, given.windows, out)
        stored = load_file(out / "model.safetensors")
        linears = block_linears(load(folder))
        weights = {
            f"{name}.weight": own_layout(module, dequantize(stored, name, self.bits))
            for name, module in linears.items()
        }
        plain = {n: t.to(torch.float16).to(torch.float32) for n, t in _plain(stored).items()}
        return Made(
            cropped(weights | plain, load(given.folder)),
            seconds,
            peak,
            _file_bytes(out / "model.safetensors", stored),
            sum(t.nbytes for n, t in stored.items() if n not in plain),
        )

    def _quantize(self, folder: Path, windows: Tensor, out: Path) -> tuple[float, int]:
        os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # with fewer it refuses to start
        from gptqmodel import GPTQModel, QuantizeConfig

        config = QuantizeConfig(
            bits=self.bits, group_size=self.group_size, sym=self.sym, desc_act=self.desc_act
        )
        model: Any = GPTQModel.load(str(folder), config, dtype=torch.float32)
        data = [
            {"input_ids": row[None], "attention_mask": torch.ones_like(row[None])}
            for row in windows
        ]
        started = time.perf_counter()
        model.quantize(data, batch_size=self.batch_size)
        seconds, peak = time.perf_counter() - started, peak_rss()
        model.save(str(out))
        return seconds, peak


def dequantize(stored: dict[str, Tensor], name: str, bits: int) -> Tensor:
    """Return the (out, in) float32 weight of a layer from its packed tensors."""
    codes = unpack(stored[f"{name}.qweight"].t(), bits)  # (out, in)
    zeros = (unpack(stored[f"{name}.qzeros"], bits) + 1) & ((1 << bits) - 1)  # (groups, out)
    group = stored[f"{name}.g_idx"].long()  # (in,)
    scale = stored[f"{name}.scales"].to(torch.float32)  # (groups, out)
    return ((codes - zeros[group].t()) * scale[group].t()).contiguous()


def unpack(words: Tensor, bits: int) -> Tensor:
    """Return the codes of rows of 32-bit words: (rows, words) int32 -> (rows, codes) int64."""
    shifts = torch.arange(_WORD)
    stream = (words.long().unsqueeze(-1) >> shifts) & 1  # (rows, words, 32)
    digits = stream.reshape(len(words), -1, bits)  # (rows, codes, bits)
    return (digits << torch.arange(bits)).sum(-1)


def _plain(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what is not packed: embeddings, norms and biases."""
    parts = ("qweight", "qzeros", "scales", "g_idx")
    return {name: tensor for name, tensor in stored.items() if not name.endswith(parts)}


def _file_bytes(path: Path, stored: dict[str, Tensor]) -> int:
    """Size of the file with everything that is float32 in it at two bytes a number."""
    wide = sum(t.numel() for t in _plain(stored).values() if t.dtype == torch.float32)
    return path.stat().st_size - 2 * wide
