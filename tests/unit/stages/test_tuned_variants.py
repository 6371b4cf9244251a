"""Variants with a training of their own: what each starts from, and in which order it is made."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import TRAIN, run_until, tiny_recipe

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.records import read_json
from quantale.models.load import load
from quantale.stages.pipeline import run_recipe

RTN = {"method": "rtn", "bits": 4, "group_size": 16}


def weight(folder: Path) -> torch.Tensor:
    found: torch.Tensor = load(folder).model.transformer.h[0].attn.c_attn.weight
    return found


def test_a_variant_is_tuned_from_what_it_names_and_then_quantized(tmp_path: Path) -> None:
    run_until(
        tiny_recipe(
            {"name": "longer", "tune": TRAIN},
            {"name": "packed", "start": "longer", **RTN},
            {"name": "both", "tune": TRAIN, **RTN},
        ),
        tmp_path,
    )
    longer, base = tmp_path / "tune/longer/model", tmp_path / "train/model"
    assert not torch.equal(weight(longer), weight(base))
    packed, both = tmp_path / "quantize/packed", tmp_path / "quantize/both"
    assert weight(packed).dtype == torch.uint8
    assert torch.equal(weight(packed), weight(both))
    parent = read_json(tmp_path / "tune/longer/run.json")["parents"]["model"]
    assert parent == read_json(tmp_path / "tune/both/run.json")["parents"]["model"]
    verified = read_json(tmp_path / "verify/verified.json")
    assert list(verified) == ["both", "longer", "packed"]


def test_a_tuning_is_skipped_when_it_is_there_and_opened_by_later_stages(tmp_path: Path) -> None:
    asked = tiny_recipe({"name": "longer", "tune": TRAIN})
    run_until(asked, tmp_path)
    made = (tmp_path / "tune/longer/model/model.safetensors").stat().st_mtime_ns
    run_until(asked, tmp_path)
    assert (tmp_path / "tune/longer/model/model.safetensors").stat().st_mtime_ns == made
    run_recipe(asked, tmp_path, only="evaluate", resume=False, progress=Silent())
    models = {line.split('"model":')[1].split('"')[1] for line in _results(tmp_path)}
    assert models == {"fp32", "longer"}


def _results(out: Path) -> list[str]:
    return (out / "evaluate/results.jsonl").read_text().splitlines()


def test_a_later_stage_says_which_tuning_is_missing(tmp_path: Path) -> None:
    asked = tiny_recipe({"name": "longer", "tune": TRAIN})
    run_until(asked, tmp_path, "train")
    with pytest.raises(UsageError, match="run the stage tune first"):
        run_recipe(asked, tmp_path, only="evaluate", resume=False, progress=Silent())


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ({"name": "a", "start": "b", **RTN}, "'b' is none of fp32, scratch"),
        ({"name": "a", "start": "pretrained", **RTN}, "'pretrained' is none of fp32"),
        ({"name": "fp32", **RTN}, "there already"),
        ({"name": "a"}, "method: is missing"),
    ],
)
def test_a_start_that_is_no_earlier_model_is_refused(variant: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_recipe(variant)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "fulll"}, "did you mean 'full'"),
        ({"settings": {"rank": 4}}, "full has no setting 'rank'"),
    ],
)
def test_a_tuning_method_is_checked_before_anything_is_made(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    asked = tiny_recipe({"name": "a", "tune": {**TRAIN, **change}})
    with pytest.raises(UsageError, match=message):
        run_recipe(asked, tmp_path / "run", only=None, resume=False, progress=Silent())
    assert not (tmp_path / "run").exists()
