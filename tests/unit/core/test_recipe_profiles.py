"""Profiles: named changes that are laid over a recipe, before `--set`."""

from pathlib import Path

import pytest

from quantale.core.errors import UsageError
from quantale.core.recipe_file import dump, load_recipe, recipe_names, recipe_profiles

TEXT = """name: mine
train:
  steps: 100
  batch_size: 8
  learning_rate: 1.0e-3
  min_learning_rate: 0.0
  warmup_steps: 10
  evaluate_every: 50
  checkpoint_every: 50
variants:
  - {name: a, method: rtn, bits: 8}
  - {name: b, method: rtn, bits: 4}
bench: {runs: 7}
profiles:
  full: {}
  smoke:
    train: {steps: 20}
    model: {width: 96}
    variants:
      - {name: c, method: rtn, bits: 2}
    bench: null
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "mine.yaml"
    found.write_text(TEXT)
    return found


def test_sections_are_merged_and_lists_and_null_replace(path: Path) -> None:
    plain, full = load_recipe(str(path)), load_recipe(str(path), profile="full")
    assert dump(plain.recipe) == dump(full.recipe)
    smoke = load_recipe(str(path), profile="smoke").recipe
    assert smoke.train is not None
    assert (smoke.train.steps, smoke.train.batch_size, smoke.model.width) == (20, 8, 96)
    assert [variant.name for variant in smoke.variants] == ["c"]
    assert smoke.bench is None


def test_set_comes_after_the_profile_and_origins_say_so(path: Path) -> None:
    found = load_recipe(str(path), ["train.steps=11"], "smoke")
    assert found.recipe.train is not None
    assert found.recipe.train.steps == 11
    assert found.profile == "smoke"
    assert found.origins["train.steps"] == "--set"
    assert found.origins["model.width"] == f"recipe {path}:18 (profile smoke)"
    assert found.origins["train.batch_size"] == f"recipe {path}:4"
    assert "train.steps" in load_recipe(str(path)).origins


def test_a_misspelt_profile_is_refused_with_the_nearest(path: Path) -> None:
    with pytest.raises(UsageError, match="no profile named 'smok'; did you mean 'smoke'"):
        load_recipe(str(path), profile="smok")
    with pytest.raises(UsageError, match="the recipe has none"):
        load_recipe("quickstart", profile="smoke")


@pytest.mark.parametrize("profile", [None, "full", "smoke"])
def test_every_profile_is_checked_whichever_is_asked_for(
    profile: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.replace("{steps: 20}", "{stepz: 20}"))
    with pytest.raises(UsageError, match=r"mine.yaml:17 \(profile smoke\): train.stepz: unknown"):
        load_recipe(str(path), profile=profile)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nprofiles: 3\n", "a.yaml:2: profiles: should be a mapping of names"),
        ("name: a\nprofiles:\n  smoke: 3\n", "a.yaml:3: profiles.smoke: should be a mapping"),
    ],
)
def test_profiles_have_a_shape(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_recipe(str(path))


@pytest.mark.parametrize("name", recipe_names())
def test_the_profiles_of_shipped_recipes_are_found_quickly_and_parse(name: str) -> None:
    for profile in recipe_profiles(name):
        assert load_recipe(name, profile=profile).profile == profile
