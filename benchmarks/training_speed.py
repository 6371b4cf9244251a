"""Training speed: our loop against transformers' Trainer, and our nanoGPT against a plain loop.

    python -m benchmarks.training_speed

Both sides train the same model from the same weights on the same batches with the same optimizer,
in turns in one process, so that a busy machine disturbs both alike. First their losses are
compared; a ratio of unlike trainings would mean nothing. Time is the processor's, all threads, a
step, which does not count what other programs take; the first steps of a turn are left out. A ratio
above one: ours is faster.

`trainer`: GPT-2 geometry, `GPT2LMHeadModel`, fused AdamW on both sides, one precision for both;
without dropout and with GPT-2's own 0.1, where the losses can only be near each other.
`plain`: nanoGPT's geometry (6 x 192, dropout 0.1) against the loop that one would write: masks and
softmax by hand, fp32, AdamW as it comes. Ours computes as it chooses to, bf16 where that is native.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import SequentialSampler
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from quantale.core.progress import Silent
from quantale.data.batch import UNSCORED, Batch
from quantale.models.build import build_model
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.precision import computes_bf16
from quantale.tuning.settings import TrainData, TrainSettings

RATE, CLIP, DECAY, BETAS = 1e-4, 1.0, 0.1, (0.9, 0.95)
WARM = 3
"""Steps of a turn that are not timed."""
SETTINGS = TrainSettings(
    steps=WARM,
    learning_rate=RATE,
    min_learning_rate=RATE,
    warmup_steps=0,
    evaluate_every=10**6,
    checkpoint_every=10**6,
    schedule="constant",
    weight_decay=DECAY,
    betas=BETAS,
    clip=CLIP,
    cpu=True,
)


@dataclass
class Turn:
    """What one training showed."""

    losses: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    """Processor seconds at the end of every step."""

    @property
    def seconds(self) -> float:
        """Median processor seconds of a step."""
        spans = [b - a for a, b in zip(self.ends[WARM - 1 :], self.ends[WARM:], strict=False)]
        return statistics.median(spans)


@dataclass(frozen=True)
class Shape:
    """Of the batches."""

    rows: int
    tokens: int
    vocabulary: int

    def batch(self, number: int) -> torch.Tensor:
        """Return (rows, tokens) int64, a function of the number."""
        generator = torch.Generator().manual_seed(number)
        return torch.randint(self.vocabulary, (self.rows, self.tokens), generator=generator)


class Listener(Silent):
    """Hears our loop."""

    def __init__(self) -> None:
        self.turn = Turn()

    def advance(self, n: int = 1, **fields: float | int | str) -> None:
        """Note the end of a step."""
        del n
        if "loss" in fields:
            self.turn.ends.append(time.process_time())
            self.turn.losses.append(float(fields["loss"]))


def ours(model: nn.Module, shape: Shape, steps: int, precision: Any) -> Turn:
    """Train with our loop."""

    def batch(number: int) -> Batch:
        rows = shape.batch(number)
        targets = functional.pad(rows[:, 1:], (0, 1), value=UNSCORED)
        return Batch(rows, targets)

    listener = Listener()
    settings = replace(SETTINGS, steps=steps, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        train(model, Full(), TrainData(batch, [batch(10**6)]), settings, Path(folder), listener)
    return listener.turn


class StepEnds(TrainerCallback):  # type: ignore[misc]
    """Hears the Trainer."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the end of a step."""
        self._turn.ends.append(time.process_time())


class InOrder(Trainer):  # type: ignore[misc]
    """A Trainer that reads the rows as they stand."""

    def _get_train_sampler(self, train_dataset: Any = None) -> SequentialSampler:
        return SequentialSampler(train_dataset or self.train_dataset)


def theirs(model: nn.Module, shape: Shape, steps: int, precision: str, *, log: bool) -> Turn:
    """Train with transformers' Trainer."""
    rows = [row for number in range(steps) for row in shape.batch(number)]
    turn = Turn()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=shape.rows,
            max_steps=steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=DECAY,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            max_grad_norm=CLIP,
            optim="adamw_torch_fused",
            bf16=precision == "bf16",
            save_strategy="no",
            logging_steps=1 if log else 10**6,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        # The Trainer divides by all labels, the first one too, which no position predicts.
        data = [{"input_ids": r, "labels": functional.pad(r[1:], (1, 0), value=-100)} for r in rows]
        trainer = InOrder(
            model=model, args=arguments, train_dataset=data, callbacks=[StepEnds(turn)]
        )
        trainer.train()
        turn.losses = [e["loss"] for e in trainer.state.log_history if "loss" in e]
    return turn


