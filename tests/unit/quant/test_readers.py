"""Artefacts of other programs: read as they are meant, refused where they are damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from export_cases import method, source_of, wide_llama
from safetensors.torch import load_file, save_file
from tiny_models import tiny_gpt2, windows
from torch import Tensor

from quantale.cli.app import main
from quantale.core.errors import ModelFileError, UsageError
from quantale.core.registry import READERS
from quantale.export.exporters.bitsandbytes import Bitsandbytes
from quantale.export.exporters.compressed_tensors import CompressedTensors
from quantale.export.exporters.gguf import Gguf
from quantale.export.exporters.gptq import Gptq
from quantale.export.exporters.hf import Hf
from quantale.export.source import Source
from quantale.models.foreign import reader_of
from quantale.models.load import ForeignModel, load
from quantale.models.skeleton import open_model
from quantale.quant.ledger import inspect
from quantale.quant.whole import Methods, quantize_model

Change = Callable[[dict[str, Tensor], dict[str, Any]], object]
LAYER = "model.layers.0.self_attn.q_proj"


def folder_of(name: str, folder: Path) -> Path:
    """Write a good artefact of one kind."""
    folder.mkdir()
    exporters: dict[str, tuple[Any, str, str]] = {
        "gptq": (Gptq(), "rtn4", "auto"),
        "compressed-tensors": (CompressedTensors(), "rtn4", "pack-quantized"),
        "bitsandbytes": (Bitsandbytes(), "nf4", "nf4"),
    }
    exporter, packing, kind = exporters[name]
    exporter.write(source_of("llama", packing), kind, folder)
    return folder


def changed(folder: Path, change: Change) -> None:
    """Change the tensors and the quantization section of a folder."""
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    change(tensors, config["quantization_config"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))


def put(name: str, value: Callable[[Tensor], Tensor]) -> Change:
    def change(tensors: dict[str, Tensor], section: dict[str, Any]) -> None:
        tensors[f"{LAYER}.{name}"] = value(tensors[f"{LAYER}.{name}"]).contiguous()

    return change


def drop(name: str) -> Change:
    return lambda tensors, section: tensors.pop(f"{LAYER}.{name}")


def say(**words: Any) -> Change:
    return lambda tensors, section: section.update(words)


def state(text: str) -> Change:
    raw = torch.tensor(list(text.encode()), dtype=torch.uint8)
    return put("weight.quant_state.bitsandbytes__nf4", lambda old: raw)


DAMAGED: dict[str, tuple[str, Change]] = {
    "gptq without scales": ("gptq", drop("scales")),
    "gptq without zeros": ("gptq", drop("qzeros")),
    "gptq of another shape": ("gptq", put("qweight", lambda t: t[:-1])),
    "gptq with scales of another shape": ("gptq", put("scales", lambda t: t[:, :-1])),
    "gptq with groups that are not there": ("gptq", put("g_idx", lambda t: t + 99)),
    "gptq with negative groups": ("gptq", put("g_idx", lambda t: t - 1)),
    "gptq in floats": ("gptq", put("qweight", lambda t: t.float())),
    "gptq of a layout that is not known": ("gptq", say(checkpoint_format="marlin")),
    "gptq with NaN": ("gptq", put("scales", lambda t: t * float("nan"))),
    "ct without its scheme": ("compressed-tensors", say(config_groups={})),
    "ct of another format": ("compressed-tensors", say(format="float-quantized")),
    "ct of another shape": ("compressed-tensors", put("weight_packed", lambda t: t[1:])),
    "ct without scales": ("compressed-tensors", drop("weight_scale")),
    "ct with negative scales": ("compressed-tensors", put("weight_scale", lambda t: -t)),
    "bnb with a state that is no JSON": ("bitsandbytes", state("{")),
    "bnb with a state of another shape": (
        "bitsandbytes",
        state(json.dumps({"blocksize": 32, "shape": [1, 1], "quant_type": "nf4"})),
    ),
    "bnb with blocks of 0": (
        "bitsandbytes",
        state(json.dumps({"blocksize": 0, "shape": [64, 64], "quant_type": "nf4"})),
    ),
    "bnb with blocks of words": (
        "bitsandbytes",
        state(json.dumps({"blocksize": "many", "shape": [64, 64]})),
    ),
    "bnb without absmax": ("bitsandbytes", drop("weight.absmax")),
    "bnb of half the codes": ("bitsandbytes", put("weight", lambda t: t[::2])),
    "bnb with a layer of nowhere": (
        "bitsandbytes",
        lambda t, s: t.update({"nowhere.SCB": torch.zeros(3)}),
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_artefact_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    kind, change = DAMAGED[name]
    folder = folder_of(kind, tmp_path / "x")
    load(folder)
    changed(folder, change)
    with pytest.raises(ModelFileError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["gptq", "compressed-tensors", "bitsandbytes"])
def test_a_missing_or_unknown_plain_tensor_is_refused(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path / "x")
    changed(folder, lambda tensors, section: tensors.pop("model.norm.weight"))
    with pytest.raises(ModelFileError, match="norm"):
        load(folder)
    extra = {"model.other.weight": torch.zeros(2), "model.norm.weight": torch.ones(64)}
    changed(folder, lambda tensors, section: tensors.update(extra))
    with pytest.raises(ModelFileError, match="other"):
        load(folder)


def test_columns_in_an_order_of_their_own_become_plain_numbers(tmp_path: Path) -> None:
    """As `desc_act` leaves them: the same weight, its columns permuted, is not our format."""
    folder = folder_of("gptq", tmp_path / "x")
    straight = load(folder)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    weight = straight.model.get_submodule(LAYER).packed.dequantize()

    def permute(tensors: dict[str, Tensor], section: dict[str, Any]) -> None:
        rows = tensors[f"{LAYER}.qweight"].t().contiguous().view(torch.uint8)
        codes = torch.stack([rows & 15, rows >> 4], -1).flatten(1)[:, order]
        packed = (codes[:, 0::2] | (codes[:, 1::2] << 4)).contiguous().view(torch.int32)
        tensors[f"{LAYER}.qweight"] = packed.t().contiguous()
        tensors[f"{LAYER}.g_idx"] = tensors[f"{LAYER}.g_idx"][order].contiguous()

    changed(folder, permute)
    loaded = load(folder)
    assert isinstance(loaded, ForeignModel)
    assert "1 were turned into plain numbers (columns are grouped" in loaded.note
    assert torch.equal(loaded.model.get_submodule(LAYER).weight, weight[:, order])


def test_blocks_that_run_on_over_rows_become_plain_numbers(tmp_path: Path) -> None:
    """bitsandbytes allows rows that are no multiple of a block; here 32 columns, blocks of 64."""
    model = tiny_gpt2()
    source = Source(model, None, torch.float32)
    Bitsandbytes().write(source, "nf4", tmp_path)
    layer = "transformer.h.0.attn.c_attn"
    tensors = load_file(tmp_path / "model.safetensors")
    key = f"{layer}.weight.quant_state.bitsandbytes__nf4"
    stated = json.loads(bytes(tensors[key].tolist()))
    absmax = tensors[f"{layer}.weight.absmax"][::2].contiguous()
    stated["blocksize"] = 64
    tensors[key] = torch.tensor(list(json.dumps(stated).encode()), dtype=torch.uint8)
    tensors[f"{layer}.weight.absmax"] = absmax
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    loaded = load(tmp_path)
    assert isinstance(loaded, ForeignModel)
    assert "blocks run on" in loaded.note
    pairs = tensors[f"{layer}.weight"].flatten()
    codes = torch.stack([pairs >> 4, pairs & 15], -1).flatten().long()
    table = tensors[f"{layer}.weight.quant_map"]
    expected = (table[codes] * absmax.repeat_interleave(64)).view(96, 32)
    assert torch.equal(loaded.model.get_submodule(layer).weight, expected.t())


def test_the_ledger_counts_the_bytes_of_the_file(tmp_path: Path) -> None:
    for name in ("gptq", "compressed-tensors", "bitsandbytes"):
        folder = folder_of(name, tmp_path / name)
        ledger = inspect(load(folder).model, folder)
        assert ledger.bytes_on_disk == (folder / "model.safetensors").stat().st_size
        assert sum(ledger.components.values()) == ledger.bytes_on_disk
        assert ledger.components["metadata"] > 0
        assert {line.method for line in ledger.sites} == {"none", name}
    Gguf().write(source_of("llama", "rtn4"), "Q4_0", tmp_path)
    ledger = inspect(load(tmp_path / "model.gguf").model, tmp_path / "model.gguf")
    assert ledger.bytes_on_disk == (tmp_path / "model.gguf").stat().st_size
    assert {s.bits_per_weight for s in ledger.sites if s.method == "gguf"} == {4.5}


def test_an_artefact_of_others_can_be_measured_but_not_worked_on(tmp_path: Path) -> None:
    folder = folder_of("gptq", tmp_path / "x")
    with pytest.raises(UsageError, match="quantale export"):
        open_model(folder)
    assert main(["quantize", str(folder), "--method", "rtn", "--out", str(tmp_path / "y")]) == 2
    words = ["export", str(folder), "--format", "hf", "--out", str(tmp_path / "hf")]
    assert main([*words, "--samples", "2"]) == 0
    assert main(["inspect", str(folder)]) == 0
    open_model(tmp_path / "hf")


def test_plain_models_and_our_own_have_no_reader(tmp_path: Path) -> None:
    model = wide_llama()
    Hf().write(Source(model, None, torch.float32), "float32", tmp_path)
    assert reader_of(tmp_path) is None
    quantize_model(model, Methods(method("rtn", bits=4)))
    model.save_pretrained(tmp_path / "ours")
    assert reader_of(tmp_path / "ours") is None


def test_every_reader_is_named_after_what_it_reads() -> None:
    names = {"bitnet", "bitsandbytes", "compressed-tensors", "gguf", "gptq"}
    assert set(READERS.names()) == names
    assert all(READERS.get(name).__doc__ for name in names)


def test_a_dtype_is_given_to_what_is_not_packed(tmp_path: Path) -> None:
    folder = folder_of("gptq", tmp_path / "x")
    loaded = load(folder, dtype=torch.bfloat16)
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.model(windows(1)).logits.dtype == torch.bfloat16
    Gguf().write(source_of("llama", "rtn4"), "Q8_0", tmp_path)
    packed = load(tmp_path / "model.gguf", dtype=torch.bfloat16)
    assert packed.model(windows(1)).logits.dtype == torch.bfloat16
