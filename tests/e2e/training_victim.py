"""What is killed: a training of a tiny model, and its broken twin that writes in place."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from kill_server import serve

from quantale.core.files import sealed_folder, staging
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.build import build_model
from quantale.models.load import load
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.save import write_model
from quantale.quant.whole import Methods, quantize_model
from quantale.tuning import checkpoint
from quantale.tuning.loop import train
from quantale.tuning.method import Start, Work
from quantale.tuning.methods.full import Full
from quantale.tuning.methods.lora import Lora
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
    data = TrainData(batches=_batch, validation=[_batch(1000)])
    journal = Journal(target.with_suffix(".journal"))
    with staging(target, key="kills", resume=True) as folder:
        work = BEGIN[order.get("method", "full")](target)
        train(work.model, work.objective, data, SETTINGS, folder, journal)
        write_model(work.finish(), None, folder / "model")


def full(target: Path) -> Work:
    """All parameters of a small model."""
    del target
    return Full().begin(Start(build_model(SHAPE, seed=7)))


def lora(target: Path) -> Work:
    """Adapters beside the same model, which lies in a folder of its own."""
    return _adapters(target, None)


def qlora(target: Path) -> Work:
    """Adapters beside the same model packed to 4 bits."""
    return _adapters(target, Nf4())


def _adapters(target: Path, method: Nf4 | None) -> Work:
    base = target.with_name("base")
    if not base.exists():
        model = build_model(SHAPE, seed=7)
        if method is not None:
            quantize_model(model, Methods(method))
        with sealed_folder(base) as folder:
            write_model(model, None, folder)
    return Lora(rank=4).begin(Start(load(base).model, seed=7, base=str(base)))


BEGIN: dict[str, Callable[[Path], Work]] = {"full": full, "lora": lora, "qlora": qlora}


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
