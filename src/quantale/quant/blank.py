"""A model with packed layers whose codes are blank: of the right shapes, without being quantized.

What a packed model takes in memory and on disk, and how long a pass through it takes, does not
depend on its numbers. Formats are asked of the methods, on a weight of a few numbers.
"""

import torch
from transformers import PreTrainedModel

from quantale.quant.apply import Method
from quantale.quant.calibration import LayerStats
from quantale.quant.hf import mark_quantized, swap
from quantale.quant.packed import Format
from quantale.quant.stored import StoredSite, plugin_name
from quantale.quant.whole import Methods, plan_model

_WIDTH = 64
"""Columns of the weight that tells a format."""


def pack_blank(model: PreTrainedModel, methods: Methods) -> list[StoredSite]:
    """Put empty packed modules, on the device "meta", where methods quantize; returns the sites.

    Raises UsageError as `plan_model` does.
    """
    sites, plan = plan_model(model, methods)
    stored = [
        StoredSite(
            site.name,
            site.role,
            plugin_name(plan[site.name]),
            site.shape,
            format_of(plan[site.name]),
            site.bias(model) is not None,
            site.tied,
        )
        for site in sites
        if site.name in plan
    ]
    for site in stored:
        swap(model, site)
    mark_quantized(model, stored)
    return stored


def format_of(method: Method) -> Format:
    """Return the format in which a method stores a weight."""
    with torch.device("cpu"), torch.random.fork_rng(devices=[]):
        weight = torch.randn(2, _WIDTH, generator=torch.Generator().manual_seed(0))
        return method.quantize(weight, _statistics() if method.needs_calibration else None).format


def _statistics() -> LayerStats:
    stats, generator = LayerStats(_WIDTH), torch.Generator().manual_seed(1)
    inputs = torch.randn(4 * _WIDTH, _WIDTH, generator=generator)
    stats.add(inputs, inputs)
    return stats
