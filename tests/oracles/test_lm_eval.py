"""A packed model in lm-evaluation-harness, and its numbers against ours.

Run where the harness is installed: `python -m pytest -m peers tests/oracles/test_lm_eval.py`.
"""

import importlib
import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest
from packing import pack
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from tiny_models import tiny_family
from tiny_texts import character_tokenizer

from quantale.core.errors import EnvironmentLackingError
from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.evaluation.language import score
from quantale.evaluation.summary import measurements
from quantale.models.load import load

ABSENT = importlib.util.find_spec("lm_eval") is None
needs_harness = pytest.mark.skipif(ABSENT, reason="lm_eval is not installed (extra lm-eval)")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness and what it imports


@pytest.mark.skipif(not ABSENT, reason="lm_eval is installed")
def test_without_the_package_the_extra_is_named() -> None:
    with pytest.raises(EnvironmentLackingError, match=r"quantale\[lm-eval\]"):
        importlib.import_module("quantale.evaluation.harness")


def rolling_task(folder: Path, documents: Documents) -> dict[str, Any]:
    """A task of the harness over texts in a local file."""
    data = folder / "texts.jsonl"
    lines = [json.dumps({"text": text}) for text in documents.texts]
    data.write_text("\n".join(lines), encoding="utf-8")
    metrics = ("word_perplexity", "byte_perplexity", "bits_per_byte")
    return {
        "task": "texts",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": name} for name in metrics],
    }


def harness_results(model: Path, task: dict[str, Any]) -> dict[str, float]:
    harness = importlib.import_module("quantale.evaluation.harness")
    evaluator = importlib.import_module("lm_eval.evaluator")
    lm = harness.QuantaleLM(str(model), batch_size=4, add_bos_token=False)
    assert type(lm.model).__name__ == type(load(model).model).__name__
    found = evaluator.simple_evaluate(model=lm, tasks=[task], bootstrap_iters=0)
    results: dict[str, float] = found["results"]["texts"]
    return results


def our_results(model: Path, documents: Documents) -> dict[str, float]:
    loaded = load(model)
    found = score({"m": loaded.model}, loaded.tokenizer, documents)
    return {one.metric: one.value for one in measurements(found.documents, found.protocol)}


def check_agreement(model: Path, documents: Documents, folder: Path) -> None:
    theirs = harness_results(model, rolling_task(folder, documents))
    ours = our_results(model, documents)
    for name in ("bits_per_byte", "byte_perplexity"):
        assert ours[name] == pytest.approx(theirs[f"{name},none"], rel=1e-4)
    words = math.log(ours["word_perplexity"]) / math.log(theirs["word_perplexity,none"])
    assert words == pytest.approx(1.0, rel=1e-4)


@pytest.mark.peers
@needs_harness
def test_a_packed_model_runs_a_task_and_bits_per_byte_agree(tmp_path: Path) -> None:
    model = tiny_family("GPT2")
    pack(model)
    model.save_pretrained(tmp_path / "model")
    character_tokenizer().save_pretrained(tmp_path / "model")
    texts = tmp_path / "given.txt"
    texts.write_text("\n\n".join(["abc de.", "h", "a bad cab. " * 5]), encoding="utf-8")
    check_agreement(tmp_path / "model", load_documents(str(texts)), tmp_path)


@pytest.mark.peers
@needs_harness
@needs_shared
def test_bits_per_byte_of_real_stories_agree(tmp_path: Path) -> None:
    stories = load_documents(str(TINYSTORIES / "valid.txt"))
    tokenizer = load(STORIES260K).tokenizer
    fitting = [one for one in stories.items[:20] if len(tokenizer(one.text)["input_ids"]) <= 512]
    documents = Documents.collect(fitting[:5], stories.source, stories.split)
    check_agreement(STORIES260K, documents, tmp_path)
