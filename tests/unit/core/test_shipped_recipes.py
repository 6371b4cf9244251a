"""Shipped recipes: every profile parses, sweeps are written out, budgets are equal."""

import itertools

import pytest

from quantale.core.recipe import Recipe
from quantale.core.recipe_file import dump, load_recipe, recipe_names, recipe_profiles
from quantale.core.recipe_sweep import points
from quantale.core.recipe_training import TrainSection

PROFILES = [
    (name, profile) for name in recipe_names() for profile in (None, *recipe_profiles(name))
]
TUNED = ["tiny-storyteller", "onebit-qlora"]


def tunes(recipe: Recipe) -> dict[str, TrainSection]:
    return {v.name: v.tune for v in recipe.variants if v.tune is not None}


def rows(section: TrainSection) -> int:
    assert section.steps is not None
    return section.steps * section.batch_size * section.accumulation


@pytest.mark.parametrize(("name", "profile"), PROFILES)
def test_every_profile_parses_and_its_sweeps_are_written_out(
    name: str, profile: str | None
) -> None:
    recipe = load_recipe(name, profile=profile).recipe
    known = {v.name: v.model_dump(mode="json") for v in recipe.variants}
    for sweep in recipe.sweep:
        found = points(sweep, known)
        assert len(found) == len(list(itertools.product(*sweep.over.values())))
        assert {point.name for point in found} <= set(known)


@pytest.mark.parametrize(("name", "profile"), PROFILES)
def test_every_profile_is_itself_again_when_it_was_written_down(
    name: str, profile: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    recipe = load_recipe(name, profile=profile).recipe
    path = tmp_path_factory.mktemp("recipe") / "again.yaml"
    path.write_text(dump(recipe))
    assert load_recipe(str(path)).recipe == recipe


@pytest.mark.parametrize("name", TUNED)
@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_every_method_sees_as_many_tokens(name: str, profile: str) -> None:
    recipe = load_recipe(name, profile=profile).recipe
    budgets = {rows(section) for section in tunes(recipe).values()}
    assert len(budgets) == 1
    if profile == "full":
        assert recipe.train is not None
        assert budgets == {rows(recipe.train)}
    else:
        assert "full" in tunes(recipe)


def test_onebit_qlora_has_the_published_numbers_and_all_its_variants() -> None:
    recipe = load_recipe("onebit-qlora", profile="full").recipe
    assert (recipe.data.train_documents, recipe.data.validation_documents) == (10_000, 1_000)
    assert (recipe.data.length, recipe.model.path) == (512, "openai-community/gpt2")
    assert recipe.train is not None
    assert (recipe.train.batch_size, rows(recipe.train)) == (4, 3 * 10_000)
    made = {v.name: (v.method, v.bits, v.tune and v.tune.method) for v in recipe.variants}
    assert (
        made
        | {
            "ptq-8bit": ("rtn", 8, None),
            "ptq-4bit": ("rtn", 4, None),
            "qat-8bit": ("rtn", 8, "qat"),
            "qat-4bit": ("rtn", 4, "qat"),
            "qlora": ("nf4", None, "lora"),
            "bitnet": ("bitnet", None, "qat"),
            "qlora-bitnet": ("bitnet", None, "lora"),
        }
        == made
    )
    settings = tunes(recipe)["qlora"].settings
    assert (settings["rank"], settings["alpha"]) == (8, 16)


def test_tiny_storyteller_has_the_original_and_its_future_work() -> None:
    recipe = load_recipe("tiny-storyteller", profile="full").recipe
    train = recipe.train
    assert train is not None
    assert (recipe.model.path, recipe.data.source) == ("distilbert/distilgpt2", "tinystories")
    assert (train.batch_size, train.precision) == (4, "fp16")
    assert train.accumulation > 1
    made = {v.name: v for v in recipe.variants}
    assert {"bnb-nf4", "hqq-1bit", "qlora", "hybrid", "student"} <= set(made)
    assert [rule.method for rule in made["hybrid"].rules] == ["hqq", "nf4"]
    assert tunes(recipe)["student"].settings == {"layers": 3}  # half of DistilGPT2's six
    swept = {s.variant: s.over["group_size"] for s in recipe.sweep}
    assert swept == dict.fromkeys(("nf4", "hqq-1bit"), (16, 32, 64, 128, 256, "row"))


@pytest.mark.parametrize("profile", ["smoke", "full"])
def test_the_two_sides_of_persona_tales_share_template_and_stories(profile: str) -> None:
    small, large = (
        load_recipe(name, profile=profile).recipe
        for name in ("persona-tales", "persona-tales-large")
    )
    names = ("source", "template", "split_by", "shuffle_seed", "test_documents")
    assert [getattr(small.data, n) for n in names] == [getattr(large.data, n) for n in names]
    assert small.data.split[2] == large.data.split[2]
    assert (small.seed, small.evaluate.protocol, small.evaluate.documents) == (
        large.seed,
        large.evaluate.protocol,
        large.evaluate.documents,
    )
