"""`quantale bench`: sweeps, the table, records and refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import tiny_gpt2, tiny_llama

from quantale.cli.app import main

QUICK = ["--rounds", "1", "--runs", "1", "--new", "4", "--prompt", "4", "--threads", "1"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    tiny_gpt2().save_pretrained(folder / "a")
    tiny_llama().save_pretrained(folder / "b")
    return [str(folder / "a"), str(folder / "b")]


def test_every_combination_is_timed_against_the_first_model(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.jsonl"
    words = ["bench", *models, *QUICK, "--prompt", "4,8", "--batch", "1,2", "--out", str(out)]
    assert main([*words, "--json"]) == 0
    found: Any = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = found["timings"]
    swept = [(row["model"], row["prompt"], row["batch"]) for row in rows]
    assert swept == [(m, p, b) for p in (4, 8) for b in (1, 2) for m in ("a", "b")]
    assert {row["pace"] for row in rows} == {"base", "too few rounds"}
    for row in rows:
        assert row["p90"] >= row["ms_per_token"] * 0.5
        assert row["roofline"] > 0
        assert set(row["peak_by_phase"]) == {"load", "prefill", "decode"}
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["protocol"] for line in lines} == {
        f"decode(prompt={p},new=4,batch={b},threads=1,rounds=1,runs=1,kernels=fast,greedy,eos=no)"
        for p in (4, 8)
        for b in (1, 2)
    }


def test_a_model_given_twice_is_timed_twice(
    models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", models[0], models[0], *QUICK]) == 0
    text = capsys.readouterr().out
    assert "a (2)" in text
    assert "against the first" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch", "1,x"], "--batch takes whole numbers above 0, as 1,4,16; '1,x' came"),
        (["--threads", "0"], "--threads takes whole numbers above 0"),
        (["--kernels", "quick"], "kernels must be fast or exact, 'quick' came"),
        (["--device", "nowhere"], "no device 'nowhere' here"),
        (["--prompt", "4096"], "do not fit its context"),
    ],
)
def test_what_cannot_be_timed_is_one_line(
    models: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", models[0], *QUICK, *words]) != 0
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error


def test_an_existing_file_is_not_overwritten(models: list[str], tmp_path: Path) -> None:
    out = tmp_path / "there.jsonl"
    out.write_text("")
    assert main(["bench", models[0], *QUICK, "--out", str(out)]) != 0
