"""Exports and imports against other libraries, closed forms and the model itself."""

import warnings
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from export_cases import FAMILIES, method, packings, source_of, wide_llama
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from tiny_models import tiny_gpt2, windows
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from quantale.cli.app import main
from quantale.core.records import read_json, read_lines, write_json
from quantale.export.exporters.bitsandbytes import unpacked_on_processors
from quantale.export.exporters.compressed_tensors import CompressedTensors
from quantale.export.exporters.gguf import Gguf
from quantale.export.exporters.gptq import Gptq
from quantale.export.source import Source
from quantale.export.verify import divergence
from quantale.models.gguf_header import TYPES
from quantale.models.load import ForeignModel, load
from quantale.quant.ledger import inspect
from quantale.quant.linear import PackedModule
from quantale.quant.merging import unpacked
from quantale.quant.whole import Methods, quantize_model


@torch.no_grad()
def nll(model: Any, tokens: Tensor) -> float:
    """Mean nats a token, in float64."""
    logits = model(input_ids=tokens).logits.double()
    return float(nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))


def test_our_table_of_types_is_that_of_gguf_py() -> None:
    sizes = {
        kind.value: (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType
    }
    assert {number: sizes[number] for number in TYPES} == TYPES


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("kind", "steps"), [("Q8_0", 0.5), ("Q4_0", 1.0)])
def test_a_requantized_weight_stays_within_its_grid(
    family: str, kind: str, steps: float, tmp_path: Path
) -> None:
    """Q8_0 rounds to the nearest step; the largest weight of a Q4_0 block sits at -8 steps, so
    that one of the other sign may lose a whole step. Steps are rounded to float16."""
    source = source_of(family, "plain")
    written = Gguf().write(source, kind, tmp_path)
    assert written.grade == "requantized"
    for name in written.requantized:
        if "embed" in name or "wte" in name:
            continue
        before = dict(source.plain.named_parameters())[name].detach()
        found = written.meant[name]
        if "c_" in name:
            before, found = before.t(), found.t()
        blocks = before.reshape(-1, 32)
        top = 127 if kind == "Q8_0" else 8
        step = blocks.abs().amax(-1, keepdim=True) / top
        wrong = (found.reshape(-1, 32) - blocks).abs() / step.clamp(min=1e-12)
        assert float(wrong.max()) <= steps + top * 2.0**-11 + 1e-4, name


@pytest.mark.parametrize("family", FAMILIES)
def test_a_grid_that_agrees_is_taken_over_exactly(family: str, tmp_path: Path) -> None:
    """4 bits, groups of 32, symmetric, float16 scales: that is Q4_0, and Q8_0 holds it too."""
    for kind in ("Q4_0", "Q8_0"):
        source = source_of(family, "rtn4")
        folder = tmp_path / kind
        folder.mkdir()
        written = Gguf().write(source, kind, folder)
        assert written.requantized == ()
        ours = dict(unpacked(source.model).named_parameters())
        back = Gguf().read_back(folder)
        packed = [name for name, m in source.model.named_modules() if isinstance(m, PackedModule)]
        stock = dict(source.plain.named_parameters())
        assert packed
        for name, parameter in back.named_parameters():
            if name.removesuffix(".weight") in packed:
                assert torch.equal(parameter, stock[name]), name
        assert ours
        assert divergence(source.model, back, windows(2), 1.0).kl_mean < 1e-4


@pytest.mark.parametrize("bits", [1, 1.58])
def test_binary_and_ternary_weights_fit_tq2_0_exactly(bits: float, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=96, n_positions=64, n_embd=256, n_layer=1, n_head=4, **ends)
    model = GPT2LMHeadModel(config).eval()
    chosen = {
        1: method("binary", group_size=256),
        1.58: method("bitnet", group_size=256, scale_dtype="float16", activation_bits=None),
    }[bits]
    quantize_model(model, Methods(chosen))
    source = Source(model, None, torch.float32)
    written = Gguf().write(source, "TQ2_0", tmp_path)
    assert written.requantized == ()
    assert divergence(model, Gguf().read_back(tmp_path), windows(2), 1.0).kl_mean < 1e-6
    loaded = load(tmp_path)
    line = next(s for s in inspect(loaded.model, tmp_path).sites if s.name.endswith("c_fc"))
    assert line.bits_per_weight == 2.0625


