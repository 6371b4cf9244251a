"""Predicted memory of a training against what autograd really keeps, and against real processes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from packing import pack
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
from quantale.quant.blank import pack_blank
from quantale.quant.linear import PackedModule
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.whole import Methods
from quantale.tuning.footprint import Step, footprint, optimizer_bytes
from quantale.tuning.method import Start
from quantale.tuning.methods.full import Full
from quantale.tuning.methods.lora import Lora
from quantale.tuning.precision import Arithmetic
from quantale.tuning.recompute import recomputing

ROWS, TOKENS = 3, 24
MODELS: dict[str, Callable[[], Any]] = {
    "gpt2": tiny_gpt2,
    "llama": tiny_llama,
    "nanogpt": tiny_nanogpt,
    "classifier": lambda: tiny_classifier("GPT2"),
}
PROCESS = Path(__file__).parents[1] / "support" / "training_memory.py"


def really_kept(model: Any, batch: Batch, precision: Precision, recompute: bool) -> int:
    """Sum the storages that autograd keeps, those of the model left out."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage
        return tensor

    model.train()
    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor)
    autocast = Arithmetic(precision, "cpu").autocast()
    with recomputing(model, recompute), hooks, autocast:
        Full().loss(model, batch)
    return sum(storage.nbytes() for storage in kept.values())


def on_meta(name: str) -> Any:
    real = MODELS[name]()
    with torch.device("meta"):
        return type(real)(real.config)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_there_after_a_forward_pass_is_what_autograd_keeps(
    name: str, precision: Precision, recompute: bool
) -> None:
    classes = name == "classifier"
    rows = windows(ROWS, TOKENS + 1)
    batch = Batch.of_rows(rows)
    if classes:
        batch = Batch(batch.inputs, torch.tensor([0, 1, 2]))
    really = really_kept(MODELS[name](), batch, precision, recompute)
    step = Step(
        ROWS, TOKENS, precision=precision, classes=classes, gradient_checkpointing=recompute
    )
    found = footprint(Full().begin(Start(on_meta(name))), step)
    small = 4096  # masks, positions, the batch itself
    assert -0.01 * really <= found.activations - really <= 0.12 * really + small
    assert found.step > found.activations + found.gradients / 4


def test_packed_weights_are_counted_in_their_bits_and_adapters_alone_are_trained() -> None:
    model = tiny_llama()
    pack(model, method=Nf4())
    packed = sum(
        b.nbytes for m in model.modules() if isinstance(m, PackedModule) for b in m.buffers()
    )
    plain = sum(p.nbytes for p in model.parameters())
    with torch.device("meta"):
        blank = type(model)(tiny_llama().config)
        pack_blank(blank, Methods(Nf4()))
        work = Lora(rank=4).begin(Start(blank, base="somewhere"))
    found = footprint(work, Step(ROWS, TOKENS))
    real = Lora(rank=4).begin(Start(model, base="somewhere"))
    adapters = sum(p.nbytes for p in real.objective.trainable(real.model).values())
    assert found.gradients == found.best == adapters
    assert found.optimizer == 2 * adapters
    rest = sum(b.nbytes for n, b in model.named_buffers() if "inv_freq" in n)
    assert found.weights == packed + plain + adapters + rest


def test_the_parts_follow_from_the_trainable_weights() -> None:
    model = on_meta("llama")
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    found = footprint(Full().begin(Start(model)), Step(ROWS, TOKENS))
    head = VOCABULARY * 32
    assert found.gradients == found.best == 4 * head
    assert found.optimizer == 8 * head
    parts = found.weights + found.optimizer + found.best + found.step + found.holes
    assert found.peak == max(parts, found.tensors)


def test_a_teacher_and_accumulated_gradients_are_there_too() -> None:
    plain = footprint(Full().begin(Start(on_meta("gpt2"))), Step(ROWS, TOKENS))
    more = footprint(
        Full().begin(Start(on_meta("gpt2"))), Step(ROWS, TOKENS, accumulation=4), on_meta("gpt2")
    )
    assert more.others == plain.weights
    assert more.step > plain.step
    assert more.step <= plain.step + plain.gradients


def test_eight_bit_moments_have_a_scale_a_block() -> None:
    assert optimizer_bytes([4096, 4095, 5000], "adamw") == 8 * (4096 + 4095 + 5000)
    small, large = 8 * 4095, 2 * (4096 + 4 * 16) + 2 * (5000 + 4 * 20)
    assert optimizer_bytes([4096, 4095, 5000], "paged-adamw-8bit") == small + large


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "method", "step"),
    [
        ("gpt2", "full", {}),
        ("llama", "full", {}),
        ("gpt2", "full", {"gradient_checkpointing": True}),
        ("llama", "full", {"gradient_checkpointing": True}),
        ("gpt2", "full", {"optimizer": "adamw-8bit"}),
        ("gpt2", "lora", {}),
        ("llama", "lora", {"precision": "bf16"}),
        ("gpt2", "qlora", {}),
        ("llama", "qlora", {}),
        ("gpt2", "heal", {}),
        ("llama", "heal-adapters", {}),
        ("gpt2", "qat", {}),
        ("llama", "qat", {}),
        ("gpt2", "distill", {}),
        ("llama", "distill", {}),
    ],
)
def test_the_peak_of_a_process_is_predicted_within_15_percent(
    model: str, method: str, step: dict[str, Any]
) -> None:
    order = json.dumps({"rows": 2, "precision": "fp32", **step})
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, str(PROCESS), model, method, order],
        check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["measured"] - found["process"] > 100 * 2**20
    assert found["predicted"] == pytest.approx(found["measured"], rel=0.15)
