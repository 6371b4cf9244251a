"""One of the processes of a small training, started by torchrun or alone: `FOLDER`.

The rows are ragged and odd in number; of some batches the second process has no scored target.
Trains once whole, and once stopped by a loss that is not finite and then resumed.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quantale.core.errors import NumericalError
from quantale.core.progress import Silent
from quantale.data.batch import UNSCORED, Batch
from quantale.models.build import build_model
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.tuning.distribution import Group
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData, TrainSettings

SETTINGS = TrainSettings(
    steps=8,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=2,
    evaluate_every=3,
    checkpoint_every=2,
    accumulation=2,
    precision="fp32",
    cpu=True,
)
SHAPE = NanoGPTConfig(vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2)
STOP = 5


@dataclass(frozen=True)
class StopsAt(Full):
    """Stands for a kill: the loss of one batch is not finite."""

    stop: bool

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        found = super().loss(model, batch)
        return found * float("nan") if self.stop and _is_of(batch, 2 * STOP) else found


def batch_of(number: int) -> Batch:
    """Five rows of unequal length, which count upwards."""
    generator = torch.Generator().manual_seed(number)
    rows = (torch.randint(20, (5, 1), generator=generator) + torch.arange(9)) % 20
    for row, length in enumerate((9, 3, 6, 2 + number % 7, 4)):
        rows[row, length:] = UNSCORED
    if number % 3 == 0:
        rows[2:, 1:] = UNSCORED
    return Batch.of_rows(rows)


def _is_of(batch: Batch, number: int) -> bool:
    first = batch_of(number).inputs[0]
    return any(torch.equal(row, first) for row in batch.inputs)


def run(folder: Path, *, dropout: float, stop: bool = False) -> None:
    """Train and let the first process leave the model's weights beside the logs."""
    SHAPE.dropout = dropout
    model = build_model(SHAPE, seed=3)
    data = TrainData(batch_of, [batch_of(1000), batch_of(1001)])
    folder.mkdir(parents=True, exist_ok=True)
    train(model, StopsAt(stop), data, SETTINGS, folder, Silent())
    if Group(cpu=True).is_first:
        model.save_pretrained(folder)


def main(folder: Path) -> None:
    """Run all trainings."""
    run(folder / "plain", dropout=0.0)
    run(folder / "whole", dropout=0.1)
    try:
        run(folder / "stopped", dropout=0.1, stop=True)
    except NumericalError:
        torch.manual_seed(0)
        run(folder / "stopped", dropout=0.1)
    Group(cpu=True).leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
