"""fp16: scaled gradients, steps left out, and what is not the scale's fault."""

import math

import pytest
import torch
from torch import nn

from quantale.tuning.precision import Arithmetic


def weight_and_optimizer() -> tuple[nn.Parameter, torch.optim.Optimizer]:
    weight = nn.Parameter(torch.ones(3))
    return weight, torch.optim.SGD([weight], lr=1.0)


def test_autocast_computes_in_what_was_asked_for() -> None:
    layer, seen = nn.Linear(4, 4), {}
    for wanted in ("fp32", "bf16", "fp16"):
        arithmetic = Arithmetic(wanted, "cpu")
        with arithmetic.autocast():
            seen[arithmetic.name] = layer(torch.ones(1, 4)).dtype
    assert seen == {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def test_the_scale_leaves_the_step_as_it_is() -> None:
    weight, optimizer = weight_and_optimizer()
    arithmetic = Arithmetic("fp16", "cpu")
    arithmetic.backward((weight * torch.tensor([1.0, 2.0, 2.0])).sum())
    assert weight.grad is not None
    assert float(weight.grad[0]) == 65536
    assert arithmetic.step(optimizer, [weight], clip=100.0) == pytest.approx(3.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([0.0, -1.0, -1.0]))


def test_an_overflow_leaves_the_step_out_and_halves_the_scale() -> None:
    weight, optimizer = weight_and_optimizer()
    arithmetic = Arithmetic("fp16", "cpu")
    arithmetic.backward((weight * float("inf")).sum())
    norm = arithmetic.step(optimizer, [weight], clip=1.0)
    assert not math.isfinite(norm)
    assert not arithmetic.is_lost(norm)
    assert torch.equal(weight.detach(), torch.ones(3))
    assert arithmetic.state()["scale"] == 32768
    other = Arithmetic("fp16", "cpu")
    other.restore(arithmetic.state())
    assert other.state() == arithmetic.state()


def test_what_overflows_at_any_scale_is_lost() -> None:
    weight, optimizer = weight_and_optimizer()
    arithmetic = Arithmetic("fp16", "cpu")
    lost = []
    for _ in range(40):
        arithmetic.backward((weight * float("inf")).sum())
        lost.append(arithmetic.is_lost(arithmetic.step(optimizer, [weight], clip=1.0)))
    assert not lost[10]
    assert lost[-1]


def test_without_a_scale_one_overflow_is_enough() -> None:
    weight, optimizer = weight_and_optimizer()
    arithmetic = Arithmetic("fp32", "cpu")
    arithmetic.backward((weight * float("inf")).sum())
    assert arithmetic.is_lost(arithmetic.step(optimizer, [weight], clip=1.0))
    assert arithmetic.state() == {}
