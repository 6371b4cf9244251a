"""`quantale demo` refuses what it can before anything is loaded."""

import sys
from pathlib import Path

import pytest

from quantale.cli.app import main


@pytest.fixture
def model(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    return str(folder)


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        (["--host", "0.0.0.0"], 2, "set QUANTALE_API_KEY"),
        (["--free", "--template", "{a} {b}"], 2, "exclude each other"),
        (["--votes", "."], 2, "a file in a folder that is there"),
        (["--votes", "no/such/folder/votes.jsonl"], 2, "a file in a folder that is there"),
        (["--template", "no field"], 2, "names no column"),
        (["--port", "70000"], 2, "65535"),
    ],
)
def test_bad_options_are_one_line_and_early(
    model: str, capsys: pytest.CaptureFixture[str], more: list[str], code: int, told: str
) -> None:
    assert main(["demo", model, *more]) == code
    printed = capsys.readouterr().err
    assert told in printed
    assert len(printed.strip().splitlines()) == 1


def test_a_short_key_is_refused(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTALE_API_KEY", "short")
    assert main(["demo", model]) == 2
    printed = capsys.readouterr().err
    assert "16" in printed
    assert "short" not in printed.split("QUANTALE_API_KEY")[1]


def test_a_missing_package_says_what_to_install(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["demo", model]) == 6
    assert "quantale[serve]" in capsys.readouterr().err


def test_votes_are_added_to_a_comparison(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"a": "x", "b": "x", "choice": "a"}\n')
    result = tmp_path / "documents.jsonl"
    lines = [
        f'{{"model": "{name}", "document": "{i}", "nll": {i + 1.0 + shift}, "tokens": 9,'
        ' "bytes": 40, "unknown": 0}'
        for name, shift in (("x", 0.0), ("y", 0.01))
        for i in range(30)
    ]
    result.write_text("\n".join(lines) + "\n")
    assert main(["compare", str(result), "--votes", str(path)]) == 3
    assert "vote 1" in capsys.readouterr().err
    path.write_text('{"a": "x", "b": "y", "choice": "a"}\n' * 3)
    assert main(["compare", str(result), "--votes", str(path)]) in (0, 10, 11)
    assert "100% (44 to 100)" in capsys.readouterr().out
