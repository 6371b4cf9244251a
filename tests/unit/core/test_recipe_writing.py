"""Sections that let models write."""

import pytest

from quantale.core.errors import QuantaleError
from quantale.core.recipe_file import load_recipe


def test_stories_and_code_are_off_until_a_section_asks() -> None:
    recipe = load_recipe("nanogptq").recipe
    assert (recipe.stories, recipe.code) == (None, None)
    asked = load_recipe("nanogptq", ["stories.prompts=7", "code.data=f.jsonl#code"]).recipe
    assert asked.stories is not None
    assert (asked.stories.prompts, asked.stories.template) == (7, None)
    assert asked.code is not None
    assert asked.code.data == "f.jsonl#code"


@pytest.mark.parametrize(
    ("template", "reason"),
    [("{title}", "is none of genre"), ("{opening", "stray brace"), ("once", "would be equal")],
)
def test_a_template_names_known_fields(template: str, reason: str) -> None:
    with pytest.raises(QuantaleError, match=reason):
        load_recipe("nanogptq", [f"stories.template='{template}'"])
