"""Every fault is one line on stderr with its exit code, and leaves nothing behind."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quantale.cli.app import main
from quantale.core import errors

KINDS = [
    (errors.UsageError, 2),
    (errors.DataError, 3),
    (errors.ModelFileError, 4),
    (errors.OutputExistsError, 5),
    (errors.EnvironmentLackingError, 6),
    (errors.NumericalError, 7),
    (errors.HubError, 8),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put_stage(monkeypatch: pytest.MonkeyPatch, name: str, **functions: Callable[..., Any]) -> None:
    module = ModuleType(f"quantale.stages.{name}")
    for function, fake in functions.items():
        setattr(module, function, fake)
    monkeypatch.setitem(sys.modules, module.__name__, module)


def raising(error: BaseException) -> Callable[..., Any]:
    def fake(*_args: Any, **_options: Any) -> Any:
        raise error

    return fake


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    return shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no verb given"),
        (["rnu"], "Did you mean 'run'"),
        (["run"], "recipe"),
        (["run", "quickstart", "--fast"], "--fast"),
        (["run", "quikstart"], "did you mean 'quickstart'"),
        (["run", "none.yaml"], "no recipe file none.yaml"),
        (["run", "quickstart", "--set", "train.stps=3"], "did you mean 'steps'"),
        (["run", "quickstart", "--set", "train.clip=.nan"], "not a finite number"),
        (["run", "quickstart", "--seed", "-1"], "--seed"),
        (["plan", "quickstart", "--set", "variants.0.method=gtpq"], "did you mean 'gptq'"),
        (["recipes", "quikstart"], "did you mean 'quickstart'"),
        (["train"], "either a recipe or --model"),
        (["train", "quickstart", "--model", "gpt2"], "either a recipe or --model"),
        (["train", "--model", "gpt2"], "needs --data"),
        (["train", "--model", "./none", "--data", "storygen"], "no model directory ./none"),
        (["train", "quickstart", "--method", "ful"], "did you mean 'full'"),
        (["quantize", "gpt2"], "--method"),
        (["quantize", "gpt2", "--method", "gtpq"], "did you mean 'gptq'"),
        (["quantize", "gpt2", "--method", "rtn", "--head-method", "nf3"], "did you mean 'nf4'"),
        (["quantize", "gpt2", "--rules", "none.yaml"], "no rules file none.yaml"),
        (["quantize", "gpt2", "--method", "rtn", "--bits", "0"], "--bits"),
        (["quantize", "gpt2", "--method", "rtn", "--dtype", "half"], "--dtype"),
        (["quantize", "./none", "--method", "rtn"], "no model directory ./none"),
        (["quantize", "a/b/c", "--method", "rtn"], "no model directory a/b/c"),
        (["quantize", "file.pt", "--method", "rtn"], "is a file"),
        (["quantize", "gpt2", "--method", "rtn", "--preset", "4bit"], "should look like w4g64"),
        (["quantize", "gpt2", "--method", "rtn", "--bits", "9"], "--bits"),
        (["quantize", "gpt2", "--method", "rtn", "--group-size", "col"], "--group-size col"),
        (["quantize", "gpt2", "--method", "rtn", "--preset", "w4", "--bits", "3"], "both 4 and 3"),
        (["quantize", "gpt2", "--method", "rtn", "--set", "damp"], "should be key=value"),
        (["evaluate", "./none", "--data", "storygen"], "no model directory ./none"),
        (["evaluate", "gpt2"], "--data"),
        (["evaluate", "gpt2", "--data", "x", "--protocol", "documnet"], "did you mean 'document'"),
        (["evaluate", "gpt2", "--data", "x", "--protocol", "blocks"], "write 'blocks:N'"),
        (["evaluate", "gpt2", "--data", "x", "--protocol", "stride:ten"], "a number was expected"),
        (["stories", "./none", "--data", "storygen"], "no model directory ./none"),
        (["stories", "gpt2", "--data", "x", "--template", "{gnre}"], "{gnre} is none of genre"),
        (["stories", "gpt2", "--data", "x", "--template", "all"], "all prompts would be equal"),
        (["code", "gpt2"], "--data"),
        (["compare"], "base"),
        (["compare", "gpt2"], "needs two or more"),
        (["compare", "gpt2", "distilgpt2"], "and --data"),
        (
            ["compare", "gpt2", "a", "--data", "x", "--metric", "accuracy"],
            "by perplexity or",
        ),
        (["compare", "file.pt", "gpt2", "--data", "x"], "results with results"),
        (["compare", "file.pt", "file.pt", "--data", "x"], "leave --data"),
        (["inspect", "runs/none"], "no model directory runs/none"),
        (["generate", "./none"], "no model directory ./none"),
        (["generate", "gpt2", "--temperature", "-1"], "--temperature"),
    ],
)
def test_wrong_usage_exits_2_with_one_line_and_writes_nothing(
    words: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "file.pt").write_bytes(b"")
    (place / "runs").mkdir()
    assert main(words) == 2
    assert message in one_line(capsys)
    assert sorted(path.name for path in place.rglob("*")) == ["file.pt", "runs"]


@pytest.mark.parametrize(("kind", "code"), KINDS)
def test_each_kind_of_error_has_its_exit_code(
    kind: type[errors.QuantaleError],
    code: int,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_stage(monkeypatch, "inspect", inspect_model=raising(kind("what\n  came\x1b[31m")))
    assert main(["inspect", "gpt2", "--json"]) == code
    assert one_line(capsys) == "error: what came\\x1b[31m\n"
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ZeroDivisionError("by zero"), 1, "please report it"),
        (ModuleNotFoundError("No module named 'x'"), 1, "please report it"),
        (OSError(errno.ENOSPC, "No space left on device"), 6, "No space left"),
        (MemoryError(), 6, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_other_faults_are_one_line_too(
    error: BaseException,
    code: int,
    message: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_stage(monkeypatch, "inspect", inspect_model=raising(error))
    assert main(["inspect", "gpt2"]) == code
    assert message in one_line(capsys)


def test_debug_adds_the_traceback(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_stage(monkeypatch, "inspect", inspect_model=raising(errors.DataError("empty file")))
    assert main(["inspect", "gpt2", "--debug"]) == 3
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: empty file\n")


def test_a_result_that_is_not_a_number_is_never_printed(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_stage(monkeypatch, "inspect", inspect_model=lambda model: {"bytes": float("nan")})
    assert main(["inspect", "gpt2", "--json"]) == 1
    one_line(capsys)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_a_verb_in_order(number: signal.Signals, code: int, place: Path) -> None:
    script = """
