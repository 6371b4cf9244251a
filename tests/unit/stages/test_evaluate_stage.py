"""From model folders to records: every number carries its protocol and its counts."""

import json
from pathlib import Path

import pytest
from tiny_texts import character_tokenizer, documents, small_llama

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.core.records import read_json, read_lines
from quantale.data.documents import Document, Documents
from quantale.evaluation.language import LanguageSettings
from quantale.report.compare import compare_files
from quantale.stages.evaluate import Plan, evaluate_models, evaluate_stage
from quantale.stages.requests import EvaluateRequest

METRICS = {
    "perplexity", "nll_per_token", "word_perplexity", "bits_per_byte", "byte_perplexity",
    "kl_mean", "kl_median", "kl_p99", "top1_agreement", "perplexity_ratio",
    "log_perplexity_ratio",
}  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "other")):
        small_llama(seed).save_pretrained(folder / name)
        character_tokenizer().save_pretrained(folder / name)
    texts = [one.text for one in documents(40, 30, 55).items]
    (folder / "texts.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return folder


def evaluated(place: Path, protocol: str, out: Path) -> list[dict[str, object]]:
    request = EvaluateRequest(
        (str(place / "other"),), str(place / "texts.jsonl"), str(place / "base"), protocol
    )
    evaluate_models(request, out, Silent())
    return read_lines(out)


@pytest.mark.parametrize(
    ("protocol", "mark", "units"),
    [
        ("document", "document(bos=1,context=16,stride=8)", 3),
        ("blocks:16", "blocks(length=16,bos=0,join=blank-line)", 8),
        ("stride:8", "stride(step=8,context=16,bos=0,join=blank-line)", 16),
        ("llamacpp:16", "llamacpp(length=16,bos=0,join=blank-line)", 8),
    ],
)
def test_every_metric_of_every_model_carries_the_protocol(
    place: Path, tmp_path: Path, protocol: str, mark: str, units: int
) -> None:
    lines = evaluated(place, protocol, tmp_path / "out.jsonl")
    numbers = [line for line in lines if "metric" in line]
    assert {line["metric"] for line in numbers if line["model"] == "other"} == METRICS
    assert {line["protocol"] for line in numbers} == {mark}
    assert {line["n"] for line in numbers} == {units}
    assert len([line for line in lines if line.get("model") == "base" and "document" in line]) == (
        units
    )


def test_results_of_two_protocols_are_refused(place: Path, tmp_path: Path) -> None:
    evaluated(place, "blocks:16", tmp_path / "a.jsonl")
    evaluated(place, "llamacpp:16", tmp_path / "b.jsonl")
    with pytest.raises(UsageError, match="differ in protocol"):
        compare_files(tmp_path / "a.jsonl#base", [tmp_path / "b.jsonl#other"], 0.01, 100)


def test_the_sealed_run_states_what_is_resampled_and_what_was_left_out(
    place: Path, tmp_path: Path
) -> None:
    items = [Document(one.text, one.id) for one in documents(40, 0, 30).items]
    texts = Documents.collect(items, "texts", "all")
    folders = {name: place / name for name in ("base", "other")}
    for protocol, unit, units, unscored, skipped in (
        ("document", "document", 2, 0, 1),
        ("blocks:16", "block", 4, 74 - 60, 0),
    ):
        settings = LanguageSettings(protocol=protocol)
        plan = Plan(folders, {"base": "1", "other": "2"}, "base", texts, settings)
        run = evaluate_stage(plan, tmp_path / protocol, resume=False, progress=Silent())
        facts = read_json(run.path / "protocol.json")
        assert (facts["unit"], facts["units"]) == (unit, units)
        assert facts["unscored_tokens"] == unscored
        assert facts["skipped_documents"] == skipped
        assert facts["words"] > 0
