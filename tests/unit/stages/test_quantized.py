"""Model directories made from model directories, whatever their weights are called."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_llama

from quantale.core.progress import Silent
from quantale.core.records import read_json
from quantale.models.load import load
from quantale.quant.ledger import inspect
from quantale.quant.methods.rtn import Rtn
from quantale.quant.proof import logits_digest
from quantale.quant.whole import Methods
from quantale.stages import quantized
from quantale.stages.quantized import Job, make_model

JOB = Job(Methods(Rtn(4, 16), embedding=Rtn(8)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tiny_llama().to(torch.bfloat16).save_pretrained(tmp_path / "source")
    return tmp_path / "source"


def made(source: Path, folder: Path) -> dict[str, str]:
    folder.mkdir()
    digest = make_model(source, JOB, folder, Silent())
    summary: dict[str, str] = read_json(folder / "summary.json")
    assert summary["logits_sha256"] == digest == logits_digest(load(folder).model)
    return summary


def test_weights_that_transformers_must_convert_are_loaded_whole_and_end_alike(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streamed = made(source, tmp_path / "streamed")
    monkeypatch.setattr(quantized, "fits", lambda model, checkpoint: False)
    whole = made(source, tmp_path / "whole")
    assert whole["logits_sha256"] == streamed["logits_sha256"]
    one, other = (load_file(tmp_path / n / "model.safetensors") for n in ("streamed", "whole"))
    assert set(one) == set(other)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["model.norm.weight"].dtype == torch.bfloat16


def test_a_model_that_fits_is_never_loaded_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(quantized, "load", None)
        (tmp_path / "out").mkdir()
        make_model(source, JOB, tmp_path / "out", Silent())
    ledger = read_json(tmp_path / "out" / "ledger.json")
    summary = read_json(tmp_path / "out" / "summary.json")
    model = load(tmp_path / "out", dtype=torch.bfloat16).model
    assert ledger["bytes_resident"] == inspect(model).bytes_resident
    plain = load(source, dtype=torch.bfloat16).model
    assert summary["bytes_resident_before"] == inspect(plain).bytes_resident
