"""The schema: what shipped recipes contain, and which values no recipe may have."""

from typing import Any

import pytest
from pydantic import ValidationError

from quantale.core.recipe import Recipe
from quantale.core.recipe_file import load_recipe, recipe_names

TRAIN = {
    "steps": 10,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "min_learning_rate": 1e-4,
    "warmup_steps": 2,
    "evaluate_every": 5,
    "checkpoint_every": 5,
}


def recipe(**sections: Any) -> Recipe:
    return Recipe.model_validate({"name": "tiny", "train": TRAIN, **sections})


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_says_what_it_is(name: str) -> None:
    loaded = load_recipe(name).recipe
    assert loaded.name == name
    assert loaded.description


def test_both_recipes_of_this_release_are_shipped() -> None:
    assert {"quickstart", "nanogptq"} <= set(recipe_names())


def test_nanogptq_has_the_published_numbers() -> None:
    loaded = load_recipe("nanogptq").recipe
    model, train = loaded.model, loaded.train
    assert train is not None
    assert (model.layers, model.heads, model.width, model.context) == (6, 6, 192, 256)
    assert (model.dropout, model.bias) == (0.1, False)
    assert (train.steps, train.batch_size, train.accumulation) == (1500, 128, 1)
    assert (train.learning_rate, train.min_learning_rate, train.warmup_steps) == (5e-4, 5e-5, 75)
    assert (train.betas, train.weight_decay) == ((0.9, 0.95), 0.1)
    assert loaded.tokenizer.kind == "characters"
    assert loaded.data.split == (0.8, 0.1, 0.1)
    int8 = [v for v in loaded.variants if v.bits == 8]
    assert [v.method for v in int8] == ["rtn", "gptq"]
    assert all(v.symmetric and v.group_size == "row" for v in int8)
    # blocks (attention 4 w^2, mlp 8 w^2), norms of width w, positions; the head is tied
    width, layers, context = model.width, model.layers, model.context
    blocks = layers * (12 * width**2 + 2 * width)
    assert blocks + width + context * width == 2_705_856


def test_quickstart_is_a_model_of_about_a_million_parameters_with_packed_embeddings() -> None:
    loaded = load_recipe("quickstart").recipe
    model = loaded.model
    total = (
        12 * model.layers * model.width**2
        + (model.context + loaded.tokenizer.vocab_size) * model.width
    )
    assert 0.8e6 < total < 1.3e6
    packed = {(v.method, v.bits, v.embedding_bits) for v in loaded.variants if v.embedding_bits}
    assert packed == {("gptq", 4, 8), ("gptq", 3, 4)}


def test_a_recipe_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        setattr(recipe(), "seed", 3)  # noqa: B010  the assignment itself is the fault


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"model": {"heads": 5}}, "5 heads do not divide width 192"),
        ({"model": {"kind": "pretrained"}}, "needs a path"),
        ({"model": {"path": "x"}}, "only a model of kind 'pretrained'"),
        ({"model": {"kind": "pretrained", "path": "x"}}, "keeps its own tokenizer"),
        ({"train": None}, "train section is needed"),
        ({"tokenizer": {"kind": "pretrained"}}, "tokenizer needs a path"),
        ({"tokenizer": {"vocab_size": 256}}, "greater than or equal to 257"),
        ({"train": {**TRAIN, "warmup_steps": 11}}, "longer than the training"),
        ({"train": {**TRAIN, "min_learning_rate": 1e-2}}, "above the peak"),
        ({"train": {**TRAIN, "learning_rate": float("nan")}}, "finite"),
        ({"train": {**TRAIN, "steps": True}}, "valid integer"),
        ({"calibration": {"length": 300}}, "more than the model's context of 256"),
        ({"data": {"split": (0.5, 0.4, 0.2)}}, "add up to 1"),
        ({"compare": {"margin": 0.0}}, "greater than 0"),
        ({"calibration": {"generated": True, "data": "x.txt"}}, "drop one of the two"),
        ({"name": "../x"}, "not safe as a folder name"),
    ],
)
def test_impossible_values_are_refused(sections: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        recipe(**sections)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bits": 0}, "greater than or equal to 1"),
        ({"bits": 9}, "less than or equal to 8"),
        ({"embedding_bits": 0}, "greater than or equal to 1"),
        ({"group_size": 1}, "greater than or equal to 2"),
        ({"group_size": "col"}, "'row' or 'tensor'"),
        ({"method": None}, "there are no rules in its place"),
        ({"method": None, "rules": ({"method": "rtn"},), "bits": 3}, "'bits' needs a method"),
        ({"rules": ({"method": None, "bits": 3},)}, "full precision has no setting 'bits'"),
        ({"rules": ({"method": "none", "settings": {"damp": 1}},)}, "no setting 'damp'"),
        ({"rules": ({"match": "a"},)}, "Field required"),
        ({"rules": ({"method": "rtn", "role": "mpl"},)}, "'attention'"),
        ({"rules": ({"method": "rtn", "min_size": 0},)}, "greater than or equal to 1"),
        ({"dtype": "float8"}, "'bfloat16'"),
        ({"name": "a/b"}, "not safe"),
        ({"name": "."}, "not safe"),
        ({"name": "-x"}, "not safe"),
        ({"name": "x."}, "not safe"),
        ({"name": "x" * 65}, "not safe"),
        ({"name": "naïve"}, "not safe"),
    ],
)
def test_impossible_variants_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        recipe(variants=({"name": "a", "method": "rtn", **changes},))


def test_names_that_differ_only_in_case_would_share_a_folder() -> None:
    variants = ({"name": "a", "method": "rtn"}, {"name": "A", "method": "rtn"})
    with pytest.raises(ValidationError, match="already the name of"):
        recipe(variants=variants)


def test_a_pretrained_model_needs_no_training() -> None:
    found = Recipe.model_validate(
        {
            "name": "x",
            "model": {"kind": "pretrained", "path": "p"},
            "tokenizer": {"kind": "pretrained"},
        }
    )
    assert found.train is None