class PlainBlock(nn.Module):
    """A pre-norm block, written as usual."""

    def __init__(self, config: NanoGPTConfig) -> None:
        super().__init__()
        width, self.heads, self.rate = config.n_embd, config.n_head, config.dropout
        self.ln_1 = nn.LayerNorm(width, bias=False)
        self.attn = nn.ModuleDict(
            {
                "c_attn": nn.Linear(width, 3 * width, bias=False),
                "c_proj": nn.Linear(width, width, bias=False),
            }
        )
        self.ln_2 = nn.LayerNorm(width, bias=False)
        self.mlp = nn.ModuleDict(
            {
                "c_fc": nn.Linear(width, 4 * width, bias=False),
                "c_proj": nn.Linear(4 * width, width, bias=False),
            }
        )
        size = config.n_positions
        self.register_buffer("mask", torch.tril(torch.ones(size, size)), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(rows, tokens, width) to the same."""
        rows, tokens, width = x.shape
        parts = self.attn["c_attn"](self.ln_1(x)).split(width, dim=2)
        q, k, v = (
            p.view(rows, tokens, self.heads, width // self.heads).transpose(1, 2) for p in parts
        )
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        scores = scores.masked_fill(self.mask[:tokens, :tokens] == 0, float("-inf"))  # type: ignore[index]
        weights = functional.dropout(functional.softmax(scores, dim=-1), self.rate, self.training)
        y = (weights @ v).transpose(1, 2).contiguous().view(rows, tokens, width)
        x = x + functional.dropout(self.attn["c_proj"](y), self.rate, self.training)
        inner = functional.gelu(self.mlp["c_fc"](self.ln_2(x)))
        return x + functional.dropout(self.mlp["c_proj"](inner), self.rate, self.training)


class PlainGPT(nn.Module):
    """nanoGPT, written as usual."""

    def __init__(self, config: NanoGPTConfig) -> None:
        super().__init__()
        self.rate = config.dropout
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.h = nn.ModuleList(PlainBlock(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of (rows, tokens)."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        x = functional.dropout(x, self.rate, self.training)
        for block in self.h:
            x = block(x)
        return functional.linear(self.ln_f(x), self.wte.weight)


def plain(model: nn.Module, shape: Shape, steps: int) -> Turn:
    """Train with the loop that one would write."""
    turn = Turn()
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": DECAY},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=RATE,
        betas=BETAS,
    )
    model.train()
    for number in range(steps):
        rows = shape.batch(number)
        logits = model(rows)
        loss = functional.cross_entropy(
            logits[:, :-1].reshape(-1, shape.vocabulary), rows[:, 1:].reshape(-1)
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        turn.losses.append(loss.item())
        turn.ends.append(time.process_time())
    return turn


def nanogpt_pair(dropout: float, vocabulary: int) -> tuple[nn.Module, nn.Module]:
    """Return our model and the plain one with its weights."""
    config = NanoGPTConfig(vocab_size=vocabulary, n_positions=256, dropout=dropout, bias=False)
    config.n_layer, config.n_head, config.n_embd = 6, 6, 192
    model, other = build_model(config, seed=0), PlainGPT(config)
    state = {k.removeprefix("transformer."): v for k, v in model.state_dict().items()}
    state.pop("lm_head.weight")
    other.load_state_dict(state)
    return model, other


def check(first: Turn, second: Turn, bound: float) -> float:
    """Return the largest relative difference of two loss curves; raises where they part."""
    away = max(abs(a / b - 1) for a, b in zip(first.losses, second.losses, strict=True))
    if not away <= bound:
        raise SystemExit(f"the losses part by {away:.2g}: {first.losses} and {second.losses}")
    return away


def ratios(
    left: Callable[[], Turn], right: Callable[[], Turn], rounds: int
) -> tuple[list[float], float, float]:
    """Return right / left of each round, and the median seconds of both."""
    pairs = []
    for number in range(rounds):
        turns = [left, right] if number % 2 == 0 else [right, left]
        found = {turn: turn().seconds for turn in turns}
        pairs.append((found[left], found[right]))
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    return [b / a for a, b in pairs], medians[0], medians[1]


def against_trainer(asked: argparse.Namespace, precision: str, dropout: float) -> str:
    """Compare with the Trainer at GPT-2 geometry."""
    config = GPT2Config(
        vocab_size=asked.vocabulary,
        n_positions=asked.tokens,
        n_embd=asked.width,
        n_layer=asked.layers,
        n_head=asked.width // 64,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    base = GPT2LMHeadModel(config)
    shape = Shape(asked.rows, asked.tokens, asked.vocabulary)
    away = check(
        ours(deepcopy(base), shape, WARM, precision),
        theirs(deepcopy(base), shape, WARM, precision, log=True),
        0.02 if dropout else (2e-3 if precision == "bf16" else 1e-4),
    )
    found, left, right = ratios(
        lambda: ours(deepcopy(base), shape, asked.steps, precision),
        lambda: theirs(deepcopy(base), shape, asked.steps, precision, log=False),
        asked.rounds,
    )
    name = f"trainer, GPT-2 {asked.layers} x {asked.width}, {precision}, dropout {dropout:g}"
    return _line(name, found, left, right, away)


def against_plain(asked: argparse.Namespace) -> str:
    """Compare with the plain loop at nanoGPT's geometry."""
    shape = Shape(asked.rows, 256, 86)
    model, other = nanogpt_pair(0.0, 86)
    away = check(ours(model, shape, WARM, "fp32"), plain(other, shape, WARM), 1e-4)
    pair = nanogpt_pair(0.1, 86)
    found, left, right = ratios(
        lambda: ours(deepcopy(pair[0]), shape, asked.steps, "auto"),
        lambda: plain(deepcopy(pair[1]), shape, asked.steps),
        asked.rounds,
    )
    native = "bf16" if computes_bf16("cpu") else "fp32"
    return _line(f"plain fp32 loop, nanoGPT 6 x 192, ours {native}", found, left, right, away)


def _line(name: str, found: list[float], left: float, right: float, away: float) -> str:
    rounds = ", ".join(f"{ratio:.2f}" for ratio in found)
    return (
        f"{name}: {statistics.median(found):.2f}x (rounds {rounds}); "
        f"processor seconds a step {left:.3f} and {right:.3f}; losses within {away:.1e}"
    )


def main() -> None:
    """Compare and print a line a comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    for name, value in (
        ("rows", 8),
        ("tokens", 256),
        ("width", 256),
        ("layers", 4),
        ("vocabulary", 2048),
        ("steps", 10),
        ("rounds", 6),
        ("threads", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print(against_plain(asked), flush=True)
    for precision in ("fp32", "bf16") if computes_bf16("cpu") else ("fp32",):
        for dropout in (0.0, 0.1):
            print(against_trainer(asked, precision, dropout), flush=True)


if __name__ == "__main__":
    main()