@pytest.mark.parametrize("kind", ["Q4_1", "Q5_0", "Q5_1", "BF16"])
def test_other_types_of_gguf_py_are_read_as_it_reads_them(kind: str, tmp_path: Path) -> None:
    source = source_of("llama", "plain")
    Gguf().write(source, "F32", tmp_path)
    path = tmp_path / "model.gguf"
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    for name, item in reader.fields.items():
        if name.startswith(("GGUF.", "general.architecture")):
            continue
        sub = item.types[1] if len(item.types) > 1 else None
        writer.add_key_value(name, item.contents(), item.types[0], sub)
    wanted = {}
    number = gguf.GGMLQuantizationType[kind]
    for entry in reader.tensors:
        if "ffn" in entry.name and "norm" not in entry.name:
            data = gguf.quants.quantize(np.array(entry.data), number)
            wanted[entry.name] = gguf.quants.dequantize(data, number)
            writer.add_tensor(entry.name, data, raw_dtype=number)
        else:
            writer.add_tensor(entry.name, np.array(entry.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    loaded = load(tmp_path / "other.gguf")
    found = dict(unpacked(loaded.model).named_parameters())
    for index in range(2):
        ours = found[f"model.layers.{index}.mlp.up_proj.weight"]
        assert torch.equal(ours, torch.from_numpy(wanted[f"blk.{index}.ffn_up.weight"]))
    assert isinstance(loaded, ForeignModel)
    assert ("turned into plain numbers" in loaded.note) == (kind in ("Q4_1", "Q5_1"))


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (8, False), (2, False)])
def test_a_gptq_round_trip_is_our_own_weight(
    version: str, bits: int, symmetric: bool, tmp_path: Path
) -> None:
    model = wide_llama()
    quantize_model(
        model, Methods(method("gptq", bits=bits, group_size=32, symmetric=symmetric)), windows(8)
    )
    source = Source(model, None, torch.float32)
    zeros = [p.tensors.get("zero_point") for p in source.packed.values()]
    if version == "v1" and any(z is not None and bool((z == 0).any()) for z in zeros):
        version = "auto"  # a zero point of 0 may be among them
    Gptq().write(source, version, tmp_path)
    loaded = load(tmp_path)
    ours = {n: m for n, m in model.named_modules() if isinstance(m, PackedModule)}
    theirs = {n: m for n, m in loaded.model.named_modules() if isinstance(m, PackedModule)}
    assert set(ours) == set(theirs)
    for name, module in ours.items():
        assert torch.equal(module.packed.dequantize(), theirs[name].packed.dequantize())
        assert module.packed.bits_per_weight == theirs[name].packed.bits_per_weight
    x = windows(2)
    with torch.no_grad():
        assert torch.equal(model(x).logits, loaded.model(x).logits)


def test_compressed_tensors_decompresses_to_our_own_weight(tmp_path: Path) -> None:
    for bits, symmetric in ((4, True), (3, False), (8, False), (1, False)):
        model = wide_llama()
        chosen = method("rtn", bits=bits, group_size=32, symmetric=symmetric)
        quantize_model(model, Methods(chosen))
        folder = tmp_path / f"{bits}{symmetric}"
        folder.mkdir()
        CompressedTensors().write(Source(model, None, torch.float32), "pack-quantized", folder)
        theirs = dict(CompressedTensors().read_back(folder).named_parameters())
        ours = dict(unpacked(model).named_parameters())
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        again = dict(unpacked(load(folder).model).named_parameters())
        assert all(torch.equal(ours[name], again[name]) for name in ours)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("family", ["llama", "wide gpt2"])
def test_our_nf4_and_bitsandbytes_own_files_give_the_same_perplexity(
    family: str, double: bool, tmp_path: Path
) -> None:
    """The artefact is written by transformers and bitsandbytes, and read by us without them."""
    model = wide_llama() if family == "llama" else _wide_gpt2()
    model.save_pretrained(tmp_path / "plain")
    section = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double,
        bnb_4bit_compute_dtype=torch.float32,
    )
    with unpacked_on_processors():
        theirs = AutoModelForCausalLM.from_pretrained(
            tmp_path / "plain", quantization_config=section, device_map={"": "cpu"}
        )
        theirs.save_pretrained(tmp_path / "theirs")
        tokens = windows(4)
        expected = nll(theirs.eval(), tokens)
    loaded = load(tmp_path / "theirs")
    ours = wide_llama() if family == "llama" else _wide_gpt2()
    quantize_model(ours, Methods(method("nf4", group_size=64, double_quant=double)))
    assert isinstance(loaded, ForeignModel)
    assert "stay packed" in loaded.note
    assert "plain numbers" not in loaded.note
    # The mean of all scales, which double quantization takes off, is summed in another order.
    near = 1e-4 if double else 1e-6
    assert nll(ours, tokens) == pytest.approx(nll(loaded.model, tokens), abs=near)
    assert nll(loaded.model, tokens) == pytest.approx(expected, abs=1e-5)
    assert nll(model, tokens) != pytest.approx(expected, abs=1e-4)
    bits = inspect(loaded.model, tmp_path / "theirs").bits_per_weight
    assert bits == pytest.approx(4.127 if double else 4.5, abs=0.02)


