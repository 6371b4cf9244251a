"""Quantize a whole model in place, whatever its sites need: the one entry of this package."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.apply import (
    Method,
    Report,
    SiteResult,
    needs_reference,
    quantize_embeddings,
    quantize_head,
    quantize_site,
)
from quantale.quant.hf import mark_quantized
from quantale.quant.linear import PackedModule
from quantale.quant.sequential import Calibration, quantize_blocks
from quantale.quant.sites import EMBEDDING_ROLES, LINEAR_ROLES, Site, choose, find_sites
from quantale.quant.stored import StoredSite, plugin_name


@dataclass(frozen=True)
class Methods:
    """Which method each kind of site gets; None leaves it in full precision."""

    linear: Method
    """Linear layers of the blocks."""
    embedding: Method | None = None
    """Embeddings and positions; also a head that is tied to them."""
    head: Method | None = None
    """An untied head."""

    @property
    def needs_calibration(self) -> bool:
        """Whether any of them reads calibration data."""
        chosen = (self.linear, self.embedding, self.head)
        return any(method.needs_calibration for method in chosen if method is not None)


def quantize_model(
    model: PreTrainedModel,
    methods: Methods,
    windows: Tensor | None = None,
    *,
    scratch: Path | None = None,
    batch_size: int = 8,
    report: Report | None = None,
) -> list[SiteResult]:
    """Quantize in place and return what became of every site.

    windows: (samples, length) token ids for methods that calibrate. scratch: folder for hidden
    states and finished blocks; a run that is started again with it goes on where it stopped.
    Raises UsageError when nothing matches or calibration data is missing.
    """
    if any(isinstance(module, PackedModule) for module in model.modules()):
        raise UsageError(
            "no linear layer of a transformer block matches: the model is quantized already; "
            "give the original"
        )
    sites = find_sites(model)
    plan = _plan(sites, methods)
    results: list[SiteResult] = []

    def keep(result: SiteResult) -> None:
        results.append(result)
        if report is not None:
            report(result)

    model.eval()
    quantize_embeddings(model, plan, sites, keep)
    if not any(method.needs_calibration for method in plan.values()):
        _quantize_rest(model, plan, sites, None, keep)
    elif windows is None:
        raise UsageError(f"{plugin_name(methods.linear)} needs calibration data; none was given")
    else:
        with _scratch(scratch) as folder:
            reference = any(map(needs_reference, plan.values()))
            calibration = Calibration(windows, batch_size, folder, reference)
            _quantize_rest(model, plan, sites, calibration, keep)
    mark_quantized(model, [_stored(result) for result in results])
    return results


def _plan(sites: list[Site], methods: Methods) -> dict[str, Method]:
    """Return the method of every site that gets one."""
    ends = methods.embedding or methods.head
    chosen = choose(sites, embedding=methods.embedding is not None, head=methods.head is not None)
    plan: dict[str, Method] = {}
    for site in chosen:
        method: Method | None = methods.linear
        if site.role in EMBEDDING_ROLES:
            method = ends
        elif site.role == "head":
            method = methods.head
        if method is not None:
            plan[site.name] = method
    return plan


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
        return
    with tempfile.TemporaryDirectory(prefix="quantale-") as temporary:
        yield Path(temporary)


def _quantize_rest(
    model: PreTrainedModel,
    plan: Mapping[str, Method],
    sites: list[Site],
    calibration: Calibration | None,
    keep: Report,
) -> None:
    """Quantize blocks and head; methods that need no data never run the model."""
    linear = [s for s in sites if s.name in plan and s.role in LINEAR_ROLES]
    heads = [s for s in sites if s.name in plan and s.role == "head"]
    if calibration is None:
        for site in [*linear, *heads]:
            keep(quantize_site(model, site, plan[site.name], None))
        return
    quantize_blocks(model, plan, linear, calibration, keep)
    batches = [calibration.windows[pick] for pick in calibration.picks()]
    for site in heads:
        quantize_head(model, site, plan[site.name], batches, keep)


def _stored(result: SiteResult) -> StoredSite:
    site = result.site
    return StoredSite(
        site.name,
        site.role,
        result.method,
        site.shape,
        result.packed.format,
        result.bias,
        site.tied,
    )
