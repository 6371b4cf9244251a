"""The command on the page asks for the very same recipe again."""

import shlex

from quantale.core.recipe_file import load_recipe
from quantale.stages.pipeline import _command


def test_every_changed_value_is_in_the_command_and_gives_the_same_recipe() -> None:
    sets = ["train.steps=90", "data=my stories.txt", "variants.0.bits=5", "report.top_k=null"]
    first = load_recipe("quickstart", sets)
    words = shlex.split(_command(first))
    assert words[:3] == ["quantale", "run", "quickstart"]
    again = load_recipe("quickstart", words[4::2])
    assert again.recipe == first.recipe
    assert _command(load_recipe("quickstart")) == "quantale run quickstart"
