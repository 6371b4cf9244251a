"""The command on the page asks for the very same recipe again."""

import shlex
from pathlib import Path

import pytest

from quantale.core.errors import DataError, UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_file import load_recipe
from quantale.stages.asked import command_of
from quantale.stages.pipeline import run_recipe


def test_every_changed_value_is_in_the_command_and_gives_the_same_recipe() -> None:
    sets = ["train.steps=90", "data=my stories.txt", "variants.0.bits=5", "report.top_k=null"]
    first = load_recipe("quickstart", sets)
    words = shlex.split(command_of(first, None))
    assert words[:3] == ["quantale", "run", "quickstart"]
    again = load_recipe("quickstart", words[4::2])
    assert again.recipe == first.recipe
    assert command_of(load_recipe("quickstart"), None) == "quantale run quickstart"


@pytest.mark.parametrize("protocol", ["blocks", "stride:many", "document:3"])
def test_a_protocol_with_a_wrong_number_fails_before_anything_is_written(
    protocol: str, tmp_path: Path
) -> None:
    resolved = load_recipe("quickstart", [f"evaluate.protocol={protocol}"])
    with pytest.raises(UsageError, match=protocol.partition(":")[0]):
        run_recipe(resolved, tmp_path / "run", only=None, resume=False, progress=Silent())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stories.template='{genre} {opening}'", "has no 'genre'"),
        ("code.data=nowhere.jsonl#code", "does not exist"),
    ],
)
def test_what_later_stages_lack_is_told_before_anything_is_made(
    change: str, message: str, tmp_path: Path
) -> None:
    stories = tmp_path / "plain.txt"
    stories.write_text("\n\n".join(f"Once there was a fox {i}. It ran." for i in range(40)))
    resolved = load_recipe("quickstart", [f"data={stories}", change])
    with pytest.raises(DataError, match=message):
        run_recipe(resolved, tmp_path / "run", only=None, resume=False, progress=Silent())
    assert not (tmp_path / "run").exists()
