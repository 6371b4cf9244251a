"""Round to the nearest entry of a codebook, with the largest magnitude of a group as its scale."""

import torch
from torch import Tensor

from quantale.quant.formats.codebook import Codebook
from quantale.quant.packed import PackedTensor
from quantale.quant.rows import by_rows


def quantize_absmax(layout: Codebook, weight: Tensor) -> PackedTensor:
    """Quantize weight: (out, in) float, codes by the scale before it is stored.

    That order is bitsandbytes'; with scales of 16 or fewer bits the codes are chosen by the
    stored scale instead, so that they are the nearest ones.
    """
    return by_rows(layout, weight.detach(), lambda rows: _looked_up(layout, rows))


def _looked_up(layout: Codebook, weight: Tensor) -> PackedTensor:
    split = layout.split(weight.to(torch.float32))
    scale = split.abs().amax(-1)
    if layout.group_size == "tensor":
        scale = scale.amax().reshape(1, 1)
    chosen = scale if layout.double_quant else layout.store_of_scales.rounded(scale)
    codes = layout.codes(split, chosen)
    return layout.store(
        codes, layout.store_of_scales.store(scale), (weight.shape[0], weight.shape[1])
    )
