"""Predicted memory of a training against what autograd really keeps, and against a real process."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import (
    VOCABULARY,
    tiny_classifier,
    tiny_gpt2,
    tiny_llama,
    tiny_nanogpt,
    windows,
)

from quantale.core.recipe_training import Precision
from quantale.data.batch import Batch
from quantale.tuning.footprint import Step, footprint, imagined, optimizer_bytes
from quantale.tuning.methods.full import Full
from quantale.tuning.precision import Arithmetic
from quantale.tuning.recompute import recomputing

ROWS, TOKENS = 3, 24
MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": tiny_gpt2,
    "llama": tiny_llama,
    "nanogpt": tiny_nanogpt,
    "classifier": lambda: tiny_classifier("GPT2"),
}
PROCESS = """
import json, sys
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.evaluation.memory import kernel_peak, resident
from quantale.tuning.loop import train
from quantale.tuning.footprint import Step, footprint, imagined
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData, TrainSettings
from pathlib import Path
import tempfile

torch.set_num_threads(1)
order = json.loads(sys.argv[1])
config = GPT2Config(vocab_size=8192, n_positions=256, n_embd=384, n_layer=8, n_head=6,
                    bos_token_id=0, eos_token_id=0)
step = Step(order["rows"], 256, order["optimizer"], "fp32", order["recompute"])
with imagined():
    fake = GPT2LMHeadModel(config)
    found = footprint(fake, Full(), step)
settings = TrainSettings(
    steps=3, learning_rate=1e-4, min_learning_rate=0.0, warmup_steps=0, evaluate_every=1,
    checkpoint_every=9, precision="fp32", optimizer=order["optimizer"],
    gradient_checkpointing=order["recompute"], cpu=True)
def batch(number):
    return Batch.of_rows(torch.randint(8192, (order["rows"], 257)))
before = resident()
model = GPT2LMHeadModel(config)
with tempfile.TemporaryDirectory() as folder:
    train(model, Full(), TrainData(batch, [batch(0)]), settings, Path(folder), Silent())
print(json.dumps({"predicted": found.peak + before, "measured": kernel_peak()}))
"""


def really_kept(model: Any, batch: Batch, precision: Precision, recompute: bool) -> int:
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    model.train()
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    autocast = Arithmetic(precision, "cpu").autocast()
    with recomputing(model, recompute), hooks, autocast:
        Full().loss(model, batch)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_as_much_is_kept_as_was_predicted(name: str, precision: Precision) -> None:
    classes = name == "classifier"
    rows = windows(ROWS, TOKENS + 1)
    batch = Batch.of_rows(rows)
    if classes:
        batch = Batch(batch.inputs, torch.tensor([0, 1, 2]))
    really = really_kept(MODELS[name](), batch, precision, False)
    config = MODELS[name]().config
    step = Step(ROWS, TOKENS, precision=precision, classes=classes)
    with imagined():
        kind = type(MODELS[name]())
        found = footprint(kind(config), Full(), step)
    over = found.activations / really - 1
    assert -0.01 <= over <= (0.12 if name == "llama" else 0.01)  # attention of grouped heads
    columns = 4 if classes else VOCABULARY * TOKENS
    assert found.logits == 2 * 4 * ROWS * columns


def test_the_parts_follow_from_the_trainable_weights() -> None:
    with imagined():
        model = tiny_llama()
        model.requires_grad_(False)
        model.lm_head.weight.requires_grad_(True)
        found = footprint(model, Full(), Step(ROWS, TOKENS))
    total = sum(p.numel() for p in tiny_llama().parameters())
    head = VOCABULARY * 32
    assert (found.weights, found.gradients) == (4 * total, 4 * head)
    assert (found.optimizer, found.best) == (8 * head, 4 * head)


def test_eight_bit_moments_have_a_scale_a_block() -> None:
    assert optimizer_bytes([4096, 4095, 5000], "adamw") == 8 * (4096 + 4095 + 5000)
    small, large = 8 * 4095, 2 * (4096 + 4 * 16) + 2 * (5000 + 4 * 20)
    assert optimizer_bytes([4096, 4095, 5000], "paged-adamw-8bit") == small + large


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rows", "optimizer", "recompute"),
    [(4, "adamw", False), (8, "adamw", False), (1, "adamw-8bit", False)],
)
def test_the_peak_of_a_process_is_predicted_within_15_percent(
    rows: int, optimizer: str, recompute: bool
) -> None:
    order = json.dumps({"rows": rows, "optimizer": optimizer, "recompute": recompute})
    done = subprocess.run(
        [sys.executable, "-c", PROCESS, order], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.15)
