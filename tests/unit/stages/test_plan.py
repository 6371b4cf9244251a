"""Predictions of a recipe: a line for everything that is made, and what would fit."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.scale import GEOMETRIES

from quantale.core.byte_sizes import parse_bytes, show_bytes
from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.recipe import Recipe
from quantale.core.recipe_file import Draft, ResolvedRecipe, resolve
from quantale.data.batch import Batch
from quantale.stages.pipeline import plan_recipe, run_recipe
from quantale.stages.plan import predict
from quantale.stages.plan_disk import checkpoint_bytes
from quantale.stages.plan_kept import held_against, keep_measured, keep_prediction, rows
from quantale.stages.plan_training import predict_training
from quantale.stages.plan_work import Training, begin
from quantale.stages.planned_model import planned_model
from quantale.stages.training_length import train_settings
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData

TRAIN = {
    "steps": 3,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "evaluate_every": 3,
    "evaluate_documents": 4,
    "checkpoint_every": 3,
    "precision": "fp32",
}
ROWS = Batch.of_rows(torch.randint(300, (2, 17), generator=torch.Generator().manual_seed(0)))
CUBLAS = 64 << 20
"""Bytes that cuBLAS may take from torch's allocator as its workspace."""
RTN = {"method": "rtn", "bits": 4, "group_size": 16}


def resolved(**train: Any) -> ResolvedRecipe:
    draft = {
        "name": "planned",
        "threads": 1,
        "data": {"source": "storygen", "train_documents": 40, "validation_documents": 4},
        "tokenizer": {"kind": "bpe", "vocab_size": 300},
        "model": {"layers": 3, "heads": 2, "width": 32, "context": 64, "dropout": 0.0},
        "train": {**TRAIN, **train},
        "calibration": {"samples": 2, "length": 16},
        "variants": [
            {"name": "packed", **RTN},
            {"name": "gptq", **RTN, "method": "gptq"},
            {"name": "longer", "tune": {**TRAIN, "steps": 6}, **RTN},
            {
                "name": "last",
                "rules": [{"match": "transformer.h.2.**", "method": "rtn", "bits": 8}],
            },
        ],
        "evaluate": {"documents": 3},
        "bench": None,
    }
    return resolve(Draft(draft, {}), [], "here")


def recipe(**train: Any) -> Recipe:
    return resolved(**train).recipe


