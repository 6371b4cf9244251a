"""What is killed: trainings of a tiny model, and a broken twin that writes in place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from kill_server import serve

from quantale.core.files import sealed_folder, staging
from quantale.core.progress import Silent
from quantale.core.recipe_training import TrainSection
from quantale.data.batch import Batch
from quantale.models.build import build_model
from quantale.models.load import load
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.save import write_model
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.training_length import train_settings
from quantale.tuning import checkpoint
from quantale.tuning.loop import train
from quantale.tuning.method import Start, Tuning
from quantale.tuning.methods.distill import Distill
from quantale.tuning.methods.full import Full
from quantale.tuning.methods.heal import Heal
from quantale.tuning.methods.lora import Lora
from quantale.tuning.methods.qat import Qat
from quantale.tuning.settings import TrainData, TrainSettings

SETTINGS = TrainSettings(
    steps=24,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=3,
    evaluate_every=5,
    checkpoint_every=2,
    cpu=True,
)
TUNINGS: dict[str, tuple[Tuning, Methods | None]] = {
    "full": (Full(), None),
    "qat": (Qat(warm_in=0.6, teacher_weight=0.5), Methods(Bitnet(), Rtn(8))),
    "distill": (Distill("1"), None),
    "heal": (Heal(), Methods(Hqq(1, 16))),
    "lora": (Lora(rank=4), None),
    "qlora": (Lora(rank=4), Methods(Nf4())),
}
DATA_BATCHES = 6.0
"""Batches of an epoch, as they are counted here: the data themselves never end."""
EPOCHS = TrainSection(
    epochs=6.0,
    batch_size=4,
    learning_rate=1e-2,
    warmup=0.1,
    schedule="linear",
    evaluate_every=2,
    checkpoint_every=2,
    patience=3,
    gradient_checkpointing=True,
)
SHAPE = NanoGPTConfig(vocab_size=3000, n_positions=32, n_embd=64, n_layer=2, n_head=2)


class Journal(Silent):
    """Notes how far the training has come, outside of its folder and past any kill."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._position = 0

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        self._position += n
        os.write(self._file, f"{self._position}\n".encode())


def train_once(order: dict[str, Any]) -> None:
    """One process of a training: from nothing or from the newest checkpoint to the sealed end."""
    target = Path(order["target"])
    if order["broken"]:
        write_in_place()
    data = TrainData(batches=_batch, validation=[_batch(1000)], epoch=DATA_BATCHES)
    settings = {
        "plain": SETTINGS,
        "8-bit": replace(SETTINGS, optimizer="adamw-8bit"),
        "epochs": replace(train_settings(EPOCHS, 0, data), cpu=True),
    }[order["kind"]]
    journal = Journal(target.with_suffix(".journal"))
    with staging(target, key="kills", resume=True) as folder:
        tuning, methods = TUNINGS[order["method"]]
        packing = methods if tuning.order == "quantize-first" else None
        base = base_of(target.with_name("base"), packing)
        teacher = build_model(SHAPE, seed=8).requires_grad_(False).eval()
        work = tuning.begin(Start(load(base).model, teacher, methods, seed=7, base=str(base)))
        train(work.model, work.objective, data, settings, folder, journal)
        write_model(work.finish(), None, folder / "model")


def base_of(folder: Path, methods: Methods | None) -> Path:
    """Return the folder of the model that all trainings start from; made by the first one."""
    if not folder.exists():
        model = build_model(SHAPE, seed=7)
        if methods is not None:
            quantize_model(model, methods)
        with sealed_folder(folder) as made:
            write_model(model, None, made)
    return folder


def write_in_place() -> None:
    """The broken twin: no temporary name, no manifest, and the newest folder taken as it is."""

    @contextmanager
    def in_place(target: Path) -> Iterator[Path]:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        yield target

    def newest(parent: Path, pattern: str) -> Path | None:
        return max(parent.glob(pattern), default=None)

    patch.multiple(checkpoint, sealed_folder=in_place, latest_valid=newest).start()


def _batch(number: int) -> Batch:
    generator = torch.Generator().manual_seed(number)
    return Batch.of_rows(torch.randint(SHAPE.vocab_size, (4, 33), generator=generator))


if __name__ == "__main__":
    serve(train_once)
