"""The loop against training steps written out, and our model under transformers' own Trainer."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.build import build_model
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData, TrainSettings

SETTINGS = TrainSettings(
    steps=7,
    learning_rate=3e-3,
    min_learning_rate=3e-4,
    warmup_steps=2,
    evaluate_every=7,
    checkpoint_every=100,
    accumulation=3,
    clip=0.5,
    precision="fp32",
    cpu=True,
)


def tiny() -> NanoGPTForCausalLM:
    config = NanoGPTConfig(
        vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2, dropout=0.0, bias=True
    )
    return build_model(config, seed=0)


def rows_of(number: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    return (torch.randint(20, (4, 1), generator=generator) + torch.arange(9)) % 20


def batch_of(number: int) -> Batch:
    return Batch.of_rows(rows_of(number))


def adamw_by_hand(model: nn.Module, steps: int) -> None:
    """AdamW (Loshchilov and Hutter, algorithm 2) with nanoGPT's schedule, one tensor at a time."""
    moments = {p: (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
    for step in range(steps):
        rates = [1.5e-3, 3e-3]
        angle = math.pi * (step - 2) / 4
        rate = rates[step] if step < 2 else 3e-4 + 0.5 * (1 + math.cos(angle)) * 2.7e-3
        model.zero_grad()
        for part in range(3):
            batch = rows_of(3 * step + part)
            logits = model(batch[:, :-1]).logits.log_softmax(-1)
            (-logits.gather(2, batch[:, 1:, None]).mean() / 3).backward()
        grads = {p: p.grad.clone() for p in model.parameters() if p.grad is not None}
        norm = math.sqrt(sum(float((g**2).sum()) for g in grads.values()))
        for p, (first, second) in moments.items():
            grad = grads[p] * min(1.0, 0.5 / norm)
            first.mul_(0.9).add_(0.1 * grad)
            second.mul_(0.95).add_(0.05 * grad**2)
            update = first / (1 - 0.9 ** (step + 1))
            update = update / ((second / (1 - 0.95 ** (step + 1))).sqrt() + 1e-8)
            decay = 0.1 if p.dim() >= 2 else 0.0
            with torch.no_grad():
                p.sub_(rate * (update + decay * p))


def test_the_loop_takes_the_steps_that_the_equations_give(tmp_path: Path) -> None:
    ours, by_hand = tiny(), tiny()
    data = TrainData(batches=batch_of, validation=[batch_of(99)])
    train(ours, Full(), data, SETTINGS, tmp_path, Silent())
    adamw_by_hand(by_hand, SETTINGS.steps)
    for (name, our), expected in zip(ours.named_parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(our, expected, rtol=2e-4, atol=2e-6, msg=name)


def test_nanogpt_learns_under_a_plain_transformers_trainer(tmp_path: Path) -> None:
    model = tiny()
    rows: list[dict[str, Any]] = [
        {"input_ids": row[:8], "labels": row[:8]} for n in range(16) for row in rows_of(n)
    ]
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        max_steps=24,
        learning_rate=2e-2,
        save_strategy="no",
        logging_steps=4,
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.5 * losses[0]
