"""The notebook runs from first cell to last, on fewer steps, and is kept without outputs."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from repository import ROOT

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
VARIANT = "gptq-4bit-emb8"
QUICK = (
    "train.steps=20",
    "train.warmup_steps=5",
    "train.evaluate_every=20",
    "train.evaluate_documents=8",
    "data.train_documents=300",
    "data.validation_documents=20",
    "data.test_documents=20",
    "calibration.samples=4",
    "evaluate.documents=8",
    "compare.resamples=200",
    "report.new_tokens=8",
    "bench=null",
)


@pytest.fixture
def notebook() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_kept_without_outputs(notebook: Any) -> None:
    nbformat.validate(notebook)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None), cell.id


def test_the_only_parameters_are_those_of_one_cell(notebook: Any) -> None:
    (cell,) = [one for one in notebook.cells if "parameters" in one.metadata.get("tags", ())]
    settings: dict[str, Any] = {}
    exec(cell.source, {}, settings)
    assert sorted(settings) == ["OPTIONS", "OUT", "SHOWN", "SOURCE"]
    assert settings["SHOWN"] == VARIANT


@pytest.mark.slow
def test_it_runs_and_a_quantized_model_writes(
    notebook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    options = " ".join(f"--set {one}" for one in QUICK)
    (cell,) = [one for one in notebook.cells if one.id == "parameters"]
    cell.source = f"SOURCE = None\nOPTIONS = {options!r}\nOUT = 'run'\nSHOWN = {VARIANT!r}\n"
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    results = {cell.id: outputs(cell) for cell in notebook.cells if cell.cell_type == "code"}
    assert "report.html" in results["run"]
    assert "<iframe" in results["report"]
    assert VARIANT in results["report"]
    assert "Affine(bits=4" in results["bytes"]
    assert "'Once upon a time" in results["write"]
    assert "'Once upon a time'" not in results["write"]  # it went on


def outputs(cell: Any) -> str:
    """Return all that a cell showed, as one text."""
    return "".join(
        json.dumps(output.data) if "data" in output else output.get("text", "")
        for output in cell.outputs
    )
