"""Adapters as models: written, loaded over the base that they name by hash, refused otherwise."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from packing import pack, tiny
from peft import PeftModel, get_peft_model
from tiny_models import windows
from transformers import AutoModelForCausalLM, PreTrainedModel

from quantale.core.errors import ModelFileError, UsageError
from quantale.evaluation.decode import load_pretrained
from quantale.models.adapter_record import RECORD, base_of, model_digest, record_base
from quantale.models.load import load
from quantale.quant.ledger import inspect, kernel_names
from quantale.quant.lora import lora_config
from quantale.quant.save import write_model
from quantale.quant.sites import find_sites
from quantale.tuning.method import Start
from quantale.tuning.methods.lora import Lora

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"
)  # peft 0.21 calls transformers 5.23 by old names


def trained(base: Path, **settings: Any) -> PreTrainedModel:
    """Return a model of a folder with an adapter that does something."""
    model: PreTrainedModel = load(base).model
    work = Lora(rank=4, **settings).begin(Start(model, seed=1, base=str(base)))
    with torch.no_grad():
        for weight in work.objective.trainable(model).values():
            weight.add_(0.05)
    return model.eval()


def write_base(folder: Path, name: str = "GPT2", *, is_packed: bool = True) -> Path:
    model = tiny(name)
    if is_packed:
        pack(model)
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base")


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    write_model(trained(base), None, folder)
    return folder


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=windows(2)).logits
    return found


@pytest.mark.parametrize("is_packed", [True, False])
@pytest.mark.parametrize("settings", [{}, {"dora": True}, {"biases": True}])
def test_an_adapter_folder_loads_as_the_model_that_was_trained(
    settings: dict[str, bool], is_packed: bool, tmp_path: Path
) -> None:
    base = write_base(tmp_path / "base", is_packed=is_packed)
    model = trained(base, **settings)
    write_model(model, None, tmp_path / "adapter")
    again = load(tmp_path / "adapter").model
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(again), logits(load(base).model))
    assert not any(p.requires_grad for n, p in again.named_parameters() if "lora_" in n)
    assert again.generate(windows(1, 4), max_new_tokens=2, do_sample=False).shape == (1, 6)
    assert set(kernel_names(again)) == set(kernel_names(load(base).model))
    write_model(model, None, tmp_path / "twice")
    names = ["adapter_config.json", "adapter_model.safetensors", RECORD]
    assert sorted(path.name for path in (tmp_path / "adapter").iterdir()) == sorted(names)
    for name in names:
        assert (tmp_path / "twice" / name).read_bytes() == (
            tmp_path / "adapter" / name
        ).read_bytes()


def test_stock_peft_reads_what_is_written(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "Llama", is_packed=False)
    model = trained(base)
    write_model(model, None, tmp_path / "adapter")
    plain = AutoModelForCausalLM.from_pretrained(base)
    again = PeftModel.from_pretrained(plain, str(tmp_path / "adapter")).eval()
    assert torch.equal(logits(again), logits(model))


def test_what_stock_peft_writes_is_read_once_its_base_is_recorded(
    base: Path, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = get_peft_model(model, lora_config(model, r=2, task_type="CAUSAL_LM"))
    folder = tmp_path / "adapter"
    tuned.save_pretrained(folder)
    with pytest.raises(ModelFileError, match="nothing says what its base was"):
        load(folder)
    record_base(folder, base)
    assert torch.equal(logits(load(folder).model), logits(tuned.eval()))


def test_the_record_names_the_base_without_a_path_of_this_machine(
    adapter: Path, base: Path, tmp_path: Path
) -> None:
    record = json.loads((adapter / RECORD).read_text())
    assert record["base"] == "../base"
    assert record["sha256"] == model_digest(base)
    for path in adapter.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for folder in (adapter, base):
        shutil.move(folder, moved / folder.name)
    load(moved / "adapter")


def test_a_base_that_changed_or_is_gone_is_refused(adapter: Path, base: Path) -> None:
    write_base(base, "Llama")
    with pytest.raises(ModelFileError, match="its hash is another"):
        load(adapter)
    shutil.rmtree(base)
    with pytest.raises(ModelFileError, match="is not there"):
        base_of(adapter)


def test_the_ledger_is_the_bases_with_the_adapter_added(adapter: Path, base: Path) -> None:
    whole = inspect(load(adapter, dtype=None).model, adapter)
    plain = inspect(load(base, dtype=None).model, base)
    weights = adapter / "adapter_model.safetensors"
    assert whole.bytes_on_disk is not None
    assert plain.bytes_on_disk is not None
    assert whole.bytes_on_disk == plain.bytes_on_disk + weights.stat().st_size
    assert whole.components["adapter"] == 4 * whole.adapter_parameters
    assert whole.adapter_parameters == whole.parameters - plain.parameters
    assert plain.adapter_parameters == plain.components["adapter"] == 0
    assert [line.name for line in whole.sites] == [line.name for line in plain.sites]
    assert whole.bits_per_weight == plain.bits_per_weight
    assert sum(whole.components.values()) == whole.bytes_on_disk


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type"),
        ({"r": 10**9}, "does not fit"),
        ({"r": "8"}, "r is '8'"),
        ({"target_modules": ["(a+)+b"]}, "no module's name"),
        ({"megatron_config": {"x": 1}}, "megatron_config is set"),
        ({"layer_replication": [[0, 9]]}, "layer_replication is set"),
        ({"auto_mapping": {"base_model_class": "os"}}, "auto_mapping is set"),
        ({"init_lora_weights": "pissa"}, "changed the base weights"),
        ({"use_dora": True}, "not both"),
        ({"target_modules": ["transformer.h.0.attn.c_attn"]}, "not both"),
    ],
)
def test_a_configuration_that_would_do_something_else_is_refused(
    change: dict[str, Any], message: str, adapter: Path
) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelFileError, match=message):
        load(adapter)


def test_pickled_or_damaged_adapters_are_refused(adapter: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(ModelFileError, match="stored"):
        load(adapter)
    weights.rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelFileError, match="never opened"):
        load(adapter)


def test_an_adapter_is_neither_quantized_nor_stacked(adapter: Path, tmp_path: Path) -> None:
    model = load(adapter).model
    with pytest.raises(UsageError, match="merge it"):
        find_sites(model)
    with pytest.raises(UsageError, match="is an adapter itself"):
        record_base(tmp_path, adapter)


def test_an_adapter_is_timed_like_any_model(adapter: Path) -> None:
    timed = load_pretrained(str(adapter))
    assert torch.equal(logits(timed), logits(load(adapter).model))
    assert timed.dtype == load(adapter, dtype=None).model.dtype
