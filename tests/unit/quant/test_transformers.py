"""What users of transformers do with a packed model: dtypes, devices, shards, pipelines."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from packing import ENDS, EVERYTHING, dequantized, pack, tiny
from tiny_models import LABELS, VOCABULARY, tiny_classifier, tiny_nanogpt, windows
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    GPT2Config,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    pipeline,
)

import quantale
from quantale.core.errors import ModelFileError
from quantale.quant.ledger import inspect
from quantale.quant.proof import logits_digest
from quantale.quant.save import verify_saves

NAMES = ("GPT2", "Llama", "Gemma2", "OPT", "GPT2 classifier", "Llama classifier")


def auto(name: str) -> Any:
    return AutoModelForSequenceClassification if "classifier" in name else AutoModelForCausalLM


def packed(name: str, folder: Path) -> PreTrainedModel:
    model = tiny(name)
    pack(model, ENDS)
    model.save_pretrained(folder)
    return model


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{index}": index for index in range(VOCABULARY)}
    inner = Tokenizer(WordLevel(words, unk_token="w1"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="w1", pad_token="w0", eos_token="w0"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_dtype_moves_plain_parameters_and_no_packed_buffer(name: str, tmp_path: Path) -> None:
    """Scales are float16 in the file; the rest of the model is bfloat16 here."""
    original = tiny(name)
    model = copy.deepcopy(original)
    results = pack(model, ENDS)
    model.save_pretrained(tmp_path / "packed")
    half = auto(name).from_pretrained(tmp_path / "packed", dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    for result in results:
        for part, value in result.packed.tensors.items():
            assert torch.equal(half.state_dict()[f"{result.site.name}.{part}"], value)
            assert half.state_dict()[f"{result.site.name}.{part}"].dtype == value.dtype
    dequantized(original, results).save_pretrained(tmp_path / "plain")
    plain = auto(name).from_pretrained(tmp_path / "plain", dtype=torch.bfloat16)
    with torch.no_grad():
        logits, wanted = half(windows(1)).logits, plain(windows(1)).logits
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits, wanted, rtol=0.05, atol=0.05 * float(wanted.abs().max()))
    assert inspect(half).bytes_resident == half.get_memory_footprint()


@pytest.mark.parametrize("name", NAMES)
def test_a_device_map_and_auto_dtype_give_the_same_model(name: str, tmp_path: Path) -> None:
    model = packed(name, tmp_path)
    for settings in ({"device_map": "cpu"}, {"device_map": {"": "cpu"}, "dtype": "auto"}):
        again = auto(name).from_pretrained(tmp_path, **settings)
        assert logits_digest(again) == logits_digest(model)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_a_device_map_puts_everything_on_the_gpu(name: str, tmp_path: Path) -> None:
    model = packed(name, tmp_path)
    again = auto(name).from_pretrained(tmp_path, device_map="cuda")
    tensors = [*again.parameters(), *again.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cuda"}
    with torch.no_grad():
        logits = again(windows(1).cuda()).logits.cpu()
        torch.testing.assert_close(logits, model(windows(1)).logits, rtol=1e-3, atol=1e-3)
    there = copy.deepcopy(model).to("cuda")
    assert {tensor.device.type for tensor in there.buffers()} == {"cuda"}
    assert there.get_memory_footprint() == inspect(model).bytes_resident


@pytest.mark.parametrize("name", ["GPT2", "OPT", "GPTNeoX", "Llama classifier"])
def test_a_model_in_shards_is_the_same_model(name: str, tmp_path: Path) -> None:
    model = packed(name, tmp_path / "whole")
    model.save_pretrained(tmp_path / "parts", max_shard_size="4KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 2
    again = auto(name).from_pretrained(tmp_path / "parts")
    assert logits_digest(again) == logits_digest(model)
    again.save_pretrained(tmp_path / "joined")
    one, other = (tmp_path / n / "model.safetensors" for n in ("whole", "joined"))
    assert one.read_bytes() == other.read_bytes()
    ledger = inspect(again, tmp_path / "parts")
    files = (tmp_path / "parts").glob("*.safetensors")
    assert ledger.bytes_on_disk == sum(path.stat().st_size for path in files)
    index = (tmp_path / "parts" / "model.safetensors.index.json").stat().st_size
    assert ledger.support_bytes is not None
    assert ledger.support_bytes > index


@pytest.mark.parametrize("name", [*NAMES, "nanoGPT"])
def test_memory_is_the_same_by_transformers_and_by_the_ledger(name: str, tmp_path: Path) -> None:
    model = tiny_nanogpt() if name == "nanoGPT" else tiny(name)
    full = model.num_parameters()
    assert inspect(model).bytes_resident == model.get_memory_footprint()
    pack(model, EVERYTHING)
    model.save_pretrained(tmp_path)
    again = auto(name).from_pretrained(tmp_path)
    for each in (model, again, copy.deepcopy(again), again.to(torch.bfloat16)):
        assert inspect(each).bytes_resident == each.get_memory_footprint()
        assert inspect(each).parameters == full
        assert each.num_parameters() == sum(p.numel() for p in each.parameters()) < full


def test_a_text_generation_pipeline_runs(tmp_path: Path) -> None:
    packed("GPT2", tmp_path)
    tokenizer().save_pretrained(tmp_path)
    run = pipeline("text-generation", model=str(tmp_path), device="cpu")
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "max_length": None}
    (answer,) = run("w5 w2 w3", return_tensors=True, **settings)
    (drawn,) = run.model.generate(torch.tensor([[5, 2, 3]]), pad_token_id=0, **settings).tolist()
    assert answer["generated_token_ids"] == drawn
    assert len(drawn) == 7


@pytest.mark.parametrize("family", ["GPT2", "Llama"])
def test_a_text_classification_pipeline_runs(family: str, tmp_path: Path) -> None:
    model = packed(f"{family} classifier", tmp_path)
    tokenizer().save_pretrained(tmp_path)
    run = pipeline("text-classification", model=str(tmp_path), device="cpu")
    answers = run(["w1 w2 w3", "w4"], batch_size=2, top_k=None)
    with torch.no_grad():
        chances = model(torch.tensor([[1, 2, 3]])).logits.softmax(-1)[0]
    found = [next(a["score"] for a in answers[0] if a["label"] == f"LABEL_{i}") for i in range(4)]
    torch.testing.assert_close(torch.tensor(found), chances)


@pytest.mark.parametrize("pad", [0, None])
def test_the_public_functions_take_classifiers(pad: int | None, tmp_path: Path) -> None:
    """Without a padding token a classifier refuses batches."""
    model = tiny_classifier("GPT2", pad_token_id=pad)
    model.save_pretrained(tmp_path / "plain")
    assert logits_digest(quantale.load(tmp_path / "plain").model) == logits_digest(model)
    assert inspect(*_named(tmp_path / "plain")).sites[-1].role == "head"
    pack(model, ENDS)
    folder = quantale.save((model, None), tmp_path / "packed")
    loaded = quantale.load(folder)
    assert loaded.model(windows(1)).logits.shape == (1, LABELS)
    assert logits_digest(loaded.model) == logits_digest(model)
    line = quantale.inspect(loaded, folder).sites[-1]
    assert (line.name, line.role, line.shape) == ("score", "head", (LABELS, 32))


def _named(folder: Path) -> tuple[PreTrainedModel, Path]:
    return quantale.load(folder).model, folder


def test_a_fresh_process_verifies_other_families_and_norms(tmp_path: Path) -> None:
    folders = {}
    for name in ("Gemma3Text", "OPT", "GPTNeoX", "Llama classifier"):
        model = tiny(name)
        pack(model, EVERYTHING)
        model.save_pretrained(tmp_path / name)
        folders[tmp_path / name] = logits_digest(model)
    verify_saves(folders)
    with pytest.raises(ModelFileError, match=name):
        verify_saves({**folders, tmp_path / name: "0" * 64})


def test_the_digest_of_a_short_context_uses_what_there_is() -> None:
    config = GPT2Config(
        vocab_size=VOCABULARY, n_positions=8, n_embd=32, n_layer=1, n_head=2, bos_token_id=0
    )
    assert len(logits_digest(AutoModelForCausalLM.from_config(config))) == 64
