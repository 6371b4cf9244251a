"""Pack chosen sites of a model without calibration, and make the model that they must equal."""

import copy
from collections.abc import Iterable

import torch
from plugin_cases import drawn, method_cases
from tiny_models import tiny_classifier, tiny_family
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.quant.apply import Method, SiteResult, quantize_site
from quantale.quant.hf import mark_quantized
from quantale.quant.methods.rtn import Rtn
from quantale.quant.sites import EMBEDDING_ROLES, LINEAR_ROLES, find_sites
from quantale.quant.stored import StoredSite

ENDS = (*LINEAR_ROLES, *EMBEDDING_ROLES, "head")
EVERYTHING = (*ENDS, "other", "norm")


def tiny(name: str) -> PreTrainedModel:
    """Return a tiny model: a family's name, or "FAMILY classifier"."""
    family, _, kind = name.partition(" ")
    return tiny_classifier(family) if kind else tiny_family(family)


def pack(
    model: PreTrainedModel, roles: Iterable[str] = LINEAR_ROLES, method: Method | None = None
) -> list[SiteResult]:
    """Quantize all sites of some roles in place, the last norm left out."""
    wanted, sites = set(roles), find_sites(model)
    last = [site for site in sites if site.role == "norm"][-1]
    method = Rtn(4, 16) if method is None else method
    chosen = [site for site in sites if site.role in wanted and site is not last]
    results = [quantize_site(model, site, method, None) for site in chosen]
    mark_quantized(model, [_stored(result) for result in results])
    return results


def gpt2_of_8_bits(path: str) -> PreTrainedModel:
    """Return a tiny GPT-2 whose linear layers every 8-bit kernel reads; a loader of timings."""
    del path
    model = tiny_family("GPT2")
    pack(model, method=Rtn(8, "row", symmetric=True))
    return model


def _stored(result: SiteResult) -> StoredSite:
    site, layout = result.site, result.packed.format
    return StoredSite(
        site.name, site.role, result.method, site.shape, layout, result.bias, site.tied
    )


def dequantized(model: PreTrainedModel, results: list[SiteResult]) -> PreTrainedModel:
    """Return a copy of the original with the weights that the packed ones stand for."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for result in results:
            module = twin.get_submodule(result.site.name)
            values = result.packed.dequantize()
            weight = module.get_parameter("weight")
            weight.copy_(values.t() if isinstance(module, Conv1D) else values.view(weight.shape))
    return twin


def methods_by_format() -> dict[str, Method]:
    """One method that needs no calibration for each kind of format."""
    found: dict[str, Method] = {}
    for _, method in method_cases():
        if not method.needs_calibration:
            layout = method.quantize(drawn(4, 16)).format
            found.setdefault(type(layout).__name__, method)
    return found
