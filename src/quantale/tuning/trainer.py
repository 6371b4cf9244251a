"""For those who bring a training script of their own: our trainings under transformers' `Trainer`.

    warm_in = prepare_qat(model, quantale.methods.Bitnet(), warm_in=0.2)
    Trainer(model=model, ..., callbacks=[warm_in]).train()
    packed = finish_qat(model)

Between the two calls the model is an ordinary one: its parameters have the names that they had,
and what `Trainer` saves loads without this project, in full precision (without `sub_norm` and
`terms`).
"""

from typing import Any

from transformers import PreTrainedModel, TrainerCallback

from quantale.quant.apply import Method
from quantale.quant.whole import Methods
from quantale.tuning import wrapping
from quantale.tuning.equalize import equalize_columns
from quantale.tuning.low_rank import TermPlan
from quantale.tuning.straight_through import Strength, strength_at


class WarmIn(TrainerCallback):  # type: ignore[misc]
    """Lets the strength of the quantization follow the steps of a `Trainer`."""

    def __init__(self, strength: Strength, warm_in: float) -> None:
        self._strength, self._warm_in = strength, warm_in

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Set the strength of the step that begins."""
        del args, control, kwargs
        share = state.global_step / max(1, state.max_steps)
        self._strength.value = strength_at(share, self._warm_in)


def prepare_qat(
    model: PreTrainedModel,
    methods: Method | Methods,
    *,
    warm_in: float = 0.0,
    sub_norm: bool = False,
    equalize: bool = False,
    terms: TermPlan | None = None,
) -> WarmIn:
    """Let a model in full precision train through its quantization, in place.

    methods: one for the linear layers of the blocks, or one for each kind of site. warm_in,
    sub_norm, equalize: as in `quantale.tuning.methods.qat`. terms: which layers get a low-rank
    term, whose factors are parameters of their own. Returns the callback that the trainer needs
    where `warm_in` is above 0. Raises UsageError for a method that calibrates.
    """
    if equalize:
        equalize_columns(model)
    chosen = methods if isinstance(methods, Methods) else Methods(methods)
    return WarmIn(wrapping.wrap(model, chosen, sub_norm=sub_norm, terms=terms), warm_in)


def finish_qat(model: PreTrainedModel) -> PreTrainedModel:
    """Pack a prepared model, in place and in evaluation mode; its logits stay bit for bit."""
    return wrapping.unwrap(model)
