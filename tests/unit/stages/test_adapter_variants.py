"""Variants that are adapters: made, verified, evaluated and compared like any other model."""

from pathlib import Path

import pytest
import torch
from tiny_models import windows
from tiny_recipes import TRAIN, tiny_recipe

from quantale.core.errors import ModelFileError
from quantale.core.progress import Silent
from quantale.core.records import read_json
from quantale.models.adapter_record import is_adapted
from quantale.models.load import load
from quantale.quant.ledger import stored_sites
from quantale.stages.inspect import inspect_model
from quantale.stages.merge import merge_adapter
from quantale.stages.pipeline import run_recipe
from quantale.stages.requests import MergeRequest, QuantizeRequest

FAST = {**TRAIN, "learning_rate": 1e-2, "min_learning_rate": 1e-3}
LORA = {**FAST, "method": "lora", "settings": {"rank": 2, "dropout": 0.0}}
MERGED = {**FAST, "method": "lora", "settings": {"rank": 2, "merge": True}}
RTN = {"method": "rtn", "bits": 4, "group_size": 16}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole experiment, its page included."""
    out = tmp_path_factory.mktemp("adapted") / "run"
    asked = tiny_recipe(
        {"name": "packed", **RTN},
        {"name": "lora", "tune": LORA},
        {"name": "qlora", "tune": LORA, **RTN},
        {"name": "again", "tune": MERGED, **RTN},
        {"name": "onto", "start": "packed", "tune": MERGED},
        train=FAST,
        report={"prompts": ["One day"], "new_tokens": 2},
    )
    run_recipe(asked, out, only=None, resume=False, progress=Silent())
    return out


def logits(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = load(folder).model(input_ids=windows(2)).logits
    return found


def test_adapters_are_variants_like_any_other(made: Path) -> None:
    assert list(read_json(made / "verify/verified.json")) == [
        "again",
        "lora",
        "onto",
        "packed",
        "qlora",
    ]
    verdicts = read_json(made / "compare/verdicts.json")
    assert {pair["other"] for pair in verdicts["pairs"]} == {
        "packed",
        "lora",
        "qlora",
        "again",
        "onto",
    }
    page = (made / "compare/report.html").read_text(encoding="utf-8")
    assert "adapter" in page


def test_an_adapter_that_stays_lies_over_its_quantized_base(made: Path) -> None:
    qlora = load(made / "tune/qlora/model").model
    assert is_adapted(qlora)
    assert {site.method for site in stored_sites(qlora)} == {"rtn"}
    record = read_json(made / "tune/qlora/model/quantale_adapter.json")
    assert record["base"] == "../../../quantize/qlora"
    assert record["training_seed"] == qlora.config.training_seed == 1
    summary = read_json(made / "tune/qlora/summary.json")
    ledger = inspect_model(str(made / "tune/qlora/model"))
    assert ledger["adapter_parameters"] == summary["trainable_parameters"] > 0
    assert ledger["parameters"] == summary["parameters"]
    base = inspect_model(str(made / "quantize/qlora"))
    assert ledger["bytes_on_disk"] > base["bytes_on_disk"]
    assert torch.equal(logits(made / "quantize/qlora"), logits(made / "quantize/packed"))


def test_a_merged_adapter_leaves_a_plain_model_that_is_quantized_after_it(made: Path) -> None:
    tuned = load(made / "tune/again/model").model
    assert not is_adapted(tuned)
    assert not stored_sites(tuned)
    assert stored_sites(load(made / "quantize/again").model)
    assert not stored_sites(load(made / "tune/onto/model").model)
    for name in ("again", "onto"):
        assert 0 <= read_json(made / f"tune/{name}/summary.json")["merged_kl"] < 1e-6


def test_base_and_tuned_share_no_weight(made: Path) -> None:
    """A comparison with itself would follow: the fault of many projects with peft."""
    folders = [made / "train/model", made / "tune/lora/model", made / "quantize/packed"]
    models = [load(folder).model for folder in (*folders, made / "tune/qlora/model")]
    seen: set[int] = set()
    for model in models:
        own = {t.data_ptr() for t in (*model.parameters(), *model.buffers()) if t.numel()}
        assert not own & seen
        seen |= own
    assert not torch.equal(logits(folders[0]), logits(folders[1]))


def test_merging_is_checked_on_text_and_gated(made: Path, tmp_path: Path) -> None:
    adapter = str(made / "tune/qlora/model")
    asked = MergeRequest(adapter, "storygen", limit=24, margin=1e-4)
    found = merge_adapter(asked, tmp_path / "merged", resume=False, progress=Silent())
    assert found["verdict"] == "PASS"
    assert [row["step"] for row in found["steps"]] == ["merged"]
    assert found["steps"][0]["kl_mean"] < 1e-8
    assert torch.allclose(logits(tmp_path / "merged"), logits(Path(adapter)), atol=1e-5)
    coarse = QuantizeRequest(adapter, "rtn", {"bits": 1, "group_size": 16})
    asked = MergeRequest(
        adapter, "storygen", str(made / "train/model"), coarse, margin=1e-9, limit=24
    )
    found = merge_adapter(asked, tmp_path / "coarse", resume=False, progress=Silent())
    assert found["verdict"] == "FAIL"
    assert [row["step"] for row in found["steps"]] == ["merged", "quantized"]
    assert found["steps"][1]["ci_low"] > 1e-9
    assert stored_sites(load(tmp_path / "coarse").model)
    assert not (tmp_path / "coarse/scratch").exists()
    one = MergeRequest(adapter, "storygen", limit=3, margin=1e-4)
    found = merge_adapter(one, tmp_path / "one", resume=False, progress=Silent())
    assert found["verdict"] == "CANNOT TELL"  # so few have no interval


def test_an_adapter_over_another_base_is_refused(made: Path) -> None:
    weights = made / "quantize/qlora/model.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelFileError, match=r"hash is another|differs from its seal"):
            load(made / "tune/qlora/model")
    finally:
        weights.write_bytes(whole)