def lines(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {line["stage"]: line for line in found["stages"]}


def test_every_model_that_is_made_has_a_line() -> None:
    found = predict(recipe())
    stages = lines(found)
    assert list(stages) == [
        "train",
        "quantize/packed",
        "quantize/gptq",
        "tune/longer",
        "quantize/longer",
        "quantize/last",
    ]
    assert all(line["fits"] and line["peak_memory_bytes"] > 0 for line in stages.values())
    assert stages["train"]["seconds"] > 0
    assert stages["train"]["tokens"] == 3 * 8 * 64
    assert stages["tune/longer"]["tokens"] == 6 * 8 * 64
    assert stages["quantize/packed"]["seconds"] > 0
    assert stages["quantize/packed"]["disk_bytes"] < 0.7 * stages["train"]["disk_bytes"]
    assert stages["quantize/last"]["basis"] == "formats"
    assert stages["quantize/last"]["seconds"] is None
    assert found["disk_bytes"] == sum(line["disk_bytes"] for line in stages.values())


def test_what_does_not_fit_comes_with_changes_that_do() -> None:
    asked = recipe()
    assert asked.train is not None
    training = Training("train", asked, asked.train, planned_model(asked))
    need = predict_training(training, 0, 10**12)["peak_memory_bytes"]
    found = predict_training(training, 0, int(0.7 * need))
    assert found["seconds"] is None
    changes = {way["change"]: way["peak_memory_bytes"] for way in found["would_fit"]}
    assert {"batch_size: 4, accumulation: 2", "gradient_checkpointing: true"} <= set(changes)
    assert all(peak <= 0.7 * need for peak in changes.values())
    assert any("rows of 32 tokens" in change for change in changes)


def test_nothing_is_offered_where_nothing_fits() -> None:
    line = lines(predict(recipe(), memory=1000))["train"]
    assert (line["fits"], line["would_fit"]) == (False, [])


def test_epochs_are_counted_in_the_data() -> None:
    few = lines(predict(recipe(steps=None, epochs=1.0)))["train"]
    many = lines(predict(recipe(steps=None, epochs=3.0)))["train"]
    assert few["steps"] > 1
    assert many["steps"] == pytest.approx(3 * few["steps"], abs=3)


def test_a_run_is_held_against_its_prediction(tmp_path: Path) -> None:
    asked = resolved()
    tmp_path.mkdir(exist_ok=True)
    with pytest.raises(UsageError, match=r"plan\.json is missing"):
        held_against(tmp_path)
    keep_prediction(asked.recipe, tmp_path)
    assert all(row["seconds_measured"] is None for row in held_against(tmp_path))
    for stage in ("train", "quantize", "tune"):
        run_recipe(asked, tmp_path, only=stage, resume=False, progress=Silent())
    rows = {row["stage"]: row for row in keep_measured(tmp_path)}
    assert rows == {row["stage"]: row for row in held_against(tmp_path)}
    assert len(rows) == 6
    for stage, row in rows.items():
        assert row["disk_bytes_ratio"] == pytest.approx(1, abs=0.02), stage
        assert row["seconds_ratio"] is None or row["seconds_ratio"] > 0


def test_a_training_on_a_gpu_is_held_against_the_memory_of_the_gpu() -> None:
    line = {"stage": "train", "seconds": 2.0, "peak_memory_bytes": 300, "disk_bytes": None}
    measured = {"seconds": 2.5, "peak_memory_bytes": 9000, "device_peak_bytes": 400}
    ratios = []
    for device in ("cpu", "cuda"):
        stages = [{**line, "device": device}]
        kept = {"predicted": {"stages": stages}, "measured": {"train": measured}}
        ratios.append(rows(kept)[0]["peak_memory_bytes_ratio"])
    assert ratios == [300 / 9000, 300 / 400]


def test_on_a_gpu_neither_the_best_weights_nor_holes_are_counted() -> None:
    asked = recipe()
    assert asked.train is not None
    training = Training("train", asked, asked.train, planned_model(asked))
    here = predict_training(training, 0, 1)["memory"]
    line = predict_training(dataclasses.replace(training, device="cuda"), 0, 1)
    there = line["memory"]
    assert (there["best"], there["holes"], there["step"]) == (0, 0, here["step"])
    assert there["validation"] == here["validation"] - here["best"] > 0
    held = here["weights"] + here["optimizer"]
    assert line["peak_memory_bytes"] == held + max(there["step"], there["validation"])


@pytest.mark.gpu
def test_on_a_gpu_trainings_are_planned_for_it(tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = {"layers": 4, "heads": 8, "width": 512, "context": 256, "dropout": 0.0}
    draft = {**resolved(batch_size=16).recipe.model_dump(mode="json"), "model": model}
    asked = resolve(Draft(draft, {}), [], "here")
    found = predict(asked.recipe)
    assert {line["device"] for line in lines(found).values()} == {"cpu", "cuda"}
    assert found["device_peak_bytes"] >= lines(found)["train"]["peak_memory_bytes"]
    keep_prediction(asked.recipe, tmp_path)
    run_recipe(asked, tmp_path, only="train", resume=False, progress=Silent())
    row = keep_measured(tmp_path)[0]
    said, was = row["peak_memory_bytes"], row["peak_memory_bytes_measured"]
    assert 0.85 * was - CUBLAS <= said <= 1.15 * was


def test_trainings_over_packed_bases_are_planned_as_what_they_are(tmp_path: Path) -> None:
    nf4 = {"method": "nf4", "group_size": 16}
    hqq = {"method": "hqq", "bits": 2, "group_size": 16}
    tunings: dict[str, dict[str, Any]] = {
        "lora": {"tune": {**TRAIN, "method": "lora", "settings": {"rank": 4}}},
        "qlora": {**nf4, "tune": {**TRAIN, "method": "lora", "settings": {"rank": 4}}},
        "healed": {**hqq, "tune": {**TRAIN, "method": "heal"}},
        "beside": {**nf4, "tune": {**TRAIN, "method": "heal", "settings": {"parts": "adapters"}}},
        "ternary": {"method": "bitnet", "tune": {**TRAIN, "method": "qat"}},
        "normed": {
            "method": "bitnet",
            "start": "scratch",
            "dtype": "bfloat16",
            "tune": {**TRAIN, "method": "qat", "settings": {"sub_norm": True}},
        },
        "one-bit": {
            "method": "binary",
            "group_size": 16,
            "dtype": "bfloat16",
            "tune": {
                **TRAIN,
                "method": "qat",
                "settings": {"rank": 4, "rank_pattern": "**.0.*attn.*=16"},
            },
        },
        "student": {"tune": {**TRAIN, "method": "distill", "settings": {"layers": 2}}},
        "narrow": {"tune": {**TRAIN, "method": "distill", "settings": {"width": 16}}},
        "merged": {**nf4, "tune": {**TRAIN, "method": "lora", "settings": {"merge": True}}},
    }
    draft = resolved().recipe.model_dump(mode="json")
    draft["variants"] = [{"name": name, **variant} for name, variant in tunings.items()]
    asked = resolve(Draft(draft, {}), [], "here")
    stages = lines(predict(asked.recipe))
    assert all(stages[f"tune/{name}"]["basis"] == "method" for name in tunings)
    assert all(stages[f"tune/{name}"]["tokens_per_s"] > 0 for name in tunings)
    full = stages["train"]["memory"]
    for name in ("qlora", "healed", "beside"):
        found = stages[f"tune/{name}"]["memory"]
        assert found["weights"] < 0.75 * full["weights"]
        assert found["gradients"] < 0.4 * full["gradients"]
        assert (found["others"] > 0) == (name != "qlora")
    keep_prediction(asked.recipe, tmp_path)
    for stage in ("train", "quantize", "tune"):
        run_recipe(asked, tmp_path, only=stage, resume=False, progress=Silent())
    for row in keep_measured(tmp_path):
        assert row["disk_bytes_ratio"] == pytest.approx(1, abs=0.02), row["stage"]


@pytest.mark.parametrize("optimizer", ["adamw", "adamw-8bit"])
def test_checkpoints_are_as_large_as_they_were_said_to_be(tmp_path: Path, optimizer: str) -> None:
    if optimizer != "adamw":
        pytest.importorskip("bitsandbytes")
    asked = recipe(steps=4, checkpoint_every=1, evaluate_every=1, optimizer=optimizer)
    assert asked.train is not None
    begun = begin(Training("train", asked, asked.train, planned_model(asked)))
    settings = train_settings(asked.train, 1, TrainData(lambda _: ROWS, [ROWS]))
    model = planned_model(asked).build()
    train(model, Full(), TrainData(lambda _: ROWS, [ROWS]), settings, tmp_path, Silent())
    files = [path for path in (tmp_path / "checkpoints").rglob("*") if path.is_file()]
    real = sum(path.stat().st_size for path in files)
    assert checkpoint_bytes(begun.weights, settings) == pytest.approx(real, rel=0.1)
    short = dataclasses.replace(settings, steps=1)
    assert checkpoint_bytes(begun.weights, short) == 0


@pytest.mark.slow
def test_adapters_over_a_llama_of_8b_in_4_bits_are_planned_without_its_weights(
    tmp_path: Path,
) -> None:
    GEOMETRIES["8b"].config().save_pretrained(tmp_path)
    tune = {
        **TRAIN,
        "method": "lora",
        "batch_size": 1,
        "settings": {"rank": 16, "targets": "q_proj,k_proj,v_proj,o_proj"},
    }
    draft = {
        **resolved().recipe.model_dump(mode="json"),
        "data": {"source": "storygen", "length": 64},
        "model": {"kind": "pretrained", "path": str(tmp_path)},
        "tokenizer": {"kind": "pretrained"},
        "train": None,
        "variants": [{"name": "qlora", "method": "nf4", "tune": tune}],
    }
    stages = lines(predict(resolve(Draft(draft, {}), [], "here").recipe, memory=24 * 10**9))
    line, packed = stages["tune/qlora"], stages["quantize/qlora"]
    adapters = 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024))
    assert line["basis"] == "method"
    assert line["memory"]["gradients"] == 4 * adapters
    assert line["disk_bytes"] == pytest.approx(4 * adapters, rel=0.01)
    ends, blocks = 2 * 128256 * 4096, 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    assert packed["disk_bytes"] == pytest.approx(2 * ends + blocks * (0.5 + 4 / 64), rel=0.01)
    held = 4 * ends + blocks * (0.5 + 4 / 64) + 5 * 4 * adapters
    assert held < line["peak_memory_bytes"] < held + 3 * 10**9
    assert line["fits"]
    assert line["seconds"] is None


