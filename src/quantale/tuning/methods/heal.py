"""Healing: after quantization, scales, zero points, norms and biases learn from the teacher.

Codes stay as they are, so that the model keeps its size to the byte. The loss is the KL from the
full-precision model, as in knowledge distillation for quantized networks (Polino et al., arXiv
1802.05668, section 3); that training scales alone recovers much of what few bits lose is the
observation of PEQA (Kim et al., arXiv 2305.14152, section 3) and of the second phase of
EfficientQAT (Chen et al., arXiv 2407.11062, section 3.3), which trains scales against labels.

`adapters` are low-rank ones of peft beside each packed layer (QLoRA, arXiv 2305.14314) with this
loss. They are saved by peft, beside a base that stays as it is, so they are not mixed with parts
that change the base: heal scales first, then adapters over the result.

Zero points are trained where the format stores them as floats. Those that are packed as whole
numbers stay: a move of one code is larger than what there is to learn. What is kept in half
precision is rounded to it in every forward pass, and so are scales (see `quant/learned.py`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from quantale.core.errors import UsageError, nearest
from quantale.quant.cast import cast_rest
from quantale.quant.learned import through
from quantale.quant.linear import PackedModule
from quantale.quant.sites import is_norm
from quantale.tuning.method import Order, Start, Work
from quantale.tuning.teaching import Teaching, check_teaching, teacher_for

ADAPTERS: Final = "adapters"
PARTS: Final = ("scales", "zeros", "norms", "biases", ADAPTERS)


@dataclass(frozen=True)
class Heal:
    """Settings of healing."""

    parts: str = "scales,zeros,norms,biases"
    """What is trained, with commas between; or `adapters` alone."""
    rank: int = 8
    """Of adapters."""
    temperature: float = 1.0
    """Of the teacher's and the model's distributions."""
    label_weight: float = 0.0
    """Share of the cross-entropy of the text in the loss."""

    order: ClassVar[Order] = "quantize-first"
    needs_teacher: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_teaching("heal", self.temperature, self.label_weight)
        for name in self.names:
            if name not in PARTS:
                hint = nearest(name, PARTS)
                raise UsageError(f"heal: parts are {', '.join(PARTS)}; {name!r} came{hint}")
        if ADAPTERS in self.names and len(self.names) > 1:
            raise UsageError(
                "heal: adapters lie beside a base that stays as it is; heal the other parts first, "
                "then adapters over the result"
            )
        if self.rank < 1:
            raise UsageError(f"heal: rank is 1 or more, {self.rank} came")

    @property
    def names(self) -> tuple[str, ...]:
        """The parts that are trained."""
        return tuple(name.strip() for name in self.parts.split(","))

    def begin(self, start: Start) -> Work:
        """Open the parts of a packed model for training.

        Raises UsageError for a model that is not packed or has none of the parts.
        """
        model, teacher = start.model, teacher_for("heal", start)
        if not _packed(model):
            raise UsageError("heal needs a quantized model; this one has no packed layer")
        model.requires_grad_(False)
        if ADAPTERS in self.names:
            return self._adapted(start, teacher)
        weights = [*self._grids(model), *self._rest(model)]
        if not weights:
            raise UsageError(f"the model has none of {self.parts} that can be trained")
        for weight in weights:
            weight.requires_grad_(True)
        rounded = _keep_rounded(model, weights, start.dtype)
        names = {name: p for name, p in model.named_parameters() if p.requires_grad}
        return Work(
            model, self._teaching(teacher, names), lambda: _finished(model, rounded, start.dtype)
        )

    def _adapted(self, start: Start, teacher: PreTrainedModel) -> Work:
        from quantale.models.adapters import put_on  # peft takes a second to import
        from quantale.quant.lora import lora_config

        model = start.model
        if start.base is None:
            raise UsageError("an adapter needs a base that is a saved model; save that first")
        config = lora_config(
            model,
            r=self.rank,
            lora_alpha=2 * self.rank,
            task_type="CAUSAL_LM",
            base_model_name_or_path=start.base,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(start.seed)
            put_on(model, config)
        names = {name: p for name, p in model.named_parameters() if p.requires_grad}
        return Work(model, self._teaching(teacher, names), lambda: model, maps=True)

    def _teaching(self, teacher: PreTrainedModel, weights: dict[str, nn.Parameter]) -> Teaching:
        return Teaching(teacher, weights, self.temperature, self.label_weight, dropout=False)

    def _grids(self, model: PreTrainedModel) -> Iterator[nn.Parameter]:
        scales, zeros = "scales" in self.names, "zeros" in self.names
        if scales or zeros:
            for module in _packed(model):
                module.learn(scales=scales, zeros=zeros)
                if module.learned is not None:
                    yield from module.learned.parameters()

    def _rest(self, model: PreTrainedModel) -> Iterator[nn.Parameter]:
        for module in model.modules():
            if isinstance(module, PackedModule) or not is_norm(module):
                bias = module._parameters.get("bias")
                if "biases" in self.names and bias is not None:
                    yield bias
            elif "norms" in self.names:
                yield from module.parameters(recurse=False)


class _Kept(nn.Module):
    """A parameter in float32 that is used rounded to the dtype in which it will be stored."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype

    def forward(self, exact: Tensor) -> Tensor:
        return through(exact, exact.detach().to(self._dtype).to(exact.dtype))


def _packed(model: nn.Module) -> list[PackedModule]:
    return [module for module in model.modules() if isinstance(module, PackedModule)]


def _keep_rounded(
    model: nn.Module, weights: list[nn.Parameter], dtype: torch.dtype
) -> list[tuple[nn.Module, str]]:
    """Let norms and biases be used as they will be stored; returns where that was arranged."""
    if dtype == torch.float32:
        return []
    trained = {id(weight) for weight in weights}
    found = [
        (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if id(parameter) in trained and name in ("weight", "bias")
    ]
    for module, name in found:
        parametrize.register_parametrization(module, name, _Kept(dtype))
    return found


def _finished(
    model: PreTrainedModel, rounded: list[tuple[nn.Module, str]], dtype: torch.dtype
) -> PreTrainedModel:
    for module, name in rounded:
        parametrize.remove_parametrizations(module, name)
    for packed in _packed(model):
        packed.finish()
    model.requires_grad_(False)
    cast_rest(model, dtype)
    return model
