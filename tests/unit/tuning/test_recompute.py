"""Gradient checkpointing: the same gradients from fewer kept activations, for any model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_family, tiny_gpt2, tiny_nanogpt, windows
from torch import nn

from quantale.core.errors import UsageError
from quantale.data.batch import Batch
from quantale.tuning.methods.full import Full
from quantale.tuning.recompute import recomputing

BATCH = Batch.of_rows(windows(2, 17))


def with_dropout(model: Any) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    return model


def frozen_with_adapters() -> nn.Module:
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = tiny_family("Llama")
    torch.manual_seed(1)  # of the adapters
    return get_peft_model(model, config)


class Wrapper(nn.Module):
    """What a tuning method may put around a model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_gpt2()

    def forward(self, **inputs: Any) -> Any:
        return self.inner(**inputs)


MODELS: list[Callable[[], nn.Module]] = [
    lambda: with_dropout(tiny_nanogpt()),
    lambda: with_dropout(tiny_gpt2()),
    frozen_with_adapters,
    Wrapper,
]


def backward(model: nn.Module, wanted: bool) -> tuple[dict[str, torch.Tensor], int]:
    """Gradients, and the bytes that the backward pass kept."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    model.train()
    with recomputing(model, wanted):
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss = Full().loss(model, BATCH)
        loss.backward()  # type: ignore[no-untyped-call]
    weights = model.named_parameters()
    return {n: p.grad for n, p in weights if p.grad is not None}, sum(kept.values())


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # asked by peft
@pytest.mark.parametrize("make", MODELS)
def test_gradients_are_the_same_and_less_is_kept(make: Callable[[], nn.Module]) -> None:
    plain, whole = backward(make(), False)
    again, kept = backward(make(), True)
    assert plain.keys() == again.keys()
    assert plain
    for name, gradient in plain.items():
        assert torch.equal(gradient, again[name]), name
    assert kept < 0.8 * whole


def test_the_model_is_left_as_it_was() -> None:
    model = tiny_gpt2()
    backward(model, True)
    assert not model.transformer.gradient_checkpointing
    assert all(not block.gradient_checkpointing for block in model.transformer.h)


def test_a_model_without_blocks_is_refused() -> None:
    with pytest.raises(UsageError, match="Linear has no gradient checkpointing"):
        backward(nn.Linear(2, 2), True)
