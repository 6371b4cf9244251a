"""Variants that learn from a teacher: a student with fewer layers, and healed packed models."""

from pathlib import Path

import pytest
from tiny_recipes import TRAIN, run_until, tiny_recipe

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.records import read_json
from quantale.data.tokenizers import train_bpe
from quantale.models.load import load
from quantale.quant.save import write_model
from quantale.stages.pipeline import run_recipe
from quantale.stages.train import teacher_of

HQQ = {"method": "hqq", "bits": 1, "group_size": 16}
HEAL = {"tune": {**TRAIN, "method": "heal"}}


def test_a_student_and_healed_models_are_made_verified_and_of_unchanged_size(
    tmp_path: Path,
) -> None:
    student = {**TRAIN, "method": "distill", "settings": {"layers": "1"}}
    run_until(
        tiny_recipe(
            {"name": "plain", **HQQ},
            {"name": "healed", **HQQ, **HEAL},
            {"name": "half", **HQQ, "dtype": "float16"},
            {"name": "healed-half", "start": "half", **HEAL},
            {"name": "student", "tune": student},
        ),
        tmp_path,
        "verify",
    )
    assert load(tmp_path / "tune/student/model").model.config.n_layer == 1
    assert set(read_json(tmp_path / "verify/verified.json")) >= {"healed", "student"}
    for name, other in (("plain", "healed"), ("half", "healed-half")):
        before = read_json(tmp_path / f"quantize/{name}/summary.json")
        after = read_json(tmp_path / f"tune/{other}/summary.json")
        assert after["bits_per_weight"] == before["bits_per_weight"]
        assert after["bytes_resident"] == before["bytes_resident"]
        assert after["logits_sha256"] != before["logits_sha256"]
    teacher = read_json(tmp_path / "tune/healed/run.json")["parents"]["teacher"]
    assert teacher == read_json(tmp_path / "quantize/plain/run.json")["parents"]["model"]


def test_healing_what_is_not_packed_is_refused(tmp_path: Path) -> None:
    asked = tiny_recipe({"name": "healed", **HEAL})
    run_until(asked, tmp_path, "train")
    with pytest.raises(UsageError, match="needs a quantized model"):
        run_recipe(asked, tmp_path, only="tune", resume=False, progress=Silent())


def test_a_teacher_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    run_until(tiny_recipe(), tmp_path, "train")
    model, tokenizer, _ = load(tmp_path / "train/model")
    assert teacher_of(tmp_path / "train/model", tokenizer) is not None
    other = train_bpe(["one two three four five", "six seven eight"] * 20, 270)
    write_model(model, other, tmp_path / "other")
    with pytest.raises(UsageError, match="another tokenizer"):
        teacher_of(tmp_path / "other", tokenizer)
