"""Optimizers: the 8-bit ones against torch's AdamW, and their state through flat tensors."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from quantale.core.errors import EnvironmentLackingError
from quantale.core.recipe_training import Optimizer
from quantale.tuning.optimizers import make_optimizer, restore_state, state_tensors
from quantale.tuning.settings import TrainSettings

SETTINGS = TrainSettings(
    steps=1,
    learning_rate=1e-2,
    min_learning_rate=0.0,
    warmup_steps=0,
    evaluate_every=1,
    checkpoint_every=1,
)
ALL: tuple[Optimizer, ...] = ("adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit")
EIGHT_BITS = ("adamw-8bit", "paged-adamw-8bit")


def made(name: Optimizer) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    """A matrix that 8 bits are for, a small one, a vector, and one that never gets a gradient."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"large": (80, 70), "small": (4, 4), "vector": (9,), "unused": (70, 80)}
    weights = {
        name: nn.Parameter(torch.randn(shape, generator=generator))
        for name, shape in shapes.items()
    }
    optimizer = make_optimizer(weights, replace(SETTINGS, optimizer=name), "cpu")
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    return weights, optimizer


def step(weights: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for name, weight in weights.items():
            if name != "unused":
                weight.grad = torch.randn(weight.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("name", ALL)
def test_every_optimizer_takes_the_steps_of_adamw(name: Optimizer) -> None:
    plain, ours = made("adamw"), made(name)
    start = plain[0]["large"].detach().clone()
    step(*plain, range(20))
    step(*ours, range(20))
    way = (plain[0]["large"] - start).norm()
    away = (plain[0]["large"] - ours[0]["large"]).norm()
    assert away <= (0.05 if name in EIGHT_BITS else 1e-5) * way
    assert (away > 0.001 * way) == (name in EIGHT_BITS)
    for small in ("small", "vector"):
        torch.testing.assert_close(plain[0][small], ours[0][small], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_eight_bits_hold_the_moments_of_large_weights(name: Optimizer) -> None:
    weights, optimizer = made(name)
    step(weights, optimizer, range(2))
    dtypes = {n: optimizer.state[w]["state1"].dtype for n, w in weights.items() if n != "unused"}
    assert dtypes == {"large": torch.uint8, "small": torch.float32, "vector": torch.float32}


@pytest.mark.parametrize("name", ALL)
def test_a_state_goes_through_a_file_and_on_to_the_same_bytes(
    name: Optimizer, tmp_path: Path
) -> None:
    whole, first, then = made(name), made(name), made(name)
    step(*whole, range(6))
    step(*first, range(3))
    save_file(state_tensors(first[1], first[0]), tmp_path / "state.safetensors")
    for key, weight in then[0].items():
        weight.data.copy_(first[0][key])
    restore_state(then[1], then[0], load_file(tmp_path / "state.safetensors"))
    step(*then, range(3, 6))
    for key in whole[0]:
        assert torch.equal(whole[0][key], then[0][key]), key


@pytest.mark.parametrize("name", ALL)
def test_only_weights_of_two_dimensions_decay(name: Optimizer) -> None:
    _, optimizer = made(name)
    groups = {g["weight_decay"]: [p.dim() for p in g["params"]] for g in optimizer.param_groups}
    assert groups == {0.1: [2, 2, 2], 0.0: [1]}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        return None

    monkeypatch.setattr("importlib.util.find_spec", nothing)
    with pytest.raises(EnvironmentLackingError, match=r"adamw-8bit needs .*quantale\[bnb\]"):
        made("adamw-8bit")


def test_plain_adamw_loads_no_library() -> None:
    before = "bitsandbytes" in sys.modules
    made("adamw")
    assert ("bitsandbytes" in sys.modules) == before
