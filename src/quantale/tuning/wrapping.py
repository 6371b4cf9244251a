"""Wrap the sites of a model, so that it trains through its quantization, and pack it at the end."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.apply import Method
from quantale.quant.hf import install_beside
from quantale.quant.low_rank import LowRank
from quantale.quant.rules import Rule
from quantale.quant.sites import LINEAR_ROLES, Site, is_linear, weight_view
from quantale.quant.stored import plugin_name
from quantale.quant.sub_norm import SubNorm
from quantale.quant.whole import Methods, plan_model, quantize_model
from quantale.tuning.low_rank import TermPlan, take_out
from quantale.tuning.straight_through import Straight, StraightLinear, StraightTable, Strength


def wrap(
    model: PreTrainedModel,
    methods: Methods,
    *,
    sub_norm: bool = False,
    terms: TermPlan | None = None,
) -> Strength:
    """Let a model in full precision train through its quantization, in place.

    sub_norm: put a new RMSNorm in front of every quantized linear layer of the blocks. terms:
    which of those layers get a low-rank term, and how it begins.
    Raises UsageError for a method that calibrates, for sub_norm and terms at once, and where
    `plan_model` does.
    """
    check(methods)
    check_beside(sub_norm=sub_norm, terms=terms is not None)
    sites, plan = plan_model(model, methods)
    layers = [site.name for site in sites if site.name in plan and site.role in LINEAR_ROLES]
    begun = {} if terms is None else terms.begun(model, {name: plan[name] for name in layers})
    strength = Strength()
    for site in sites:
        if site.name in plan:
            _wrap(model, site, plan[site.name], strength)
            if sub_norm and site.role in LINEAR_ROLES:
                _add_norm(model.get_submodule(site.name))
    for name, term in begun.items():
        layer = model.get_submodule(name)
        take_out(weight_view(layer.original), term)
        layer.low_rank = term
    return strength


def check(methods: Methods) -> None:
    """Raise UsageError for methods that cannot be trained through."""
    if methods.calibrating is not None:
        raise UsageError(
            f"{methods.calibrating} calibrates, so that no weight can be trained through it; "
            "take a method without calibration, such as rtn, nf4, bitnet or binary"
        )


def check_beside(*, sub_norm: bool, terms: bool) -> None:
    """Raise UsageError for norms and low-rank terms at once."""
    if sub_norm and terms:
        raise UsageError(
            "qat: a low-rank term begins from what the model knows, sub_norm is for training "
            "from scratch; leave one of them out"
        )


def unwrap(model: PreTrainedModel) -> PreTrainedModel:
    """Pack a wrapped model by the methods that it was trained through, in place.

    Its logits are those of the wrapped model in evaluation, in float32, bit for bit.
    """
    found = wrapped(model)
    if not found:
        raise UsageError(f"this {type(model).__name__} was not prepared for training by `wrap`")
    for name, module in found.items():
        model.set_submodule(name, module.original)
    rules = [
        Rule(module.method, match=name) for name, module in found.items() if name == module.site
    ]
    norms, terms = _beside(found)
    model.to("cpu")
    quantize_model(model, rules)
    install_beside(model, [*norms.items(), *((name, term.cpu()) for name, term in terms.items())])
    return model


def stored_beside(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    """Return what the layers of a wrapped model will store beside their codes, by name.

    dtype: of norms; low-rank terms have dtypes of their own.
    """
    norms, terms = _beside(wrapped(model))
    weights = {f"{name}.norm.weight": norm.weight.to(dtype) for name, norm in norms.items()}
    factors = {
        f"{name}.low_rank.{part}": tensor
        for name, term in terms.items()
        for part, tensor in term.named_buffers()
    }
    return weights | factors


def _beside(found: Mapping[str, Straight]) -> tuple[dict[str, SubNorm], dict[str, LowRank]]:
    """Return the norms and low-rank terms of wrapped layers by name."""
    linear = {name: m for name, m in found.items() if isinstance(m, StraightLinear)}
    norms = {name: m.norm for name, m in linear.items() if m.norm is not None}
    terms = {name: m.low_rank.finished() for name, m in linear.items() if m.low_rank is not None}
    return norms, terms


def wrapped(model: nn.Module) -> Mapping[str, Straight]:
    """Return the wrapped modules of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Straight)}


def _wrap(model: PreTrainedModel, site: Site, method: Method, strength: Strength) -> None:
    module = model.get_submodule(site.name)
    stored = set(module.state_dict())
    if not stored <= {"weight", "bias"} or getattr(module, "max_norm", None) is not None:
        raise UsageError(
            f"{site.name}: a {type(module).__name__} that stores {sorted(stored)} cannot be "
            f"quantized; leave it in full precision ({plugin_name(method)} was asked for)"
        )
    kind = StraightLinear if is_linear(module) else StraightTable
    model.set_submodule(site.name, kind(site.name, module, method, strength))
    if site.tied is not None:
        head = model.get_submodule(site.tied)
        model.set_submodule(site.tied, StraightLinear(site.name, head, method, strength))


def _add_norm(module: nn.Module) -> None:
    if isinstance(module, StraightLinear):
        weight = module.get_parameter("weight")
        module.norm = SubNorm(module.in_features).to(weight.device, weight.dtype)
