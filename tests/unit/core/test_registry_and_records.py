"""Plug-ins are found by file name; records survive the round trip and refuse NaN."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.core import provenance
from quantale.core.errors import DataError, NumericalError, OutputExistsError, UsageError
from quantale.core.records import Measurement, read_lines, to_json_line, write_lines
from quantale.core.registry import CORPORA, FORMATS, KERNELS, METHODS
from quantale.core.run import RunKey, making, open_run, sealed


def test_the_shipped_plug_ins_are_listed_without_importing_torch() -> None:
    code = (
        "import sys; from quantale.core.registry import METHODS, FORMATS, KERNELS, CORPORA\n"
        "print(METHODS.names(), FORMATS.names(), KERNELS.names(), CORPORA.names())\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("gptq", "rtn", "affine", "reference", "storygen"):
        assert f"'{name}'" in done.stdout


@pytest.mark.parametrize("registry", [METHODS, FORMATS, KERNELS, CORPORA])
def test_every_listed_name_can_be_loaded(registry: object) -> None:
    for name in registry.names():  # type: ignore[attr-defined]
        loaded = registry.get(name)  # type: ignore[attr-defined]
        assert loaded.__name__.lower() == name.replace("-", "")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"'gtpq' is none of the methods.*did you mean 'gptq'"):
        METHODS.get("gtpq")


numbers = st.floats(allow_nan=False, allow_infinity=False)


@given(value=numbers, low=st.none() | numbers, text=st.text(max_size=20))
def test_measurements_survive_the_round_trip(
    value: float, low: float | None, text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("records") / "r.jsonl"
    one = Measurement(text, "language", "document", "perplexity", value, "", 3, ci_low=low)
    write_lines(path, [one, one])
    assert [Measurement(**line) for line in read_lines(path)] == [one, one]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(NumericalError, match="not finite"):
        to_json_line({"value": value})


@pytest.mark.parametrize(("text", "message"), [("{}\n{", r"r\.jsonl:2"), ("[1]", r"r\.jsonl:1")])
def test_a_bad_line_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_lines(tmp_path / "r.jsonl")


def test_a_run_is_skipped_with_its_key_and_refused_with_another(tmp_path: Path) -> None:
    key = RunKey("train", 1, {"steps": 3}, {"data": "abc"})
    other = RunKey("train", 1, {"steps": 4}, {"data": "abc"})
    path = tmp_path / "run"
    assert sealed(path, key) is None
    with making(path, key) as folder:
        (folder / "x").write_text("x")
    (path / "checkpoints").mkdir()  # as a kill between rename and tidying leaves it
    found = sealed(path, key)
    assert not (path / "checkpoints").exists()
    assert found == open_run(path, full=True)
    with pytest.raises(OutputExistsError, match="other settings"):
        sealed(path, other)


def test_provenance_names_versions_and_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    provenance.collect.cache_clear()
    found = provenance.collect()
    assert found["packages"]["torch"]
    assert "hf_secret" not in str(found)
    assert provenance.digest(found) == provenance.digest(dict(found))
