"""What a recipe will need, before it starts: time from a probe, memory and disk from geometry."""

import shutil
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from quantale.core.recipe import Recipe
from quantale.core.recipe_training import TrainSection
from quantale.data.batch import Batch
from quantale.models.load import local_folder
from quantale.stages.train import build_own, own_config, set_threads
from quantale.tuning.methods.full import Full

_PROBE_STEPS = 2
_PROCESS_BYTES = 700 * 2**20
"""Resident size of Python with torch (CPU build) and transformers loaded, as measured."""
_CHARACTERS = 128
"""Vocabulary that is assumed for a character tokenizer, which is not trained here."""


def predict(recipe: Recipe) -> dict[str, Any]:
    """Return predicted seconds, bytes of memory and of disk, and what the machine has.

    Training time comes from two real steps on random tokens; quantizing, measuring and the page
    are not part of it.
    """
    set_threads(recipe)
    config = _config(recipe)
    parameters = _parameters(config)
    found: dict[str, Any] = {"parameters": parameters, "fp32_bytes": 4 * parameters}
    memory = 2 * 4 * parameters
    if recipe.train is not None and recipe.model.kind != "pretrained":
        step_seconds, tokens = _probe(recipe, recipe.train, config)
        found["train_tokens"] = tokens * recipe.train.steps
        found["train_tokens_per_s"] = tokens / step_seconds
        found["train_seconds"] = step_seconds * recipe.train.steps
    if recipe.train is not None:
        memory = 4 * 4 * parameters + _activations(recipe, recipe.train, config)
    variants = sum(_variant_bytes(parameters, v.bits or 8) for v in recipe.variants)
    found["peak_memory_bytes"] = memory + _PROCESS_BYTES
    found["disk_bytes"] = 4 * parameters * (1 if recipe.train is None else 9) + variants
    found["memory_available_bytes"] = psutil.virtual_memory().available
    found["disk_free_bytes"] = shutil.disk_usage(Path.cwd()).free
    return found


def _config(recipe: Recipe) -> Any:
    shape = recipe.model
    if shape.kind == "pretrained":
        return AutoConfig.from_pretrained(local_folder(str(shape.path)))
    vocabulary = recipe.tokenizer.vocab_size if recipe.tokenizer.kind == "bpe" else _CHARACTERS
    return own_config(shape, vocabulary)


def _parameters(config: Any) -> int:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return sum(parameter.numel() for parameter in model.parameters())


def _probe(recipe: Recipe, section: TrainSection, config: Any) -> tuple[float, int]:
    """Return the seconds and tokens of one optimizer step."""
    model, objective = build_own(config, seed=recipe.seed).train(), Full()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    shape = (section.batch_size, recipe.model.context + 1)
    batch = Batch.of_rows(torch.randint(config.vocab_size, shape))
    bf16 = section.precision != "fp32"
    times = []
    for _ in range(1 + _PROBE_STEPS):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = objective.loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - started)
    return section.accumulation * min(times[1:]), section.accumulation * batch.positions


def _activations(recipe: Recipe, section: TrainSection, config: Any) -> int:
    """Return a rough upper bound: 34 values a token, layer and width, and fp32 logits twice."""
    tokens = section.batch_size * min(recipe.model.context, config.max_position_embeddings)
    layers, width = config.num_hidden_layers, config.hidden_size
    return int(tokens * (34 * 4 * layers * width / 2 + 2 * 4 * config.vocab_size))


def _variant_bytes(parameters: int, bits: int) -> int:
    return int(parameters * (bits + 1) / 8) + 2**20
