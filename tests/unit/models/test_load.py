"""Loading: sound folders of several families come up, damaged ones are one clear error."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from shared_data import STORIES260K, needs_shared
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
)

from quantale.core import files
from quantale.core.errors import EnvironmentLackingError, HubError, ModelFileError
from quantale.models.build import build_model
from quantale.models.load import load
from quantale.models.nanogpt_config import NanoGPTConfig

IDS = torch.tensor([[1, 5, 7, 3]])
SPECIAL = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def make(kind: str) -> Any:
    torch.manual_seed(0)
    if kind == "nanogpt":
        return build_model(NanoGPTConfig(vocab_size=32, n_embd=16, n_head=2, n_layer=2), seed=0)
    shape = {"vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    configs = {
        "gpt2": GPT2Config(**shape, **SPECIAL),
        "llama": LlamaConfig(**shape, **SPECIAL, intermediate_size=24),
        "tied llama": LlamaConfig(
            **shape, **SPECIAL, intermediate_size=24, tie_word_embeddings=True
        ),
        "opt": OPTConfig(**shape, **SPECIAL, ffn_dim=24, word_embed_proj_dim=16),
    }
    return AutoModelForCausalLM.from_config(configs[kind])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make("gpt2").save_pretrained(tmp_path)
    return tmp_path


def edit_weights(folder: Path, name: str, value: torch.Tensor | None) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    save_file(tensors, path, metadata={"format": "pt"})


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("kind", ["nanogpt", "gpt2", "llama", "tied llama", "opt"])
def test_a_saved_model_comes_back_with_the_same_logits(kind: str, tmp_path: Path) -> None:
    model = make(kind).eval()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.path == tmp_path
    assert loaded.tokenizer is None
    assert not loaded.model.training
    assert torch.equal(loaded.model(IDS).logits, model(IDS).logits)


def test_sharded_weights_another_dtype_and_the_tokenizer_are_read(tmp_path: Path) -> None:
    make("gpt2").save_pretrained(tmp_path, max_shard_size="10KB")
    words = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    model, tokenizer, _ = load(str(tmp_path), dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert tokenizer.encode("b") == [1]


@needs_shared
def test_the_real_llama_loads_with_its_tokenizer_and_tells_a_story() -> None:
    model, tokenizer, _ = load(STORIES260K)
    ids = tokenizer("Once upon a time", return_tensors="pt").input_ids
    text = tokenizer.decode(model.generate(ids, max_new_tokens=24, do_sample=False)[0])
    assert "there was a little" in text


def test_a_missing_tensor_is_an_error_and_never_random(folder: Path) -> None:
    edit_weights(folder, "transformer.h.1.ln_1.weight", None)
    edit_weights(folder, "transformer.extra", torch.ones(100))
    with pytest.raises(ModelFileError, match=r"1 missing tensors, first .*h.1.ln_1.weight"):
        load(folder)


def test_an_unexpected_tensor_is_an_error(folder: Path) -> None:
    edit_weights(folder, "transformer.extra", torch.ones(3))
    with pytest.raises(ModelFileError, match=r"1 unexpected tensors, first .*extra"):
        load(folder)


def test_a_tensor_of_another_shape_is_an_error(folder: Path) -> None:
    edit_weights(folder, "transformer.ln_f.weight", torch.ones(17))
    with pytest.raises(ModelFileError):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_named(folder: Path, value: float) -> None:
    bad = torch.ones(16)
    bad[3] = value
    edit_weights(folder, "transformer.ln_f.weight", bad)
    with pytest.raises(ModelFileError, match=r"'transformer\.ln_f\.weight' is not finite"):
        load(folder)


def test_a_config_that_describes_more_than_is_stored_is_refused_before_memory_is_taken(
    folder: Path,
) -> None:
    edit_config(folder, vocab_size=10**12)
    with pytest.raises(ModelFileError, match="are stored"):
        load(folder)


def test_code_of_the_folder_never_runs(folder: Path) -> None:
    marker = folder / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    edit_config(folder, model_type="evil", auto_map={"AutoModelForCausalLM": "evil.Evil"})
    with pytest.raises(ModelFileError):
        load(folder)
    edit_config(folder, model_type="gpt2", auto_map={"AutoConfig": "evil.C", "AutoModel": "evil.M"})
    load(folder)
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "no-such-family"},
        {"n_head": 5},
        {"n_embd": "wide"},
        {"activation_function": "no such function"},
        {"vocab_size": -1},
    ],
)
def test_a_config_that_makes_no_model_is_one_error(
    folder: Path, changes: dict[str, object]
) -> None:
    edit_config(folder, **changes)
    with pytest.raises(ModelFileError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{}", '{"model": 3}', '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_our_error(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(ModelFileError, match="bad tokenizer"):
        load(folder)


def test_a_name_that_is_neither_folder_nor_hub_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"")
    for name in ("./absent", "a/b/c", str(tmp_path / "absent"), str(tmp_path / "weights.bin")):
        with pytest.raises(ModelFileError, match="neither a model folder nor a Hub name"):
            load(name)


def test_a_hub_name_offline_is_a_hub_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="nobody/no-such-model: no such folder") as caught:
        load("nobody/no-such-model")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_device_that_is_not_here_is_an_environment_error(folder: Path) -> None:
    with pytest.raises(EnvironmentLackingError, match="no GPU"):
        load(folder, device="cuda")


def test_a_flipped_bit_in_a_sealed_model_is_noticed(tmp_path: Path) -> None:
    target = tmp_path / "run"
    with files.staging(target, key="k") as folder:
        make("gpt2").save_pretrained(folder / "model")
    load(target / "model")
    weights = target / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFileError, match="content differs from its seal"):
        load(target / "model")