import signal, sys, time, types
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit "ignored"
stage = types.ModuleType("quantale.stages.inspect")
def inspect_model(model):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        Path("cleaned").touch()
stage.inspect_model = inspect_model
sys.modules[stage.__name__] = stage
from quantale.cli.app import main
sys.exit(main(["inspect", "gpt2"]))
"""
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=place) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, shown = process.communicate(timeout=60)
    assert process.returncode == code
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert (place / "cleaned").exists()


def test_the_environment_is_set_before_anything_heavy_and_never_overridden(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, str] = {}

    def spy(model: str) -> dict[str, Any]:
        seen.update(os.environ)
        return {"components": {}, "sites": [], "refusals": {}}

    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    put_stage(monkeypatch, "inspect", inspect_model=spy)
    assert main(["inspect", "gpt2"]) == 0
    assert (seen["GOMP_SPINCOUNT"], seen["OMP_WAIT_POLICY"]) == ("0", "ACTIVE")
    assert seen["HF_HUB_DISABLE_TELEMETRY"] == "1"


def test_json_is_the_last_line_of_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    names = [row["name"] for row in json.loads(capsys.readouterr().out)["recipes"]]
    assert "quickstart" in names


@pytest.mark.parametrize("options", [[], ["--debug"]])
def test_a_library_complains_of_what_nobody_asked_for_only_in_the_log(
    options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    library, seen = logging.getLogger("bitsandbytes.backends.cpu.ops"), []
    before = logging.getLogger("bitsandbytes").level

    def inspect_model(_model: str) -> Any:
        seen.append(library.isEnabledFor(logging.WARNING))
        raise errors.DataError("enough")

    put_stage(monkeypatch, "inspect", inspect_model=inspect_model)
    assert main(["inspect", "gpt2", *options]) == 3
    assert seen == [bool(options)]
    assert logging.getLogger("bitsandbytes").level == before
