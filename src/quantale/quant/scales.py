"""How the scales of a format are stored: as floats, or themselves quantized to 8 bits.

Double quantization is that of QLoRA (Dettmers et al., arXiv 2305.14314, section 3): the mean of
all scales is taken away, and blocks of 256 of what remains are quantized to the 8-bit dynamic
map of Dettmers et al., arXiv 2110.02861, section 2.1. The stored numbers are those that
bitsandbytes computes.

Stored tensors of scales of shape (rows, groups):
  scale         (rows, groups) in the scale dtype; uint8 codes when double-quantized
  scale_absmax  (ceil(rows * groups / 256),) float32, only when double-quantized
  scale_mean    (1,) float32, only when double-quantized
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from quantale.core.errors import NumericalError, UsageError

DTYPES: Final = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}
BLOCK: Final = 256
"""Scales that share one second-level scale."""

Announced = dict[str, tuple[tuple[int, ...], torch.dtype]]


@dataclass(frozen=True)
class ScaleStore:
    """The way in which scales are stored."""

    dtype: str
    """"float16", "bfloat16" or "float32"; of no effect when double-quantized."""
    double: bool = False
    """Whether scales are quantized to 8 bits a second time."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"scale_dtype {self.dtype!r} is none of {', '.join(DTYPES)}")

    def tensors(self, shape: tuple[int, int]) -> Announced:
        """Return the shape and dtype of every tensor that scales of this shape take."""
        if not self.double:
            return {"scale": (shape, DTYPES[self.dtype])}
        blocks = -(-shape[0] * shape[1] // BLOCK)
        return {
            "scale": (shape, torch.uint8),
            "scale_absmax": ((blocks,), torch.float32),
            "scale_mean": ((1,), torch.float32),
        }

    def store(self, scale: Tensor) -> dict[str, Tensor]:
        """Return the tensors that hold (rows, groups) float32 scales.

        Raises NumericalError when a scale overflows the stored dtype.
        """
        if self.double:
            return _store_twice(scale)
        stored = scale.to(DTYPES[self.dtype])
        if not torch.isfinite(stored).all():
            raise NumericalError(
                f"a scale of {float(scale.abs().max()):.3g} does not fit {self.dtype}; "
                "set scale_dtype to float32"
            )
        return {"scale": stored}

    def read(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return the (rows, groups) float32 scales that the tensors hold."""
        stored = tensors["scale"]
        if not self.double:
            return stored.to(torch.float32)
        step = tensors["scale_absmax"].repeat_interleave(BLOCK)[: stored.numel()]
        values = dynamic_map().to(stored.device)[stored.reshape(-1).to(torch.int64)]
        return (values * step + tensors["scale_mean"]).reshape(stored.shape)

    def rounded(self, scale: Tensor) -> Tensor:
        """Return (rows, groups) scales as they come back after storing, float32."""
        return self.read(self.store(scale))


def _store_twice(scale: Tensor) -> dict[str, Tensor]:
    mean = scale.mean()
    if not torch.isfinite(mean):
        raise NumericalError("the scales are too large to be quantized a second time")
    flat = (scale - mean).reshape(-1)
    padded = functional.pad(flat, (0, -flat.numel() % BLOCK)).reshape(-1, BLOCK)
    absmax = padded.abs().amax(-1)
    unit = padded / torch.where(absmax > 0, absmax, 1.0).unsqueeze(-1)
    codes = nearest(dynamic_map().to(unit.device), unit).reshape(-1)[: flat.numel()]
    return {
        "scale": codes.reshape(scale.shape).to(torch.uint8),
        "scale_absmax": absmax,
        "scale_mean": mean.reshape(1),
    }


def nearest(table: Tensor, values: Tensor) -> Tensor:
    """Return the index (int64) of the nearest entry of a sorted table for every value."""
    middles = (table[1:] + table[:-1]) / 2
    return torch.bucketize(values.contiguous(), middles)


def dynamic_map() -> Tensor:
    """Return the 256 sorted values in (-1, 1] of the signed 8-bit dynamic map, float32.

    Decade 10^(i - 6), i from 0 to 6, holds 2^i values of either sign: the middles of equal
    parts of [0.1, 1], computed in float32 as bitsandbytes does. Zero and one are added.
    """
    found = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        borders = torch.linspace(0.1, 1, (1 << decade) + 1, dtype=torch.float32)
        middles = 10.0 ** (decade - 6) * ((borders[:-1] + borders[1:]) / 2)
        found += [middles, -middles]
    return torch.cat(found).sort().values
