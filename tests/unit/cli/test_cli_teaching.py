"""What the verbs that learn from a teacher hand to their stages, and what they print."""

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quantale.cli.app import main
from quantale.stages.requests import HealRequest, LadderRequest


@pytest.fixture(autouse=True)
def _in_an_empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(monkeypatch: pytest.MonkeyPatch, module: str, name: str, result: Any) -> list[Any]:
    given: list[Any] = []
    fake = ModuleType(module)

    def stage(*arguments: Any, **options: Any) -> Any:
        given.extend([*arguments, options["resume"]])
        return result

    setattr(fake, name, stage)
    monkeypatch.setitem(sys.modules, module, fake)
    return given


def test_heal_hands_over_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    given = put(monkeypatch, "quantale.stages.heal", "heal_model", {"out": "x"})
    words = ["heal", "gpt2-1bit", "--teacher", "gpt2", "--data", "x.txt", "--parts", "scales"]
    assert main([*words, "--steps", "7", "--learning-rate", "0.02", "--seed", "3"]) == 0
    wanted = HealRequest("gpt2-1bit", "gpt2", "x.txt", "scales", 7, learning_rate=0.02, seed=3)
    assert given == [wanted, Path("runs/gpt2-1bit-healed"), False]


def test_ladder_prints_its_rungs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"rung": "ptq", "rise": 0.5, "rise_high": 0.6, "verdict": "PASS"}
    result = {"out": "x", "chosen": "ptq", "met": True, "rungs": [row]}
    given = put(monkeypatch, "quantale.stages.ladder", "ladder", result)
    words = ["ladder", "gpt2", "--data", "x.txt", "--bits", "1.58", "--loss", "0.02"]
    assert main([*words, "--stop-after", "heal", "--out", "o", "--resume"]) == 0
    wanted = LadderRequest("gpt2", "x.txt", "1.58", 0.02, stop_after="heal")
    assert given == [wanted, Path("o"), True]
    text = capsys.readouterr().out
    assert "PASS" in text
    assert "met     yes" in text
    assert main([*words, "--json", "--out", "p"]) == 0
    assert json.loads(capsys.readouterr().out) == result


def test_a_ladder_without_a_rung_that_fits_shows_its_rungs_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"rung": "ptq", "rise": 0.5, "rise_high": 0.6, "verdict": "FAIL"}
    result = {"out": "x", "chosen": "ptq", "met": False, "rungs": [row]}
    put(monkeypatch, "quantale.stages.ladder", "ladder", result)
    words = ["ladder", "gpt2", "--data", "x.txt", "--bits", "1.58", "--loss", "0.02"]
    assert main([*words, "--json"]) == 10
    found = capsys.readouterr()
    assert json.loads(found.out) == result
    (line,) = found.err.strip().splitlines()
    assert line.startswith("error: no rung stays below a rise of 2.00%")
    assert "ptq is kept in x" in line


def test_train_takes_a_method_and_a_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    given = put(monkeypatch, "quantale.stages.train", "train_command", {"seconds": 1})
    words = ["train", "--model", "gpt2", "--data", "x.txt", "--method", "distill"]
    assert main([*words, "--teacher", "big", "--set", "train.settings.layers=3"]) == 0
    section = given[0].recipe.train
    assert (section.method, section.teacher) == ("distill", "big")
    assert section.settings == {"layers": 3}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--model", "m", "--data", "x", "--method", "distil"], "did you mean 'distill'"),
        (["train", "--model", "m", "--data", "x", "--teacher", "./none"], "no model directory"),
        (["heal", "./none", "--teacher", "gpt2", "--data", "x"], "no model directory ./none"),
        (["ladder", "gpt2", "--data", "x"], "--bits"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_warm_up_in_steps_takes_the_place_of_the_usual_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = put(monkeypatch, "quantale.stages.train", "train_command", {"out": "x"})
    words = ["train", "--model", "folder/gpt2", "--data", "x.txt"]
    assert main([*words, "--set", "train.warmup_steps=7"]) == 0
    section = given[0].recipe.train
    assert (section.warmup_steps, section.warmup) == (7, None)
