"""Make the reference models of the benchmarks: `make models DATA=stories.txt`.

`gpt2` is a GPT-2 of width 512 (a multiple of 256, so that llama.cpp's K-quants apply) with a
byte-level BPE of 2,048 tokens, trained from random weights on the given text. `gpt2-outliers`
computes the same function with six input channels of every linear layer made 30 times as large,
and their weights as much smaller: what large language models grow by themselves.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from quantale.core import files
from quantale.data.load import load_documents
from quantale.data.tokenizers import train_bpe
from quantale.models.load import load
from quantale.quant.save import write_model

SETTINGS = {
    "train.steps": 4000,
    "train.batch_size": 8,
    "train.accumulation": 1,
    "train.learning_rate": 1.5e-3,
    "train.min_learning_rate": 1e-4,
    "train.warmup": 0.025,
    "train.weight_decay": 0.1,
    "train.evaluate_every": 200,
    "train.checkpoint_every": 50,
    "train.precision": "auto",
}
"""Of the training; 8.2 million tokens, 4.8 passes over 7,645 stories."""
CHANNELS, FACTOR = 6, 30.0


def main() -> None:
    """Make what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="tinystories[:12000]", help="in the grammar of --data")
    parser.add_argument("--out", type=Path, default=Path("models"))
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    start, trained = asked.out / "gpt2-start", asked.out / "gpt2"
    if not start.exists():
        make_start(asked.data, start)
    if not trained.exists():
        train(start, asked.data, trained, asked.threads)
    twin = asked.out / "gpt2-outliers"
    if not twin.exists():
        make_twin(trained / "model", twin)


def make_start(data: str, out: Path) -> None:
    """Write a GPT-2 with random weights and a tokenizer trained on the text."""
    tokenizer = train_bpe(load_documents(data, split="train").texts, 2048)
    torch.manual_seed(1337)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer),
            n_embd=512,
            n_layer=3,
            n_head=8,
            n_positions=256,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    with files.staging(out, key="reference") as folder:
        write_model(model, tokenizer, folder)


def train(start: Path, data: str, out: Path, threads: int) -> None:
    """Train through the command line; a run that was stopped goes on."""
    values = [*SETTINGS.items(), ("threads", threads)]
    sets = [word for key, value in values for word in ("--set", f"{key}={value}")]
    command = ["train", "--model", str(start), "--data", data, "--out", str(out), "--resume"]
    subprocess.run([sys.executable, "-m", "quantale.cli", *command, *sets], check=True)


def make_twin(source: Path, out: Path) -> None:
    """Write the twin with outlier channels; raises when it is another function."""
    model, tokenizer, _ = load(source)
    tokens = torch.randint(model.config.vocab_size, (2, 64), generator=torch.Generator())
    with torch.no_grad():
        before = model(tokens).logits
        for index, block in enumerate(model.transformer.h):
            plant(block.ln_1, block.attn.c_attn.weight, seed=2 * index)
            plant(block.ln_2, block.mlp.c_fc.weight, seed=2 * index + 1)
        wrong = float((model(tokens).logits - before).abs().max())
    if wrong > 1e-3:
        raise SystemExit(f"the twin differs by {wrong:.2g} in a logit; it should compute the same")
    with files.staging(out, key="reference") as folder:
        write_model(model, tokenizer, folder)


def plant(norm: nn.Module, weight: torch.Tensor, seed: int) -> None:
    """Make some outputs of a LayerNorm larger and their (in, out) weights as much smaller."""
    width = weight.shape[0]
    picked = torch.randperm(width, generator=torch.Generator().manual_seed(seed))[:CHANNELS]
    for parameter in (norm.get_parameter("weight"), norm.get_parameter("bias")):
        parameter[picked] *= FACTOR
    weight[picked] /= FACTOR


if __name__ == "__main__":
    main()
