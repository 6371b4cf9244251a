"""Quantize a whole model in place, whatever its sites need: the one entry of this package."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.apply import Method, Report, SiteResult, needs_reference
from quantale.quant.hf import mark_quantized
from quantale.quant.linear import PackedModule
from quantale.quant.pieces import Shelf
from quantale.quant.resident import Resident
from quantale.quant.sequential import Calibration, Outcome, Task, batch_of, quantize_pieces
from quantale.quant.sites import EMBEDDING_ROLES, Site, choose, find_sites
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
    batch_size: int | None = None,
    report: Report | None = None,
) -> list[SiteResult]:
    """Quantize a model that is in memory, in place, and return what became of every site.

    windows: (samples, length) token ids for methods that calibrate. scratch: folder for hidden
    states and finished pieces; a run that is started again with it goes on where it stopped.
    Raises UsageError when nothing matches or calibration data is missing.
    """
    calibration = None
    if windows is not None:
        calibration = Calibration(windows, batch_size or batch_of(windows.shape[1]))
    made = quantize_from(Resident(), model, methods, calibration, scratch=scratch, report=report)
    return made.results


def quantize_from(
    shelf: Shelf,
    model: PreTrainedModel,
    methods: Methods,
    calibration: Calibration | None,
    *,
    scratch: Path | None = None,
    proof: Tensor | None = None,
    report: Report | None = None,
) -> Outcome:
    """Quantize a model whose weights are on a shelf; see `quantize_model`.

    proof: token ids (n, length) whose logits the outcome has a digest of. A shelf that empties
    modules needs a scratch folder to put the finished ones.
    """
    if any(isinstance(module, PackedModule) for module in model.modules()):
        raise UsageError(
            "no linear layer of a transformer block matches: the model is quantized already; "
            "give the original"
        )
    sites = find_sites(model)
    plan = _plan(sites, methods)
    shelf.expect(plan)
    calibrated = any(method.needs_calibration for method in plan.values())
    if calibrated and calibration is None:
        raise UsageError(f"{plugin_name(methods.linear)} needs calibration data; none was given")
    if calibration is not None:
        reference = any(map(needs_reference, plan.values()))
        calibration = replace(calibration, reference=reference) if calibrated else None
    model.eval()
    with _scratch(scratch, calibration) as folder:
        task = Task(plan, sites, calibration, proof, folder)
        outcome = quantize_pieces(model, task, shelf, report)
    mark_quantized(model, [_stored(result) for result in outcome.results])
    return outcome


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
def _scratch(folder: Path | None, calibration: Calibration | None) -> Iterator[Path | None]:
    """Hand out the folder that was given, or a temporary one when something must be written."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            yield folder
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
    elif calibration is None:
        yield None
    else:
        with tempfile.TemporaryDirectory(prefix="quantale-") as temporary:
            yield Path(temporary)


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
