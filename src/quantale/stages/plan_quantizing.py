"""What quantizing a variant will need: tried on one block of the model."""

import time
from typing import Any

import torch

from quantale.core.errors import UsageError
from quantale.core.recipe import Recipe
from quantale.core.recipe_variants import VariantSection
from quantale.evaluation.windows import named_context
from quantale.models.blocks import find_blocks
from quantale.models.sizes import file_bytes
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.plan_work import packed_tensors, stored_dtype
from quantale.stages.planned_model import PlannedModel
from quantale.stages.variants import make_methods

_WORK = 5e12
"""Floating-point operations of calibrating one block that a plan may spend, about."""
_SAMPLES = 4
"""Calibration windows that are tried; further ones are counted in forward passes."""
_PASSES = 3
"""Forward passes a window: to gather inputs, to gather their squares, and to go on."""
_LARGEST = 3e8
"""Parameters of one block with embeddings and head that are built to be tried."""


def predict_quantizing(
    recipe: Recipe, variant: VariantSection, model: PlannedModel, process: int, limit: int
) -> dict[str, Any]:
    """Return memory, time and disk of one variant; time is None where one block is too much.

    Quantizing happens in the memory of the process, on the CPU.
    """
    methods = make_methods(variant)
    seconds = _try_one_block(recipe, methods, model)
    peak = process + _peak(model)
    return {
        "stage": f"quantize/{variant.name}",
        "method": variant.method or "rules",
        "basis": "formats" if seconds is None else "one block",
        "seconds": seconds,
        "device": "cpu",
        "peak_memory_bytes": peak,
        "fits": peak <= limit,
        "disk_bytes": file_bytes(packed_tensors(model, methods, stored_dtype(model, variant))),
    }


def _try_one_block(recipe: Recipe, methods: Methods, model: PlannedModel) -> float | None:
    """Return the seconds of the whole model, from those of a single block."""
    calibration = recipe.calibration
    context = named_context(model.config)
    length = min(calibration.length or context, context, 2048)
    if model.block_parameters > _LARGEST:
        return None
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
    return (time.perf_counter() - started + more) * model.layers


@torch.no_grad()
def _forward_seconds(model: Any, window: torch.Tensor) -> float:
    model(input_ids=window)
    started = time.perf_counter()
    model(input_ids=window)
    return time.perf_counter() - started


def _peak(model: PlannedModel) -> int:
    """Return an upper bound: embeddings and two blocks in fp32, and a Hessian with its factors."""
    with torch.device("meta"):
        built = model.build(2)
    widest = max((p.shape[0] for p in built.parameters()), default=0)
    widest = min(widest, 4 * int(model.config.hidden_size))
    return sum(p.nbytes for p in built.parameters()) + 3 * 4 * widest**2
