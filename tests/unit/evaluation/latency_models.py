"""Loaders that the children of the latency test call by name."""

import os
import signal
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from quantale.core.errors import ModelFileError

BALLAST = 64 << 20
"""Bytes that `heavy` keeps resident."""


def tiny(path: str) -> GPT2LMHeadModel:
    """Make a small model; `path` is its number of layers."""
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=32,
        n_positions=32,
        n_embd=16,
        n_layer=int(path),
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config)


def heavy(path: str) -> GPT2LMHeadModel:
    """Make the small model with ballast."""
    model = tiny(path)
    model.register_buffer("ballast", torch.ones(BALLAST, dtype=torch.uint8))
    return model


def refusing(path: str) -> Any:
    """Raise an error of ours."""
    raise ModelFileError(f"{path}: is no model")


def broken(path: str) -> Any:
    """Raise an error that is not ours, after some noise on standard output."""
    os.write(1, b"noise of a library\n")
    raise RuntimeError(f"cannot make {path}")


def killed(path: str) -> Any:
    """End as under the kernel's out-of-memory killer."""
    os.kill(os.getpid(), signal.SIGKILL)


def kernels(model: GPT2LMHeadModel) -> dict[str, str]:
    """Name a kernel for each block."""
    return {f"h.{i}": "reference" for i in range(model.config.n_layer)}
