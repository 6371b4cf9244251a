"""The method of the README is real: it registers, quantizes, saves, reloads and keeps its word."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from repository import ROOT, fences
from tiny_models import tiny_nanogpt

import quantale
from quantale.core.registry import METHODS
from quantale.quant.hf import QuantaleConfig
from quantale.quant.methods.rtn import Rtn
from quantale.quant.proof import logits_digest
from quantale.quant.save import verify_saves, write_model
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.variants import make_method

NAME = "clipped"


def source() -> str:
    (fence,) = [f for f in fences(ROOT / "README.md", "python") if "class Clipped" in f.text]
    return fence.text


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install the method as another distribution would: a module and an entry point."""
    (tmp_path / f"{NAME}.py").write_text(source(), encoding="utf-8")
    metadata = tmp_path / "elsewhere-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    entry = f"[{METHODS.group}]\n{NAME} = {NAME}:Clipped\n"
    (metadata / "entry_points.txt").write_text(entry)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop(NAME, None)


def test_its_body_has_six_lines() -> None:
    functions = [n for n in ast.walk(ast.parse(source())) if isinstance(n, ast.FunctionDef)]
    (quantize,) = [function for function in functions if function.name == "quantize"]
    body = quantize.body[1:]  # without the docstring
    assert (body[-1].end_lineno or 0) - body[0].lineno + 1 == 6


def test_an_entry_point_is_all_it_needs(installed: None) -> None:
    assert NAME in METHODS.names()
    method: Any = make_method(NAME, {"bits": 3, "group_size": 32, "clip": 0.1})
    assert method == quantale.methods.Clipped(bits=3, group_size=32, clip=0.1)


def test_it_packs_saves_and_loads_in_a_fresh_process(installed: None, tmp_path: Path) -> None:
    model = tiny_nanogpt()
    results = quantize_model(model, Methods(make_method(NAME, {"bits": 4, "group_size": 16})))
    assert {result.method for result in results} == {NAME}
    assert isinstance(model.config.quantization_config, QuantaleConfig)
    write_model(model, None, tmp_path / "saved")
    verify_saves({tmp_path / "saved": logits_digest(model)})


def test_it_beats_plain_rounding_where_its_idea_helps(installed: None) -> None:
    """Two outliers a row that the grid gives up: the other weights get finer steps."""
    weight = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    weight[:, 0], weight[:, 1] = 12.0, -12.0
    clipped = make_method(NAME, {"bits": 3, "clip": 0.02}).quantize(weight).dequantize()
    plain = Rtn(bits=3).quantize(weight).dequantize()
    inner = slice(2, None)
    assert _error(clipped, weight, inner) < 0.2 * _error(plain, weight, inner)


def _error(found: torch.Tensor, weight: torch.Tensor, columns: slice) -> float:
    return float((found - weight)[:, columns].square().mean())
