"""A recipe of seconds: a tiny model on generated stories, and short trainings of its variants."""

from pathlib import Path
from typing import Any

from quantale.core.progress import Silent
from quantale.core.recipe_file import Draft, ResolvedRecipe, resolve
from quantale.stages.pipeline import run_recipe

TRAIN = {
    "steps": 3,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "min_learning_rate": 1e-4,
    "warmup_steps": 1,
    "evaluate_every": 3,
    "evaluate_documents": 4,
    "checkpoint_every": 3,
}


def tiny_recipe(*variants: dict[str, Any]) -> ResolvedRecipe:
    draft = {
        "name": "taught",
        "seed": 1,
        "threads": 1,
        "data": {"source": "storygen", "train_documents": 40, "validation_documents": 4},
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "model": {"layers": 2, "heads": 2, "width": 16, "context": 32, "dropout": 0.0},
        "train": TRAIN,
        "variants": list(variants),
        "evaluate": {"documents": 3},
        "bench": None,
    }
    return resolve(Draft(draft, {}), [], "here")


def run_until(resolved: ResolvedRecipe, out: Path, last: str) -> None:
    for stage in ("train", "quantize", "tune", "verify"):
        run_recipe(resolved, out, only=stage, resume=False, progress=Silent())
        if stage == last:
            return
