"""A recipe of seconds: a tiny model on generated stories, and short trainings of its variants."""

from pathlib import Path
from typing import Any

from quantale.core.progress import Silent
from quantale.core.recipe_file import Draft, ResolvedRecipe, load_recipe, resolve
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


def tiny_recipe(*variants: dict[str, Any], **sections: Any) -> ResolvedRecipe:
    """Return a recipe with these variants; sections: added, or in place of those below."""
    draft = {
        "name": "tiny",
        "seed": 1,
        "threads": 1,
        "data": {"source": "storygen", "train_documents": 40, "validation_documents": 4},
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "model": {"layers": 2, "heads": 2, "width": 16, "context": 32, "dropout": 0.0},
        "train": TRAIN,
        "variants": list(variants),
        "evaluate": {"documents": 3},
        "bench": None,
        **sections,
    }
    return resolve(Draft(draft, {}), [], "here")


def run_until(resolved: ResolvedRecipe, out: Path, last: str = "verify") -> None:
    """Run the stages up to this one."""
    for stage in ("train", "quantize", "tune", "verify"):
        run_recipe(resolved, out, only=stage, resume=False, progress=Silent())
        if stage == last:
            return


def tiny_sets(name: str, data: list[str]) -> list[str]:
    """Return what makes the smoke profile of a shipped recipe a matter of seconds.

    data: the `--set`s of what it reads.
    """
    recipe = load_recipe(name, data, "smoke").recipe
    heads = recipe.model.heads or 1
    sets = [
        *data,
        f"model.width={64 if 64 % heads == 0 else 32 * heads}",
        f"model.context={256 if recipe.data.template or recipe.stories else 64}",
        "data.length=64",
        "calibration.length=32",
        "calibration.samples=8",
        *([] if recipe.tokenizer.kind == "characters" else ["tokenizer.vocab_size=300"]),
        "data.train_documents=60",
        "data.validation_documents=6",
        "data.test_documents=8",
        "evaluate.documents=6",
        "compare.resamples=200",
        "bench=null",
        *_short("train"),
    ]
    swept = {v for s in recipe.sweep for v in (s.variant,)}
    for index, variant in enumerate(recipe.variants):
        is_written = any(variant.name.startswith(f"{one}-") for one in swept)
        if variant.tune is not None and (not is_written or variant.name in swept):
            sets += _short(f"variants.{index}.tune")
    if recipe.stories is not None:
        sets += ["stories.prompts=2", "stories.new_tokens=6"]
    return [*sets, "report.new_tokens=4"]


def _short(section: str) -> list[str]:
    values = {
        "steps": 3,
        "warmup_steps": 1,
        "evaluate_every": 3,
        "evaluate_documents": 4,
        "checkpoint_every": 3,
        "batch_size": 2,
    }
    return [f"{section}.{key}={value}" for key, value in values.items()]
