"""From a recipe to a trained model: tokenizer, windows, loop, sealed run."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from quantale.core import run as runs
from quantale.core.errors import UsageError
from quantale.core.progress import Progress
from quantale.core.recipe import ModelSection, Recipe, TrainSection
from quantale.core.recipe_file import ResolvedRecipe
from quantale.core.records import read_json, write_json
from quantale.core.run import Run, RunKey
from quantale.data import tokenizers, windows
from quantale.models.build import build_model
from quantale.models.load import load
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.save import write_model
from quantale.stages.corpus import Corpus, first_documents, open_corpus
from quantale.tuning.full import Full
from quantale.tuning.loop import train
from quantale.tuning.settings import TrainData, TrainResult, TrainSettings

VERSION = 2


def train_command(
    resolved: ResolvedRecipe, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any]:
    """Train the model of a recipe into a sealed run; returns what happened, JSON-able."""
    recipe = resolved.recipe
    set_threads(recipe)
    run = train_stage(recipe, open_corpus(recipe), out, resume=resume, progress=progress)
    summary, cost = (read_json(run.path / name) for name in ("summary.json", "cost.json"))
    return {"out": str(run.path), **summary, **cost}


def set_threads(recipe: Recipe) -> None:
    """Use the recipe's number of threads; it is part of the result's identity."""
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)


def train_stage(
    recipe: Recipe, corpus: Corpus, out: Path, *, resume: bool, progress: Progress
) -> Run:
    """Train, or return the sealed run of an earlier training with the same key."""
    if recipe.train is None:
        raise UsageError("the recipe has no train section; nothing to train")
    key = train_key(recipe, corpus)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    with runs.making(out, key, resume=resume) as folder:
        model, tokenizer = _start(recipe, corpus)
        data = _data(recipe, recipe.train, corpus, tokenizer, _context(model))
        result = train(model, Full(), data, _settings(recipe, recipe.train), folder, progress)
        model.config.training_seed = recipe.seed
        write_model(model, tokenizer, folder / "model")
        write_json(folder / "summary.json", _summary(model, corpus, tokenizer, result))
        write_json(folder / "cost.json", _cost(result))
    return runs.open_run(out)


def train_key(recipe: Recipe, corpus: Corpus) -> RunKey:
    """Return what the bytes of the training depend on."""
    settings = recipe.model_dump(mode="json", include={"seed", "tokenizer", "model", "train"})
    parents = {"train": corpus.train.sha256, "validation": corpus.validation.sha256}
    return RunKey("train", VERSION, settings, parents)


def _start(recipe: Recipe, corpus: Corpus) -> tuple[Any, Any]:
    """Return the model before training, and its tokenizer."""
    if recipe.model.kind == "pretrained":
        model, tokenizer, _ = load(str(recipe.model.path))
        if recipe.tokenizer.path is not None:
            tokenizer = tokenizers.load_tokenizer(recipe.tokenizer.path)
        return model, tokenizer
    tokenizer = _tokenizer(recipe, corpus)
    config = nanogpt_config(recipe.model, len(tokenizer))
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    return build_model(config, seed=recipe.seed), tokenizer


def nanogpt_config(shape: ModelSection, vocabulary: int) -> NanoGPTConfig:
    """Return the configuration of a recipe's own model."""
    return NanoGPTConfig(
        vocab_size=vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        n_positions=shape.context,
        dropout=shape.dropout,
        bias=shape.bias,
    )


def _tokenizer(recipe: Recipe, corpus: Corpus) -> Any:
    wanted = recipe.tokenizer
    if wanted.kind == "characters":
        return tokenizers.train_characters(corpus.train.texts)
    if wanted.kind == "bpe":
        return tokenizers.train_bpe(corpus.train.texts, wanted.vocab_size)
    return tokenizers.load_tokenizer(str(wanted.path))


def _data(
    recipe: Recipe, section: TrainSection, corpus: Corpus, tokenizer: Any, context: int
) -> TrainData:
    stream = windows.encode_documents(tokenizer, corpus.train.texts)
    sampler = windows.WindowSampler(
        stream, context, section.batch_size, recipe.seed, align="stream"
    )
    held_out = first_documents(corpus.validation, section.evaluate_documents)
    return TrainData(sampler.batch, validation_batches(tokenizer, held_out.texts, context, section))


def validation_batches(
    tokenizer: Any, texts: list[str], context: int, section: TrainSection
) -> Sequence[Tensor]:
    """Return held-out documents as rows (rows, context + 1), each token a target once.

    A document begins a row, as in evaluation; what is longer goes on in rows of its own.
    """
    stream = windows.encode_documents(tokenizer, texts)
    tokens = torch.from_numpy(stream.tokens.astype("int64"))
    ends = [*stream.starts[1:].tolist(), len(tokens)]
    rows = [
        _row(tokens[start : min(start + context + 1, end)], context + 1)
        for first, end in zip(stream.starts.tolist(), ends, strict=True)
        for start in range(first, end - 1, context)
    ]
    return list(torch.split(torch.stack(rows), section.batch_size))


def _row(tokens: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, length - len(tokens)), value=-100)


def _settings(recipe: Recipe, section: TrainSection) -> TrainSettings:
    values = section.model_dump(exclude={"batch_size", "evaluate_documents"})
    return TrainSettings(**values, seed=recipe.seed)


def _context(model: Any) -> int:
    return int(model.config.max_position_embeddings)


def _summary(model: Any, corpus: Corpus, tokenizer: Any, result: TrainResult) -> dict[str, Any]:
    parameters = list(model.parameters())
    return {
        "steps": result.steps,
        "best_step": result.best_step,
        "validation_loss": result.best_loss,
        "parameters": sum(p.numel() for p in parameters),
        "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "vocabulary": len(tokenizer),
        "precision": result.precision,
        "device": result.device,
        "threads": result.threads,
        "train_documents": len(corpus.train),
        "unknown_in_validation": tokenizers.count_unknown(tokenizer, corpus.validation.texts),
    }


def _cost(result: TrainResult) -> dict[str, Any]:
    """Return what the training took; unlike the summary it differs from run to run."""
    cost = result.cost
    return {**asdict(cost), "tokens_per_second": cost.tokens_per_second}
