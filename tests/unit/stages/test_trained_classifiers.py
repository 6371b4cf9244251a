"""Classifiers that are trained, groups of variants by themselves, and their trees of files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_tokenizer import letters
from tiny_models import tiny_classifier, tiny_gpt2, tiny_llama, tiny_nanogpt
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from quantale.core.errors import OutputExistsError, UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_file import Draft, ResolvedRecipe, load_recipe, resolve
from quantale.core.records import read_json
from quantale.models.classifier import as_classifier
from quantale.models.load import load
from quantale.quant.save import write_model
from quantale.stages.classify import head_classes
from quantale.stages.pipeline import run_recipe

NAMES = ("World", "Sports", "Business", "Sci/Tech")
WORDS = ("war king vote", "ball goal team", "bank share oil", "chip code moon")


@pytest.fixture(scope="module")
def news(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("news") / "news.csv"
    rows = [f'{i % 4},"{" ".join([WORDS[i % 4]] * (1 + i % 3))} {i}"' for i in range(160)]
    path.write_text("Label;Text\n" + "\n".join(row.replace(",", ";", 1) for row in rows) + "\n")
    return path


SETS = (
    "data.train_documents=120",
    "data.length=24",
    "data.too_long=drop",
    "data.test_documents=16",
    "tokenizer.vocab_size=300",
    "model.layers=1",
    "model.heads=2",
    "model.width=32",
    "model.context=32",
    "train.steps=60",
    "train.batch_size=8",
    "train.learning_rate=1e-2",
    "train.warmup_steps=5",
    "train.evaluate_every=20",
    "train.checkpoint_every=30",
)


def recipe(news: Path, *sets: str) -> ResolvedRecipe:
    return load_recipe("ag-news", [f"data={news}#text", *SETS, *sets], "smoke")


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


TOKENIZER_FILES = [
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
]


@pytest.fixture(scope="module")
def place(news: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "ag-news"
    for group in ("baseline", "ptq"):
        found = run_recipe(recipe(news), out, only=group, resume=False, progress=Silent())
        assert found.report == out / "groups" / group / "compare" / "report.html"
        assert found.report.is_file()
    return out


def test_a_classifier_learns_and_carries_its_classes(place: Path) -> None:
    model = load(place / "train/model").model
    assert head_classes(model.config) == NAMES
    assert model.config.pad_token_id is not None
    summary = read_json(place / "train/summary.json")
    assert summary["data"]["classes"] == dict.fromkeys(NAMES, 30) or summary["data"]["dropped"]
    assert summary["data"]["documents"] == 120
    assert summary["data"]["length"] == 24
    assert summary["data"]["repeated"] == {
        "train/validation": 0, "train/test": 0, "validation/test": 0}  # fmt: skip
    metrics = read_json(place / "baseline-gpt2-full/metrics_baseline.json")["fp32"]
    assert metrics["accuracy"] > 0.9
    assert metrics["ms_per_document"] > 0
    weights = (place / "baseline-gpt2-full/model.safetensors").stat().st_size
    assert metrics["peak_rss_bytes"] > metrics["resident_before"] + weights


def test_the_trees_have_the_files_that_their_users_know(place: Path) -> None:
    step = read_json(place / "train/summary.json")["best_step"]
    model = ["config.json", "model.safetensors", *TOKENIZER_FILES]
    assert tree(place / "baseline-gpt2-full") == sorted(
        [
            *model,
            *(f"checkpoints/checkpoint-{step}/{name}" for name in model),
            "training_args.json",
            "metrics_baseline.json",
            "classification_report.txt",
            "confusion_matrix.png",
        ]
    )
    assert tree(place / "ptq-scratch-int8") == sorted(
        [
            *(f"quantized_model/{name}" for name in model),
            "metrics_ptq_scratch.json",
            "ptq_scratch_summary.json",
            "classification_report_ptq.txt",
            "confusion_matrix_ptq.png",
        ]
    )
    assert not (place / "bnb-quantized").exists()
    metrics = read_json(place / "ptq-scratch-int8/metrics_ptq_scratch.json")
    assert list(metrics) == [
        "fp32", "int8-grouped", "int8-row", "int8-tensor", "int8-tensor-symmetric"]  # fmt: skip
    assert 0 <= metrics["int8-row"]["mcnemar_p"] <= 1
    sizes = read_json(place / "ptq-scratch-int8/ptq_scratch_summary.json")
    assert sizes["int8-tensor"]["model_bytes"] < 0.4 * sizes["fp32"]["model_bytes"]
    assert read_json(place / "baseline-gpt2-full/training_args.json")["batch_size"] == 8


def test_what_a_tree_holds_loads_and_older_tokenizer_files_agree(place: Path) -> None:
    folder = place / "ptq-scratch-int8/quantized_model"
    model = load(folder).model
    norms = [m.weight for n, m in model.named_modules() if n.endswith("ln_1")]
    assert norms[0].dtype != torch.float32 or not isinstance(norms[0], torch.nn.Parameter)
    assert isinstance(
        AutoModelForSequenceClassification.from_pretrained(place / "baseline-gpt2-full"),
        torch.nn.Module,
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert json.loads((folder / "vocab.json").read_text()) == tokenizer.get_vocab()
    symbols = read_json(folder / "special_tokens_map.json")
    assert symbols["eos_token"] == tokenizer.eos_token


def test_a_group_is_skipped_when_it_is_there_and_other_trees_are_left_alone(
    place: Path, news: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    run_recipe(recipe(news), place, only="ptq", resume=False, progress=Silent())
    assert before == {p: p.stat().st_mtime_ns for p in place.rglob("*") if p.is_file()}
    (place / "outputs/ptq-scratch-int8.json").write_text('{"key": "other"}')
    with pytest.raises(OutputExistsError, match="made of other runs"):
        run_recipe(recipe(news), place, only="ptq", resume=False, progress=Silent())


def test_an_unknown_group_is_named_with_the_known_ones(news: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"groups baseline, ptq, bnb; did you mean 'bnb'"):
        run_recipe(recipe(news), tmp_path, only="bmb", resume=False, progress=Silent())


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_a_classifier_is_made_on_the_blocks_of_a_language_model(make: Any) -> None:
    model, tokenizer = make(), letters()
    assert tokenizer.pad_token is None
    made = as_classifier(model, NAMES, tokenizer, seed=3)
    assert made.config.pad_token_id == tokenizer.pad_token_id == tokenizer.eos_token_id
    assert getattr(made, made.base_model_prefix) is getattr(model, model.base_model_prefix)
    again = as_classifier(make(), NAMES, letters(), seed=3)
    other = as_classifier(make(), NAMES, letters(), seed=4)
    assert torch.equal(made.score.weight, again.score.weight)
    assert not torch.equal(made.score.weight, other.score.weight)


def test_a_classifier_is_taken_as_it_is_or_refused() -> None:
    model = tiny_classifier("GPT2")
    assert as_classifier(model, NAMES, letters(), seed=0) is model
    assert tuple(model.config.id2label.values()) == NAMES
    with pytest.raises(UsageError, match=r"knows 4 classes .* the data 2"):
        as_classifier(model, ("a", "b"), letters(), seed=0)
    with pytest.raises(UsageError, match="in the classifier's order"):
        as_classifier(model, NAMES[::-1], letters(), seed=0)
    with pytest.raises(UsageError, match="no classifier can be made of a NanoGPTForCausalLM"):
        as_classifier(tiny_nanogpt(), NAMES, letters(), seed=0)


def test_a_pretrained_language_model_becomes_a_classifier(news: Path, tmp_path: Path) -> None:
    write_model(tiny_gpt2(), letters(), tmp_path / "base")
    draft = {
        "name": "made",
        "data": {"source": f"{news}#text", "label": "label", "classes": list(NAMES)},
        "tokenizer": {"kind": "pretrained"},
        "model": {"kind": "pretrained", "path": str(tmp_path / "base")},
        "train": {
            "steps": 2, "batch_size": 2, "learning_rate": 1e-3, "min_learning_rate": 0.0,
            "warmup_steps": 0, "evaluate_every": 2, "checkpoint_every": 2,
        },
        "evaluate": {"documents": 8, "classification": {"route": "head"}},
        "bench": None,
    }  # fmt: skip
    out = tmp_path / "run"
    run_recipe(resolve(Draft(draft, {}), [], "here"), out, only=None, resume=False,
               progress=Silent())  # fmt: skip
    assert head_classes(load(out / "train/model").model.config) == NAMES
    assert read_json(out / "evaluate/protocol.json")["documents"] == 8
