"""What each verb hands to its stage, and what it prints."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quantale.cli.app import main
from quantale.cli.progress import Bars, Lines
from quantale.core.progress import Progress
from quantale.report.margins import Margin
from quantale.stages.requests import CompareRequest


@dataclass(frozen=True)
class Result:
    report: Path
    summary: dict[str, Any]


class Stage:
    """A fake stage function that remembers its call."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.given: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def __call__(self, *given: Any, **options: Any) -> Any:
        self.given, self.options = given, options
        listeners = [one for one in given if isinstance(one, Lines | Bars)]
        progress: Progress | None = options.get("progress", *listeners)
        if progress is not None:
            progress.stage("working", 2)
            progress.advance(2, loss=1.5)
        return self.result


@pytest.fixture(autouse=True)
def _in_an_empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def put(monkeypatch: pytest.MonkeyPatch, module: str, function: str, result: Any) -> Stage:
    stage = Stage(result)
    fake = ModuleType(module)
    setattr(fake, function, stage)
    monkeypatch.setitem(sys.modules, module, fake)
    return stage


def last_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_run_hands_over_the_resolved_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = Result(Path("runs/quickstart/report.html"), {"seconds": 1.0})
    stage = put(monkeypatch, "quantale.stages.pipeline", "run_recipe", result)
    words = ["run", "quickstart", "--set", "train.steps=60", "--seed", "7", "--only", "train"]
    assert main([*words, "--resume", "--json"]) == 0
    resolved, out = stage.given
    assert (resolved.recipe.train.steps, resolved.recipe.seed) == (60, 7)
    assert out == Path("runs/quickstart")
    assert (stage.options["only"], stage.options["resume"]) == ("train", True)
    shown = last_json(capsys)
    assert shown == {"out": "runs/quickstart", "report": str(result.report), "seconds": 1.0}


def test_plan_shows_values_origins_and_predictions(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch, "quantale.stages.pipeline", "plan_recipe", {"seconds": 60.0, "steps": [1, 2]})
    assert main(["plan", "quickstart", "--set", "train.clip=2.0"]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("train.clip "))
    assert line.split() == ["train.clip", "2.0", "#", "--set"]
    assert "# recipe quickstart.yaml:" in text
    assert "seconds  60" in text
    assert main(["plan", "quickstart", "--json"]) == 0
    shown = last_json(capsys)
    assert shown["predicted"]["seconds"] == 60.0
    assert shown["recipe"]["model"]["width"] == 192
    assert shown["origins"]["train.clip"] == "default"


