"""One model tuned and quantized by one command: QLoRA, or whatever order the method asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quantale.core.errors import UsageError
from quantale.core.progress import Progress
from quantale.core.recipe_file import ResolvedRecipe
from quantale.core.recipe_variants import BASE, VariantSection
from quantale.core.records import read_json
from quantale.quant.save import PROOF_DTYPE, verify_saves
from quantale.stages.corpus import open_corpus
from quantale.stages.quantize import source_of
from quantale.stages.train import set_threads
from quantale.stages.tune import tuning_of
from quantale.stages.variants import make_methods
from quantale.stages.workshop import Workshop


def train_packed(
    resolved: ResolvedRecipe,
    packing: Mapping[str, Any],
    out: Path,
    *,
    resume: bool,
    progress: Progress,
) -> dict[str, Any]:
    """Make `quantize/NAME` and `tune/NAME` in a folder, the later one of the earlier.

    packing: fields of a variant that say how it is quantized. The last of the two is verified in a
    fresh process. Returns what happened, JSON-able.
    """
    recipe = resolved.recipe
    if recipe.train is None or recipe.model.path is None:
        raise UsageError("a model is tuned and quantized by a train section and a path")
    name = f"{packing['method']}-{recipe.train.method}"
    variant = VariantSection(name=name, tune=recipe.train, **packing)
    make_methods(variant)
    tuning_of(recipe.train)
    set_threads(recipe)
    workshop = Workshop(recipe, open_corpus(recipe), out, resume, progress)
    made = workshop.make(variant, {BASE: source_of(recipe.model.path)})
    progress.stage("verify")
    verify_saves({made.source.folder: made.proof}, PROOF_DTYPE)
    summary = read_json(out / "tune" / name / "summary.json")
    cost = read_json(out / "tune" / name / "cost.json")
    return {**summary, **cost, "out": str(made.source.folder)}