@pytest.mark.parametrize(
    ("text", "number"), [("8GB", 8 * 10**9), ("1.5 GiB", 3 * 2**29), ("4096", 4096)]
)
def test_bytes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert parse_bytes(text) == number


def test_other_words_are_no_bytes() -> None:
    with pytest.raises(UsageError, match="no number of bytes"):
        parse_bytes("8 gigs")
    assert [show_bytes(n) for n in (12, 2_500_000, 8e9)] == ["12 B", "2.5 MB", "8 GB"]


def test_rows_are_as_long_as_the_data_say() -> None:
    asked = recipe().model_copy(update={"data": recipe().data.model_copy(update={"length": 16})})
    line = predict_training(Training("train", asked, asked.train, planned_model(asked)), 0, 10**12)  # type: ignore[arg-type]
    assert line["tokens"] == 3 * 8 * 16


def test_a_model_that_needs_data_to_be_counted_stops_no_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a value was asked of a tensor without data")

    monkeypatch.setattr("quantale.stages.plan_training.footprint", fail)
    line = lines(predict(recipe()))["train"]
    assert (line["basis"], line["peak_memory_bytes"], line["fits"]) == ("unknown", None, True)
    assert line["tokens_per_s"] > 0


def test_a_method_that_does_not_fit_is_told_by_the_plan_too() -> None:
    wrong = resolved()
    variants = [{"name": "a", "method": "gptq", "bits": 4, "tune": {**TRAIN, "method": "qat"}}]
    draft = {**wrong.recipe.model_dump(mode="json"), "variants": variants}
    with pytest.raises(UsageError, match="gptq calibrates"):
        plan_recipe(resolve(Draft(draft, {}), [], "here"), None)
