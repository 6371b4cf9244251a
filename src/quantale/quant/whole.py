"""Quantize a whole model in place, whatever its sites need: the one entry of this package."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks
from quantale.quant.apply import (
    Method,
    Report,
    SiteResult,
    needs_reference,
    quantize_head,
    quantize_site,
)
from quantale.quant.cast import cast_rest
from quantale.quant.hf import mark_quantized
from quantale.quant.linear import PackedModule
from quantale.quant.rules import Rule
from quantale.quant.rules import plan as plan_rules
from quantale.quant.sequential import Calibration, quantize_blocks
from quantale.quant.sites import (
    EMBEDDING_ROLES,
    LINEAR_ROLES,
    Site,
    choose,
    find_sites,
    is_linear,
)
from quantale.quant.stored import StoredSite, plugin_name


@dataclass(frozen=True)
class Methods:
    """Which method each kind of site gets; None leaves it in full precision."""

    linear: Method | None
    """Linear layers of the blocks."""
    embedding: Method | None = None
    """Embeddings and positions; also a head that is tied to them."""
    head: Method | None = None
    """An untied head, and a classifier's."""
    rules: tuple[Rule, ...] = ()
    """Come before the three."""

    @property
    def needs_calibration(self) -> bool:
        """Whether any of them reads calibration data."""
        return self.calibrating is not None

    @property
    def calibrating(self) -> str | None:
        """The plug-in name of the first one that reads calibration data."""
        chosen = [rule.method for rule in self.rules] + [self.linear, self.embedding, self.head]
        found = (plugin_name(m) for m in chosen if m is not None and m.needs_calibration)
        return next(found, None)


def quantize_model(
    model: PreTrainedModel,
    methods: Methods | Sequence[Rule],
    windows: Tensor | None = None,
    *,
    scratch: Path | None = None,
    batch_size: int = 8,
    report: Report | None = None,
    dtype: torch.dtype | None = None,
) -> list[SiteResult]:
    """Quantize in place and return what became of every site.

    windows: (samples, length) token ids for methods that calibrate. scratch: folder for hidden
    states and finished blocks; a run that is started again with it goes on where it stopped.
    dtype: of what stays in full precision, which is cast at the end; None leaves it.
    Raises UsageError when nothing matches or calibration data is missing.
    """
    methods = methods if isinstance(methods, Methods) else Methods(None, rules=tuple(methods))
    sites, plan = plan_model(model, methods)
    results: list[SiteResult] = []

    def keep(result: SiteResult) -> None:
        results.append(result)
        if report is not None:
            report(result)

    model.eval()
    if not any(method.needs_calibration for method in plan.values()):
        _quantize_each(model, plan, sites, keep)
    elif windows is None:
        raise UsageError(f"{methods.calibrating} needs calibration data; none was given")
    else:
        with _scratch(scratch) as folder:
            reference = any(map(needs_reference, plan.values()))
            calibration = Calibration(windows, batch_size, folder, reference)
            _quantize_calibrated(model, plan, sites, calibration, keep)
    if dtype is not None:
        cast_rest(model, dtype)
    mark_quantized(model, [_stored(result) for result in results])
    return results


def plan_model(model: PreTrainedModel, methods: Methods) -> tuple[list[Site], dict[str, Method]]:
    """Return the sites of a model, and the method of every one that gets one.

    Raises UsageError for a rule that decides nothing, for a model without a matching site, for one
    that is quantized already and for a calibrating method where no linear layer is.
    """
    if any(isinstance(module, PackedModule) for module in model.modules()):
        raise UsageError(
            "no linear layer of a transformer block matches: the model is quantized already; "
            "give the original"
        )
    sites = find_sites(model)
    plan = plan_rules(sites, [*methods.rules, *_defaults(sites, methods)])
    for name, method in plan.items():
        module = model.get_submodule(name)
        if method.needs_calibration and not is_linear(module):
            raise UsageError(
                f"{name}: {plugin_name(method)} calibrates on the inputs of a linear layer, and "
                f"this is a {type(module).__name__}; give it a method without calibration, "
                "such as rtn, hqq or nf4"
            )
    return sites, plan


def _defaults(sites: list[Site], methods: Methods) -> list[Rule]:
    """Return the rules of the methods by kind.

    Embedding and head are one site when they are tied; the embedding's method is the pair's then.
    """
    if not methods.rules:
        embedding, head = methods.embedding is not None, methods.head is not None
        choose(sites, embedding=embedding, head=head)
    rules = []
    if methods.embedding is not None:
        rules.append(Rule(methods.embedding, role=EMBEDDING_ROLES))
    tied = any(site.tied is not None for site in sites)
    if methods.head is not None and not (tied and methods.embedding is not None):
        rules.append(Rule(methods.head, role="head"))
    if methods.linear is not None:
        rules.append(Rule(methods.linear, role=LINEAR_ROLES))
    return rules


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


def _quantize_each(
    model: PreTrainedModel, plan: Mapping[str, Method], sites: list[Site], keep: Report
) -> None:
    """Quantize sites by methods that need no data; the model is never run."""
    for site in sites:
        if site.name in plan:
            keep(quantize_site(model, site, plan[site.name], None))


def _quantize_calibrated(
    model: PreTrainedModel,
    plan: Mapping[str, Method],
    sites: list[Site],
    calibration: Calibration,
    keep: Report,
) -> None:
    """Quantize in the order in which the model runs, so that every site sees quantized inputs.

    What needs no data (embeddings, norms) comes first; linear layers outside the blocks are
    calibrated by runs of the whole model.
    """
    prefix, _ = find_blocks(model)
    chosen = [site for site in sites if site.name in plan]
    blocks = [site for site in chosen if site.role in LINEAR_ROLES]
    outside = [site for site in chosen if site.role not in LINEAR_ROLES]
    _quantize_each(model, plan, [s for s in outside if not plan[s.name].needs_calibration], keep)
    order = {name: index for index, (name, _) in enumerate(model.named_modules())}
    batches = [calibration.windows[pick] for pick in calibration.picks()]
    calibrated = [site for site in outside if plan[site.name].needs_calibration]
    for site in (s for s in calibrated if order[s.name] < order[prefix]):
        quantize_head(model, site, plan[site.name], batches, keep)
    quantize_blocks(model, plan, blocks, calibration, keep)
    for site in (s for s in calibrated if order[s.name] > order[prefix]):
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
