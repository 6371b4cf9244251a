"""From a recipe to a trained model: tokenizer, windows, loop, sealed run."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config

from quantale.core import processes
from quantale.core import run as runs
from quantale.core.errors import UsageError
from quantale.core.progress import Progress
from quantale.core.recipe import ModelSection, Recipe
from quantale.core.recipe_file import ResolvedRecipe
from quantale.core.recipe_training import TrainSection
from quantale.core.records import read_json, write_json
from quantale.core.run import Run, RunKey
from quantale.data import tokenizers
from quantale.evaluation.windows import named_context
from quantale.models.adapter_record import is_adapted
from quantale.models.build import build_gpt2, build_model
from quantale.models.classifier import as_classifier
from quantale.models.load import load, local_folder, read_config
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant.cast import cast_rest
from quantale.quant.linear import parameters
from quantale.quant.save import write_model
from quantale.stages.corpus import Corpus, open_corpus
from quantale.stages.together import check_rows, heard, is_made, leave, making_together
from quantale.stages.training_data import class_names, training_data
from quantale.stages.training_length import epochs_of, train_settings
from quantale.stages.variants import make_tuning
from quantale.tuning.loop import train
from quantale.tuning.method import Start
from quantale.tuning.settings import TrainData, TrainResult

VERSION = 3


def train_command(
    resolved: ResolvedRecipe, out: Path, *, resume: bool, progress: Progress
) -> dict[str, Any] | None:
    """Train the model of a recipe into a sealed run; returns what happened, JSON-able.

    Of several processes (`torchrun`) only the first returns something to show.
    """
    recipe, progress = resolved.recipe, heard(progress)
    set_threads(recipe)
    _make_run(recipe, open_corpus(recipe), out, resume=resume, progress=progress)
    leave()
    if processes.rank() > 0:
        return None  # on another machine the run is not even there
    run = runs.open_run(out)
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
    _make_run(recipe, corpus, out, resume=resume, progress=progress)
    return runs.open_run(out)


def _make_run(
    recipe: Recipe, corpus: Corpus, out: Path, *, resume: bool, progress: Progress
) -> None:
    if recipe.train is None:
        raise UsageError("the recipe has no train section; nothing to train")
    key = train_key(recipe, corpus)
    if is_made(out, key):
        progress.note(f"{out} is there already: skipped")
        return
    with making_together(out, key, resume=resume) as folder:
        model, tokenizer = beginning(recipe, corpus)
        job = TrainJob(recipe.train, corpus, tokenizer, recipe.seed)
        path = recipe.train.teacher
        teacher = None if path is None else teacher_of(path, tokenizer)
        base, stored = None, torch.float32
        if recipe.model.kind == "pretrained":
            base = recipe.model.path
            stored = stored_dtype(local_folder(str(base)))
        start = Start(model, teacher, seed=recipe.seed, base=base, dtype=stored)
        run_training(job, start, folder, progress)


@dataclass(frozen=True)
class TrainJob:
    """What is done with a model, whatever it starts from."""

    section: TrainSection
    corpus: Corpus
    tokenizer: Any
    seed: int
    dtype: torch.dtype | None = None
    """Of what a tuning method that packs leaves in full precision; None: float32."""


def teacher_of(path: str | Path, tokenizer: Any) -> Any:
    """Load a model that others learn from: frozen, in evaluation mode.

    Raises UsageError when its tokenizer is not that of the model that learns: a teacher says how
    likely each token is, so both must mean the same by every number.
    """
    teacher = load(path)
    known = [one for one in (teacher.tokenizer, tokenizer) if one is not None]
    if len({tokenizers.tokenizer_sha256(one) for one in known}) > 1:
        theirs, mine = map(len, known)
        raise UsageError(
            f"the teacher {path} has another tokenizer ({theirs} tokens) than the model "
            f"({mine} tokens); take a teacher with the model's own tokenizer"
        )
    return teacher.model.requires_grad_(False)


def stored_dtype(folder: Path) -> torch.dtype:
    """Return the dtype in which the file of a model keeps what is not packed."""
    found = read_config(folder).dtype
    return found if isinstance(found, torch.dtype) else torch.float32


def run_training(job: TrainJob, start: Start, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train in a staging folder and write model, summary and cost; returns the summary.

    Of several processes the first writes and the others get an empty summary. Raises UsageError
    where tuning method and model do not fit together.
    """
    section, tokenizer, progress = job.section, job.tokenizer, heard(progress)
    check_rows(section.batch_size)
    tuning = make_tuning(section.method, section.settings)
    if tuning.needs_teacher and start.teacher is None:
        raise UsageError(f"the tuning method {section.method} needs a teacher")
    if is_adapted(start.model):
        raise UsageError("an adapter cannot be trained further; merge it, then train the result")
    start = _with_head(job, start)
    context = named_context(start.model.config)
    data = training_data(section, job.corpus, tokenizer, context, job.seed)
    for line in _warnings(data.record, job.corpus):
        progress.note(line)
    first = data.batches(0)
    work = tuning.begin(replace(start, sample=first.inputs, sample_mask=first.used))
    trained = work.objective.trainable(work.model).values()
    counts = {
        "parameters": parameters(work.model),
        "trainable_parameters": sum(p.numel() for p in trained),
    }
    settings = replace(train_settings(section, job.seed, data), maps=work.maps)
    if section.epochs is not None:
        progress.note(f"{section.epochs:g} epochs are {settings.steps} steps")
    result = train(work.model, work.objective, data, settings, folder, progress)
    if processes.rank() > 0:
        return {}
    model = work.finish()
    if job.dtype is not None:
        cast_rest(model, job.dtype)
    model.config.training_seed = job.seed
    write_model(model, tokenizer, folder / "model")
    read = {**data.record, "repeated": job.corpus.repeated()}
    summary = {**_summary(job, result, data), "data": read, **counts, **work.record()}
    write_json(folder / "summary.json", summary)
    write_json(folder / "cost.json", _cost(result))
    return summary