def test_train_takes_a_recipe_with_other_data(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = put(monkeypatch, "quantale.stages.train", "train_command", {"seconds": 1})
    assert main(["train", "nanogptq", "--data", "x.txt", "--set", "train.steps=90"]) == 0
    resolved, out = stage.given
    assert resolved.recipe.data.source == "x.txt"
    assert resolved.recipe.train.steps == 90
    assert out == Path("runs/nanogptq/train")


def test_train_fine_tunes_a_model_on_data(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = put(monkeypatch, "quantale.stages.train", "train_command", {"seconds": 1})
    words = ["train", "--model", "distilgpt2", "--data", "x.csv#Story", "--set", "train.steps=90"]
    assert main([*words, "--out", "o"]) == 0
    resolved, out = stage.given
    recipe = resolved.recipe
    assert (recipe.model.kind, recipe.model.path) == ("pretrained", "distilgpt2")
    assert (recipe.tokenizer.kind, recipe.data.source) == ("pretrained", "x.csv#Story")
    assert recipe.train.steps == 90
    assert resolved.origins["model.path"] == "recipe --model"
    assert out == Path("o")


def test_train_takes_the_options_of_adapters(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = put(monkeypatch, "quantale.stages.train", "train_command", {"seconds": 1})
    words = ["train", "--model", "distilgpt2", "--data", "x.txt", "--method", "lora"]
    assert main([*words, "--rank", "8", "--alpha", "16", "--teacher", "gpt2"]) == 0
    train = stage.given[0].recipe.train
    assert (train.method, dict(train.settings)) == ("lora", {"rank": 8, "alpha": 16.0})
    assert (train.learning_rate, train.weight_decay, train.teacher) == (2e-4, 0.0, "gpt2")
    assert main([*words, "--set", "train.learning_rate=1e-3"]) == 0
    assert stage.given[0].recipe.train.learning_rate == 1e-3


def test_train_quantizes_by_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = put(monkeypatch, "quantale.stages.train_packed", "train_packed", {"seconds": 1})
    words = ["train", "--model", "distilgpt2", "--data", "x.txt", "--method", "lora"]
    assert main([*words, "--quantize", "rtn", "--preset", "w4g64", "--out", "o"]) == 0
    resolved, packing, out = stage.given
    assert resolved.recipe.train.method == "lora"
    assert packing == {"method": "rtn", "bits": 4, "group_size": 64}
    assert out == Path("o")


@pytest.mark.parametrize(
    "words",
    [
        ["--method", "lorra"],
        ["--quantize", "nf5"],
        ["--preset", "w4"],
    ],
)
def test_train_refuses_names_that_do_not_exist(words: list[str]) -> None:
    assert main(["train", "--model", "distilgpt2", "--data", "x.txt", *words]) == 2


@pytest.mark.parametrize(("verdict", "code"), [("PASS", 0), ("FAIL", 10), ("CANNOT TELL", 11)])
def test_merge_exits_with_its_verdict(
    verdict: str, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {"verdict": verdict, "steps": [{"step": "merged", "kl_mean": 0.1}]}
    stage = put(monkeypatch, "quantale.stages.merge", "merge_adapter", found)
    words = ["merge", str(tmp_path), "--data", "x.txt", "--into", "gpt2", "--margin", "0.1"]
    assert main([*words, "--quantize", "rtn", "--preset", "w4g64", "--out", "o"]) == code
    request, out = stage.given
    assert (request.into, request.margin, request.data) == ("gpt2", 0.1, "x.txt")
    assert (request.quantized.method, request.quantized.settings["bits"]) == ("rtn", 4)
    assert out == Path("o")
    assert main([*words, "--preset", "w4g64"]) == 2


def test_quantize_joins_preset_options_and_sets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"out": Path("o"), "bits_per_weight": 4.5}
    stage = put(monkeypatch, "quantale.stages.quantize", "quantize_model", result)
    words = ["quantize", "gpt2", "--method", "gptq", "--preset", "w4g64", "--sym", "--desc-act"]
    more = ["--set", "damp=0.02", "--nsamples", "8", "--seqlen", "32", "--embedding-bits", "8"]
    assert main([*words, *more, "--calibration", "x.txt", "--json"]) == 0
    request, out = stage.given
    assert (request.model, out) == ("gpt2", Path("runs/gpt2-gptq-w4g64"))
    assert request.settings == {
        "bits": 4,
        "group_size": 64,
        "symmetric": True,
        "act_order": True,
        "damp": 0.02,
    }
    expected = {"method": "gptq", "embedding_bits": 8, "head_bits": None, "samples": 8}
    assert expected.items() <= vars(request).items()
    assert (request.length, request.calibration) == (32, "x.txt")
    assert last_json(capsys) == {"out": "o", "bits_per_weight": 4.5}


def test_quantize_reads_rules_and_hands_over_methods_of_both_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stage = put(monkeypatch, "quantale.stages.quantize", "quantize_model", {})
    Path("hybrid.yaml").write_text(
        "- {match: '**.[0-2].**', method: hqq, bits: 4}\n- {role: norm, method: none}\n",
        encoding="utf-8",
    )
    words = ["quantize", "gpt2", "--rules", "hybrid.yaml"]
    ends = ["--embedding-method", "nf4", "--head-method", "gptq", "--head-bits", "1"]
    assert main([*words, *ends, "--dtype", "float16"]) == 0
    request, out = stage.given
    assert out == Path("runs/gpt2-hybrid")
    assert (request.method, request.dtype) == (None, "float16")
    assert [(r.match, r.role, r.plugin) for r in request.rules] == [
        ("**.[0-2].**", None, "hqq"),
        (None, "norm", None),
    ]
    assert (request.embedding_method, request.embedding_bits) == ("nf4", None)
    assert (request.head_method, request.head_bits) == ("gptq", 1)
    assert main([*words, "--method", "nf4", "--preset", "w4g64"]) == 0
    assert stage.given[1] == Path("runs/gpt2-hybrid-nf4-w4g64")


def test_quantize_leaves_unasked_settings_to_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = put(monkeypatch, "quantale.stages.quantize", "quantize_model", {})
    assert main(["quantize", "gpt2", "--method", "rtn", "--asym", "--group-size", "row"]) == 0
    assert stage.given[0].settings == {"group_size": "row", "symmetric": False}


def test_evaluate_and_its_alias_hand_over_everything(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"model": "gpt2", "metric": "perplexity", "value": 2.5, "n": 40}
    stage = put(monkeypatch, "quantale.stages.evaluate", "evaluate_models", {"results": [row]})
    for verb in ("evaluate", "eval"):
        words = [verb, "gpt2", "other", "--data", "x.txt", "--base", "gpt2", "--limit", "40"]
        assert main(words) == 0
        request = stage.given[0]
        assert (request.models, request.data) == (("gpt2", "other"), "x.txt")
        assert (request.base, request.limit) == ("gpt2", 40)
        assert request.protocol == "document"
        assert "perplexity" in capsys.readouterr().out


def test_stories_and_code_hand_over_everything_and_show_a_column_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"model": model, "metric": "ended", "value": value, "unit": "share"}
        for model, value in (("corpus", 1.0), ("gpt2", 0.5))
    ]
    for verb, module, function in (
        ("stories", "quantale.stages.stories", "write_stories"),
        ("code", "quantale.stages.code", "write_code"),
    ):
        stage = put(monkeypatch, module, function, {"results": rows})
        words = [verb, "gpt2", "--data", "x.csv", "--base", "b", "--prompts", "7", "--top-k", "0"]
        assert main([*words, "--seed", "3", "--out", "o"]) == 0
        request, section, out, _ = stage.given
        assert (request.models, request.data, request.base) == (("gpt2",), "x.csv", "b")
        assert (section.prompts, section.top_k, section.seed) == (7, None, 3)
        assert out == Path("o")
        head, line = capsys.readouterr().out.splitlines()
        assert head.split() == ["metric", "corpus", "gpt2", "unit"]
        assert line.split() == ["ended", "1", "0.5", "share"]


@pytest.mark.parametrize(("verdict", "code"), [("PASS", 0), ("FAIL", 10), ("CANNOT TELL", 11)])
def test_compare_exits_with_its_verdict(
    verdict: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"verdict": verdict, "pairs": [{"base": "a", "other": "b", "delta": 0.1}]}
    stage = put(monkeypatch, "quantale.stages.compare", "compare_models", result)
    assert main(["compare", "gpt2", "other", "--data", "x.txt", "--margin", "0.02"]) == code
    wanted = CompareRequest("gpt2", ("other",), "x.txt", "perplexity", Margin(0.02, ""))
    assert stage.given[0] == wanted
    assert capsys.readouterr().out.splitlines()[-1] == verdict


def test_models_are_compared_by_metrics_of_language_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"verdict": "PASS", "pairs": [{"base": "a", "other": "b", "delta": 0.1}]}
    stage = put(monkeypatch, "quantale.stages.compare", "compare_models", result)
    words = ["compare", "gpt2", "other", "--data", "x.txt", "--metric"]
    assert main([*words, "bits_per_byte"]) == 0
    assert stage.given[0].metric == "bits_per_byte"
    assert main([*words, "accuracy"]) == 2
    assert "perplexity or bits_per_byte, not accuracy" in capsys.readouterr().err


