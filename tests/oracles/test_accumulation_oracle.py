"""Normalisation: eight batches of one row step as one batch of eight, however ragged the rows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import LABELS, VOCABULARY, tiny_classifier, tiny_gpt2

from quantale.core.progress import Silent
from quantale.data.batch import UNSCORED, Batch
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData, TrainSettings

ROWS, TOKENS = 8, 12
SETTINGS = TrainSettings(
    steps=2,
    learning_rate=1e-4,
    min_learning_rate=1e-4,
    warmup_steps=0,
    evaluate_every=3,
    checkpoint_every=9,
    clip=1e9,
    precision="fp32",
    cpu=True,
)


def language(step: int) -> Batch:
    """Padded rows of 1 to 12 tokens with a mask; one row and one more target are not scored."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randint(1, VOCABULARY, (ROWS, TOKENS + 1), generator=generator)
    lengths = torch.tensor([12, 1, 7, 3, 12, 5, 2, 9])
    mask = torch.arange(TOKENS) < lengths[:, None]
    targets = rows[:, 1:].masked_fill(~mask, UNSCORED)
    targets[0, 3] = UNSCORED
    targets[1] = UNSCORED
    return Batch(rows[:, :-1].masked_fill(~mask, 0), targets, mask)


def classes(step: int) -> Batch:
    """Padded texts, of which two have no known class."""
    texts = language(step)
    generator = torch.Generator().manual_seed(step)
    targets = torch.randint(LABELS, (ROWS,), generator=generator)
    targets[2:4] = UNSCORED
    return Batch(texts.inputs, targets, texts.mask)


def rows_of(whole: Callable[[int], Batch]) -> Callable[[int], Batch]:
    def one(number: int) -> Batch:
        step, row = divmod(number, ROWS)
        batch = whole(step)
        own = slice(row, row + 1)
        assert batch.mask is not None
        return Batch(batch.inputs[own], batch.targets[own], batch.mask[own])

    return one


def gradients(
    make: Callable[[], Any], settings: TrainSettings, data: TrainData, folder: Path
) -> list[torch.Tensor]:
    """All gradients of every step, as the optimizer is given them."""
    model, seen = make(), []
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    step: Callable[..., Any] = torch.optim.AdamW.step

    def look(self: torch.optim.AdamW, *args: Any) -> Any:
        grads = [p.grad.flatten() for g in self.param_groups for p in g["params"]]
        seen.append(torch.cat(grads).clone())
        return step(self, *args)

    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", look)
        train(model, Full(), data, settings, folder, Silent())
    return seen


@pytest.mark.parametrize(
    ("make", "batches"),
    [(tiny_gpt2, language), (lambda: tiny_classifier("GPT2"), classes)],
    ids=["language", "classes"],
)
def test_eight_times_one_row_is_one_time_eight(
    make: Callable[[], Any], batches: Callable[[int], Batch], tmp_path: Path
) -> None:
    held_out = [batches(99)]
    whole = gradients(make, SETTINGS, TrainData(batches, held_out), tmp_path / "whole")
    settings = replace(SETTINGS, accumulation=ROWS)
    parts = gradients(make, settings, TrainData(rows_of(batches), held_out), tmp_path / "parts")
    assert len(whole) == len(parts) == 2
    away = [(a - b).norm() / b.norm() for a, b in zip(parts, whole, strict=True)]
    assert away[0] <= 1e-5
    assert away[1] <= 1e-3, "the first step went elsewhere"