def _with_head(job: TrainJob, start: Start) -> Start:
    """Return the start with a head for classes where classes are learnt."""
    section = job.corpus.section
    if not section.learns_classes:
        return start
    names = class_names(section, job.corpus.train)
    model = as_classifier(start.model, names, job.tokenizer, seed=job.seed)
    return replace(start, model=model)


def _warnings(record: Mapping[str, Any], corpus: Corpus) -> Iterator[str]:
    """Say which documents are not learnt as they are, and which stand in two parts."""
    lost = [f"{record[what]} {what}" for what in ("dropped", "cut") if record.get(what)]
    if lost:
        yield (
            f"of {record['documents']} training documents {' and '.join(lost)}: "
            f"a row has {record['length']} tokens"
        )
    for parts, count in corpus.repeated().items():
        if count:
            yield f"{count} documents stand in two parts of the data ({parts})"


def train_key(recipe: Recipe, corpus: Corpus) -> RunKey:
    """Return what the bytes of the training depend on."""
    settings = recipe.model_dump(mode="json", include={"seed", "tokenizer", "model", "train"})
    settings["reading"] = corpus.reading
    parents = {"train": corpus.train.sha256, "validation": corpus.validation.sha256}
    return RunKey("train", VERSION, settings, parents)


def beginning(recipe: Recipe, corpus: Corpus) -> tuple[Any, Any]:
    """Return the model before training, and its tokenizer."""
    if recipe.model.kind == "pretrained":
        model, tokenizer, _ = load(str(recipe.model.path))
        if recipe.tokenizer.path is not None:
            tokenizer = tokenizers.load_tokenizer(recipe.tokenizer.path)
        return model, tokenizer
    tokenizer = corpus_tokenizer(recipe, corpus)
    config = own_config(recipe.model, len(tokenizer))
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    config.pad_token_id = tokenizer.pad_token_id
    return build_own(config, seed=recipe.seed), tokenizer


def own_config(shape: ModelSection, vocabulary: int) -> NanoGPTConfig | GPT2Config:
    """Return the configuration of a recipe's own model."""
    return _CONFIGS[shape.kind](shape, vocabulary)


def build_own(config: NanoGPTConfig | GPT2Config, *, seed: int) -> Any:
    """Build a recipe's own model."""
    make = build_gpt2 if isinstance(config, GPT2Config) else build_model
    return make(config, seed=seed)


def _gpt2_config(shape: ModelSection, vocabulary: int) -> GPT2Config:
    rate = shape.dropout
    return GPT2Config(
        vocab_size=vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        n_positions=shape.context,
        bos_token_id=None,
        eos_token_id=None,
        embd_pdrop=rate,
        attn_pdrop=rate,
        resid_pdrop=rate,
    )


def nanogpt_config(shape: ModelSection, vocabulary: int) -> NanoGPTConfig:
    """Return the configuration of a nanoGPT."""
    return NanoGPTConfig(
        vocab_size=vocabulary,
        n_layer=shape.layers,
        n_head=shape.heads,
        n_embd=shape.width,
        n_positions=shape.context,
        dropout=shape.dropout,
        bias=shape.bias,
    )


_CONFIGS = {"nanogpt": nanogpt_config, "gpt2": _gpt2_config}


def corpus_tokenizer(recipe: Recipe, corpus: Corpus) -> Any:
    """Train the tokenizer of a recipe, or load it."""
    wanted = recipe.tokenizer
    if wanted.kind == "characters":
        return tokenizers.train_characters(corpus.train.texts)
    if wanted.kind == "bpe":
        return tokenizers.train_bpe(corpus.train.texts, wanted.vocab_size)
    return tokenizers.load_tokenizer(str(wanted.path or recipe.model.path))


def _summary(job: TrainJob, result: TrainResult, data: TrainData) -> dict[str, Any]:
    tokenizer, corpus = job.tokenizer, job.corpus
    return {
        "method": job.section.method,
        "optimizer": job.section.optimizer,
        "steps": result.steps,
        "epochs": epochs_of(job.section, result.steps, data),
        "best_step": result.best_step,
        "validation_loss": result.best_loss,
        "validation_accuracy": result.best_accuracy,
        "vocabulary": len(tokenizer),
        "precision": result.precision,
        "device": result.device,
        "threads": result.threads,
        "processes": result.processes,
        "train_documents": len(corpus.train),
        "unknown_in_validation": tokenizers.count_unknown(tokenizer, corpus.validation.texts),
    }


def _cost(result: TrainResult) -> dict[str, Any]:
    """Return what the training took; unlike the summary it differs from run to run."""
    cost = result.cost
    return {**asdict(cost), "tokens_per_second": cost.tokens_per_second}