def write_scores(path: Path, **shifts: float) -> None:
    """Write per-document lines of models whose nll a token differs by a shift, with some noise."""
    lines = [
        {"model": model, "document": f"d{i:03}", "nll": 100 + i + 100 * shift + (i % 7 - 3) * noise}
        for model, shift in shifts.items()
        for noise in [0.0 if shift == 0 else 0.01]
        for i in range(60)
    ]
    rows = [json.dumps({**line, "tokens": 100, "bytes": 400}) for line in lines]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("shift", "verdict", "code"),
    [(0.001, "PASS", 0), (0.1, "FAIL", 10), (0.00995, "CANNOT TELL", 11)],
)
def test_compare_reads_result_files_itself(
    shift: float, verdict: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scores(tmp_path / "a.jsonl", base=0.0)
    write_scores(tmp_path / "b.jsonl", small=shift)
    assert main(["compare", "a.jsonl", "b.jsonl", "--margin", "0.01", "--json"]) == code
    shown = last_json(capsys)
    assert shown["verdict"] == verdict
    assert shown["pairs"][0]["other"] == "small"


def test_compare_takes_one_file_or_a_model_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scores(tmp_path / "a.jsonl", base=0.0, small=0.1, tiny=0.2)
    assert main(["compare", "a.jsonl", "--json"]) == 10
    assert len(last_json(capsys)["pairs"]) == 2
    assert main(["compare", "a.jsonl#small", "a.jsonl#base", "--metric", "bits_per_byte"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "PASS"


def test_compare_takes_margins_as_people_write_them_and_lists_of_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scores(tmp_path / "a.jsonl", base=0.0)
    write_scores(tmp_path / "b.jsonl", base=0.001)
    write_scores(tmp_path / "c.jsonl", small=0.1)
    assert main(["compare", "a.jsonl,b.jsonl", "c.jsonl", "--margin", "1%"]) == 10
    assert "these checkpoints" in capsys.readouterr().out
    assert main(["compare", "a.jsonl", "c.jsonl", "--margin", "15%", "--json"]) == 0
    assert last_json(capsys)["pairs"][0]["margin"] == 0.15
    assert main(["compare", "a.jsonl", "c.jsonl", "--margin", "1pt"]) == 2
    assert main(["compare", "a.jsonl", "c.jsonl", "--margin", "lots"]) == 2


def test_inspect_shows_the_ledger(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = {"name": "h.0", "role": "mlp", "shape": [8, 4], "bits_per_weight": 4.5}
    refusals = {"reference": {}, "aten": {"reads 4 and 8 bits; the weight has 3": 2}}
    parts = {"components": {"linear": 10}, "sites": [site], "refusals": refusals}
    result = {"bytes_on_disk": 1234567, **parts}
    put(monkeypatch, "quantale.stages.inspect", "inspect_model", result)
    assert main(["inspect", "gpt2"]) == 0
    shown = capsys.readouterr().out
    assert "1,234,567" in shown
    assert "8 x 4" in shown
    assert "aten refuses 2 sites: reads 4 and 8 bits; the weight has 3" in shown


def test_generate_prints_the_text_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = put(monkeypatch, "quantale.stages.generate", "generate_text", {"text": "Once upon"})
    assert main(["generate", "gpt2", "--prompt", "Once", "--top-k", "5", "--seed", "3"]) == 0
    assert stage.given == ("gpt2", "Once")
    assert (stage.options["top_k"], stage.options["top_p"], stage.options["seed"]) == (5, None, 3)
    assert not stage.options["exact"]
    assert capsys.readouterr().out == "Once upon\n"


def test_doctor_fails_only_when_something_needed_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"check": "gradio", "ok": False, "required": False, "detail": "", "fix": "pip install"}
    stage = put(monkeypatch, "quantale.stages.doctor", "diagnose", [row])
    assert main(["doctor"]) == 0
    assert "pip install" in capsys.readouterr().out
    stage.result = [{**row, "required": True}]
    assert main(["doctor"]) == 6


def test_progress_goes_to_stderr_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch, "quantale.stages.quantize", "quantize_model", {"out": "o"})
    assert main(["quantize", "gpt2", "--method", "rtn", "--json"]) == 0
    shown = capsys.readouterr()
    assert shown.out == '{"out": "o"}\n'
    assert "working: 2/2 loss=1.5" in shown.err
