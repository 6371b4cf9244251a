"""The recipe's model before any training: what variants that start from scratch take."""

from pathlib import Path
from typing import Any

import torch

from quantale.core import run as runs
from quantale.core.recipe import Recipe
from quantale.core.run import Run, RunKey
from quantale.models.load import auto_class
from quantale.quant.save import write_model
from quantale.stages.corpus import Corpus
from quantale.stages.train import beginning

VERSION = 1


def scratch_stage(recipe: Recipe, corpus: Corpus, out: Path, *, resume: bool) -> Run:
    """Write model and tokenizer into a sealed run, or return the run that is there already.

    A model that the recipe builds has the weights that its training begins with; of a pretrained
    one only the shape is taken.
    """
    settings = recipe.model_dump(mode="json", include={"seed", "tokenizer", "model"})
    key = RunKey("scratch", VERSION, settings, {"train": corpus.train.sha256})
    done = runs.sealed(out, key)
    if done is not None:
        return done
    with runs.making(out, key, resume=resume) as folder:
        model, tokenizer = beginning(recipe, corpus)
        if recipe.model.kind == "pretrained":
            model = _renewed(model, recipe.seed)
        write_model(model, tokenizer, folder / "model")
    return runs.open_run(out)


def _renewed(model: Any, seed: int) -> Any:
    """Return a model of the same shape with random weights; the random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto_class(model.config).from_config(model.config, dtype=torch.float32)
