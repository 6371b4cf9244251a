"""Quantization-aware training in a recipe: from the base, from scratch, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import TRAIN, run_until, tiny_recipe

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.records import read_json
from quantale.models.load import load
from quantale.quant.formats.ternary import Ternary
from quantale.stages.pipeline import run_recipe

QAT = {**TRAIN, "method": "qat"}
TAUGHT = {**QAT, "settings": {"teacher_weight": 0.5, "warm_in": 0.5}}


def layer(folder: Path) -> Any:
    return load(folder).model.transformer.h[0].attn.c_attn


def test_variants_train_through_their_method_from_the_base_and_from_scratch(
    tmp_path: Path,
) -> None:
    run_until(
        tiny_recipe(
            {"name": "after", "method": "bitnet"},
            {"name": "taught", "method": "bitnet", "embedding_bits": 8, "tune": TAUGHT},
            {
                "name": "born",
                "start": "scratch",
                "method": "bitnet",
                "dtype": "float16",
                "tune": QAT,
            },
            {"name": "plain", "start": "scratch", "tune": TRAIN},
        ),
        tmp_path,
    )
    folders = [
        tmp_path / "quantize/after",
        *(tmp_path / f"tune/{n}/model" for n in ("taught", "born")),
    ]
    packed = [layer(folder) for folder in folders]
    assert all(isinstance(one.format, Ternary) for one in packed)
    for one in packed[1:]:
        assert not torch.equal(one.weight, packed[0].weight)
    verified = read_json(tmp_path / "verify/verified.json")
    assert list(verified) == ["after", "born", "plain", "taught"]
    rest = [load(folder, dtype=None).model.transformer.ln_f.weight.dtype for folder in folders]
    assert rest == [torch.float32, torch.float32, torch.float16]
    parents = read_json(tmp_path / "tune/taught/run.json")["parents"]
    assert parents["teacher"] == parents["model"]
    born = read_json(tmp_path / "tune/born/run.json")["parents"]
    assert "teacher" not in born
    assert born["model"] != parents["model"]
    summary = read_json(tmp_path / "tune/taught/summary.json")
    assert summary["trainable_parameters"] == summary["parameters"]
    assert summary["bits_per_weight"] < 32


def test_scratch_is_where_the_training_of_the_base_began(tmp_path: Path) -> None:
    """The same training from it ends in the base's own weights."""
    run_until(tiny_recipe({"name": "again", "start": "scratch", "tune": TRAIN}), tmp_path, "tune")
    again, base = layer(tmp_path / "tune/again/model"), layer(tmp_path / "train/model")
    assert torch.equal(again.weight, base.weight)


@pytest.mark.parametrize(
    ("variant", "train", "message"),
    [
        ({"method": "gptq", "bits": 4, "tune": QAT}, TRAIN, "gptq calibrates"),
        ({"tune": QAT}, TRAIN, "qat needs a method to train through"),
        ({"tune": TRAIN}, QAT, "start: scratch"),
    ],
)
def test_what_cannot_be_trained_through_is_refused_before_anything_is_made(
    variant: dict[str, Any], train: dict[str, Any], message: str, tmp_path: Path
) -> None:
    asked = tiny_recipe({"name": "a", **variant}, train=train)
    with pytest.raises(UsageError, match=message):
        run_recipe(asked, tmp_path / "run", only=None, resume=False, progress=Silent())
    assert not (tmp_path / "run").exists()


def test_new_weights_alone_are_no_variant() -> None:
    with pytest.raises(UsageError, match="new weights needs a tune section"):
        tiny_recipe({"name": "a", "start": "scratch", "method": "bitnet"})
