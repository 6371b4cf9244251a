"""Quantize a whole model in place, whatever its sites need: the one entry of this package."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.apply import Method, Report, SiteResult, needs_reference
from quantale.quant.cast import cast_rest
from quantale.quant.hf import mark_quantized
from quantale.quant.linear import PackedModule
from quantale.quant.pieces import Shelf
from quantale.quant.resident import Resident
from quantale.quant.rules import Rule
from quantale.quant.rules import plan as plan_rules
from quantale.quant.sequential import Calibration, Outcome, Task, batch_of, quantize_pieces
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
    batch_size: int | None = None,
    report: Report | None = None,
    dtype: torch.dtype | None = None,
) -> list[SiteResult]:
    """Quantize a model that is in memory, in place, and return what became of every site.

    windows: (samples, length) token ids for methods that calibrate. scratch: folder for hidden
    states and finished pieces; a run that is started again with it goes on where it stopped.
    dtype: of what stays in full precision, which is cast at the end; None leaves it.
    Raises UsageError when nothing matches or calibration data is missing.
    """
    methods = methods if isinstance(methods, Methods) else Methods(None, rules=tuple(methods))
    calibration = None
    if windows is not None:
        calibration = Calibration(windows, batch_size or batch_of(windows.shape[1]))
    made = quantize_from(Resident(), model, methods, calibration, scratch=scratch, report=report)
    if dtype is not None:
        cast_rest(model, dtype)
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
    sites, plan = plan_model(model, methods)
    shelf.expect(plan)
    calibrated = any(method.needs_calibration for method in plan.values())
    if calibrated and calibration is None:
        raise UsageError(f"{methods.calibrating} needs calibration data; none was given")
    if calibration is not None:
        reference = any(map(needs_reference, plan.values()))
        calibration = replace(calibration, reference=reference) if calibrated else None
    model.eval()
    with _scratch(scratch, calibration) as folder:
        task = Task(plan, sites, calibration, proof, folder)
        outcome = quantize_pieces(model, task, shelf, report)
    mark_quantized(model, [_stored(result) for result in outcome.results])
    return outcome


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
