"""What quantizing a variant will need: tried on one block of the model."""

import time
from typing import Any

import torch

from quantale.core.errors import UsageError
from quantale.core.recipe import Recipe
from quantale.core.recipe_variants import VariantSection
from quantale.models.blocks import find_blocks
from quantale.quant.whole import quantize_model
from quantale.stages.planned_model import PlannedModel
from quantale.stages.variants import make_methods

_WORK = 5e12
"""Floating-point operations of calibrating one block that a plan may spend, about."""
_SAMPLES = 4
"""Calibration windows that are tried; further ones are counted in forward passes."""
_PASSES = 3
"""Forward passes a window: to gather inputs, to gather their squares, and to go on."""
_RULE_BITS = 8
"""Bits that are assumed where rules alone decide and no single block can stand for all."""


def predict_quantizing(
    recipe: Recipe, variant: VariantSection, model: PlannedModel, process: int
) -> dict[str, Any]:
    """Return memory, time and disk of one variant; time is None where one block is too much."""
    tried = _try_one_block(recipe, variant, model)
    if tried is None:
        bits = variant.bits or _RULE_BITS
        disk, seconds = int(model.parameters * (bits + 1) / 8), None
    else:
        disk, seconds = tried
    return {
        "stage": f"quantize/{variant.name}",
        "method": variant.method or "rules",
        "basis": "one block" if tried is not None else "bits alone",
        "seconds": seconds,
        "peak_memory_bytes": process + _peak(model),
        "disk_bytes": disk,
    }


def _try_one_block(
    recipe: Recipe, variant: VariantSection, model: PlannedModel
) -> tuple[int, float] | None:
    """Return bytes and seconds of the whole model, from one of a single block."""
    methods, calibration = make_methods(variant), recipe.calibration
    context = int(model.config.max_position_embeddings)
    length = min(calibration.length or context, context, 2048)
    small = model.build(1).eval()
    block = find_blocks(small)[1][0]
    weights = sum(p.numel() for p in block.parameters())
    windows, more = None, 0.0
    if methods.needs_calibration:
        tried = min(calibration.samples, _SAMPLES)
        if 4 * weights * tried * length > _WORK:
            return None
        windows = torch.randint(model.config.vocab_size, (tried, length))
        more = (calibration.samples - tried) * _PASSES * _forward_seconds(small, windows[:1])
    started = time.perf_counter()
    try:
        quantize_model(small, methods, windows)
    except UsageError:
        return None  # a rule that names another block
    seconds = time.perf_counter() - started + more
    one, all_of_it = _bytes(find_blocks(small)[1][0]), _bytes(small)
    return all_of_it + (model.layers - 1) * one, seconds * model.layers


@torch.no_grad()
def _forward_seconds(model: Any, window: torch.Tensor) -> float:
    model(input_ids=window)
    started = time.perf_counter()
    model(input_ids=window)
    return time.perf_counter() - started


def _bytes(module: Any) -> int:
    """Return the bytes of all tensors, shared ones once."""
    tensors = [*module.parameters(), *module.buffers()]
    return sum({t.data_ptr(): t.nbytes for t in tensors}.values())


def _peak(model: PlannedModel) -> int:
    """Return an upper bound: embeddings and two blocks in fp32, and a Hessian with its factors."""
    with torch.device("meta"):
        built = model.build(2)
    widest = max((p.shape[0] for p in built.parameters()), default=0)
    widest = min(widest, 4 * int(model.config.hidden_size))
    return sum(p.nbytes for p in built.parameters()) + 3 * 4 * widest**2
