"""A model directory goes to a Hub on loopback and comes back by `pipeline`, with its card."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import OWNER, Hub, fake_hub
from repository import ROOT
from tiny_models import tiny_nanogpt

from quantale.cli.app import main
from quantale.core.records import write_json, write_lines
from quantale.data.tokenizers import train_characters
from quantale.export.card import Card, Form, Records
from quantale.quant.methods.rtn import Rtn
from quantale.quant.save import save
from quantale.quant.whole import Methods, quantize_model

TEXT = "".join(map(chr, range(32, 124))) + "\n"
TOKEN = "hf_" + "secret" * 4
PIPE = """
import json, sys
{before}
from transformers import pipeline
pipe = pipeline("text-generation", model=sys.argv[1], revision=sys.argv[2])
out = pipe("Once upon", max_new_tokens=5, do_sample=False)[0]["generated_text"]
kind = type(pipe.model).__name__
packed = type(pipe.model.transformer.h[0].mlp.c_fc).__name__
print(json.dumps([kind, packed, "quantale" in sys.modules, out]))
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with fake_hub() as found:
        found.token = TOKEN
        monkeypatch.setenv("HF_ENDPOINT", found.address)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", found.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed nanoGPT in a run folder, with measurements around it."""
    run = tmp_path_factory.mktemp("run")
    network = tiny_nanogpt()
    quantize_model(network, Methods(Rtn(bits=4, group_size=32, symmetric=True)))
    folder = save((network, train_characters([TEXT])), run / "variants" / "small")
    lines = [
        _line("base", "perplexity", 5.0),
        _line("small", "perplexity", 5.25),
        _line("base", "kl_mean", 0.0),
        _line("small", "kl_mean", 0.0123),
    ]
    (run / "evaluate").mkdir()
    (run / "compare").mkdir()
    write_lines(run / "evaluate" / "results.jsonl", lines)
    protocol = {"protocol": "document-v2", "data": f"{run}/secret-place/tales.txt (test)"}
    write_json(run / "evaluate" / "protocol.json", {**protocol, "documents": 40, "tokens": 999})
    verdict = {"base": "base", "other": "small", "verdict": "PASS"}
    write_json(run / "compare" / "verdicts.json", {"verdict": "PASS", "pairs": [verdict]})
    (run / "compare" / "frontier.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


def _line(model: str, metric: str, value: float) -> dict[str, object]:
    interval = {"ci_low": value - 0.01, "ci_high": value + 0.01}
    return {"model": model, "metric": metric, "value": value, "n": 40, **interval}


def _piped(hub: Hub, repo: str, revision: str, before: str, cache: Path) -> list[object]:
    """Run a text-generation pipeline on the pushed files in a fresh process."""
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("HF_")},
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(
        [sys.executable, "-c", PIPE.format(before=before), repo, revision],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_both_forms_answer_from_the_hub(
    hub: Hub, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["push", str(model), "--repo", "small", "--format", "both", "--private", "--json"]
    assert main([*words, "--base-model", "someone/base", "--licence", "apache-2.0"]) == 0
    out, err = capsys.readouterr()
    repo = f"{OWNER}/small"
    assert json.loads(out)["repo"] == repo
    assert hub.private[repo]
    assert set(hub.repos[repo]) == {"main", "quantale"}
    assert hub.modes["lfs"] == 2

    plain = _piped(hub, repo, "main", "", tmp_path / "a")
    packed = _piped(hub, repo, "quantale", "import quantale", tmp_path / "b")
    assert plain[:3] == ["GPT2LMHeadModel", "Conv1D", False]
    assert packed[:3] == ["NanoGPTForCausalLM", "QuantLinear", True]
    assert plain[3] == packed[3]

    card = hub.repos[repo]["main"]["README.md"].decode()
    for part in ("5.25", "5.24 to 5.26", "PASS", "document-v2", "someone/base", "apache-2.0"):
        assert part in card
    assert 'revision="quantale"' in card
    assert "import quantale" in card
    assert "![frontier](frontier.svg)" in card
    assert "frontier.svg" in hub.repos[repo]["main"]
    assert "tales.txt" in card
    uploaded = b"".join(data for branch in hub.repos[repo].values() for data in branch.values())
    assert b"secret-place" not in uploaded
    assert TOKEN.encode() not in uploaded
    assert TOKEN not in out + err
    assert all(TOKEN not in path for _, path, _ in hub.requests)
    names = {name for branch in hub.repos[repo].values() for name in branch}
    assert not names & {"MANIFEST.json", "run.json"}


def test_the_bitsandbytes_form_is_uploaded_too(hub: Hub, model: Path) -> None:
    assert main(["push", str(model), "--repo", "me/four", "--format", "bitsandbytes"]) == 0
    files = hub.repos["me/four"]["main"]
    assert json.loads(files["config.json"])["quantization_config"]["load_in_4bit"]
    assert "bitsandbytes" in files["README.md"].decode()


def test_a_wrong_token_is_one_line_without_it(
    hub: Hub, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.token = "another"
    assert main(["push", str(model), "--repo", "a/b", "--format", "quantale"]) == 8
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: the Hub did not take it")
    assert TOKEN not in error
    assert hub.repos == {}


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [
        (["--repo", "../x"], 2, "neither NAME nor OWNER/NAME"),
        (["--repo", "a/b", "--format", "pickle"], 2, "no form named"),
        (["--repo", "a/b", "--results", "nowhere"], 2, "no records at"),
        (["--repo", "a/b", "--licence", "a\nb"], 2, "licence"),
    ],
)
def test_what_cannot_be_pushed_is_said_before_the_hub_is_asked(
    hub: Hub,
    model: Path,
    words: list[str],
    code: int,
    reason: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["push", str(model), *words]) == code
    assert reason in capsys.readouterr().err
    assert hub.requests == []


def test_without_a_token_nothing_is_asked(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert main(["push", str(model), "--repo", "a/b"]) == 6
    assert "HF_TOKEN" in capsys.readouterr().err
    assert hub.requests == []


def test_a_card_without_records_says_so() -> None:
    form = Form("hf", None, 10, "full precision")
    text = Card("a/b", "text-generation", Records("x"), [form]).text()
    assert "No measurements were recorded" in text
    assert "No licence was stated" in text
    assert "license:" not in text
