"""What `quantale plan` prints of its predictions."""

from pathlib import Path
from typing import Any

import pytest

from quantale.cli.app import main
from quantale.core.records import write_json

LINE: dict[str, Any] = {
    "stage": "train",
    "seconds": 90.0,
    "peak_memory_bytes": 3_000_000_000,
    "disk_bytes": 40_000_000,
    "fits": True,
}


def planned(monkeypatch: pytest.MonkeyPatch, *lines: dict[str, Any]) -> list[int | None]:
    asked: list[int | None] = []

    def plan_recipe(resolved: object, memory: int | None) -> dict[str, Any]:
        asked.append(memory)
        return {"seconds": 90.0, "stages": list(lines)}

    monkeypatch.setattr("quantale.stages.pipeline.plan_recipe", plan_recipe)
    return asked


def test_every_stage_is_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = {**LINE, "stage": "quantize/gptq", "seconds": None}
    there = {**LINE, "stage": "tune/a", "device": "cuda"}
    asked = planned(monkeypatch, LINE, unknown, there)
    assert main(["plan", "quickstart", "--memory", "4GB"]) == 0
    text = capsys.readouterr().out
    assert asked == [4 * 10**9]
    assert "train          90 s  3 GB          40 MB  yes" in text
    assert "quantize/gptq  ?     3 GB          40 MB  yes" in text
    assert "tune/a         90 s  3 GB on cuda  40 MB  yes" in text


def test_what_would_fit_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    way = {"change": "gradient_checkpointing: true", "peak_memory_bytes": 1_500_000_000}
    nothing = {**LINE, "stage": "tune/a", "fits": False, "would_fit": []}
    planned(monkeypatch, {**LINE, "fits": False, "would_fit": [way]}, nothing)
    assert main(["plan", "quickstart"]) == 0
    text = capsys.readouterr().out
    assert "NO" in text
    assert "train would fit with gradient_checkpointing: true: 1.5 GB" in text
    assert "tune/a does not fit with any change" in text


def test_a_run_is_shown_against_its_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "plan.json", {"predicted": {"stages": [LINE]}, "measured": {}})
    assert main(["plan", "--against", str(tmp_path)]) == 0
    assert "train  90 s / ?" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["plan"], ["plan", "quickstart", "--against", "runs/x"]])
def test_plan_wants_a_recipe_or_a_run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "either a recipe or --against" in capsys.readouterr().err