def _wide_gpt2() -> PreTrainedModel:
    from tiny_models import spread
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(vocab_size=96, n_positions=64, n_embd=64, n_layer=2, n_head=4, **ends)
    return spread(GPT2LMHeadModel(config).eval())


@pytest.mark.parametrize(("kind", "inverse"), [("bitlinear", True), ("autobitlinear", False)])
def test_bitnet_files_of_transformers_are_our_ternary_weights(
    kind: str, inverse: bool, tmp_path: Path
) -> None:
    """Packed by transformers' own function; the two classes of layers store inverse scales."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it loads torch's compiler
        from transformers.integrations.bitnet import pack_weights
    model = wide_llama()
    state, inside = {}, [n for n in model.state_dict() if "_proj.weight" in n]
    for name, tensor in model.state_dict().items():
        if name not in inside:
            state[name] = tensor
            continue
        scale = 1 / tensor.abs().mean().clamp(min=1e-5)
        trits = (tensor * scale).round().clamp(-1, 1)
        state[name] = pack_weights(trits)
        state[f"{name}_scale"] = (scale if inverse else 1 / scale).reshape(1)
    del state["lm_head.weight"]
    _write_folder(model, state, {"quant_method": "bitnet", "linear_class": kind}, tmp_path)
    loaded = load(tmp_path)
    ours = wide_llama()
    quantize_model(ours, Methods(method("bitnet")))
    x = windows(2)
    with torch.no_grad():
        left, right = loaded.model(x).logits, ours(x).logits
    assert torch.allclose(left, right, atol=1e-4)
    assert inspect(loaded.model, tmp_path).bits_per_weight < 1.8


def _write_folder(
    model: PreTrainedModel, state: dict[str, Tensor], section: dict[str, Any], folder: Path
) -> None:
    from safetensors.torch import save_file

    model.config.save_pretrained(folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "quantization_config": section})
    contiguous = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    save_file(contiguous, folder / "model.safetensors", metadata={"format": "pt"})


@needs_shared
def test_a_real_model_keeps_its_perplexity_through_gguf_and_back(tmp_path: Path) -> None:
    """Perplexity by `evaluate`, the .gguf file named itself, beside the model it came from."""
    out = tmp_path / "f16"
    words = ["export", str(STORIES260K), "--format", "gguf", "--type", "F16", "--out", str(out)]
    assert main([*words, "--samples", "2", "--data", str(TINYSTORIES / "valid.txt")]) == 0
    record = read_json(out / "export.json")
    assert record["kl_mean"] < 1e-4
    assert record["tokens"] == 2 * 128
    for path in out.glob("tokenizer*"):
        path.rename(tmp_path / path.name)  # the file alone must do
    (out / "MANIFEST.json").unlink()
    found = tmp_path / "found.jsonl"
    words = ["evaluate", str(out / "model.gguf"), "--base", str(STORIES260K), "--limit", "8"]
    data = ["--data", str(TINYSTORIES / "valid.txt"), "--out", str(found)]
    assert main([*words, *data]) == 0
    lines = {(r["model"], r["metric"]): r["value"] for r in read_lines(found) if "metric" in r}
    values = [value for (_, metric), value in lines.items() if metric == "perplexity"]
    assert values[0] == pytest.approx(values[1], rel=1e-3)
    assert max(v for (_, metric), v in lines.items() if metric == "kl_mean") < 1e-4


def test_nanogpt_is_the_gpt2_that_computes_the_same() -> None:
    source = source_of("nanogpt", "plain")
    x = windows(2)
    with torch.no_grad():
        assert torch.allclose(source.model(x).logits, source.plain(x).logits, atol=1e-5)
    assert type(source.plain).__module__.startswith("transformers.")
    assert type(tiny_gpt2()) is type(source.plain)
    assert packings()
