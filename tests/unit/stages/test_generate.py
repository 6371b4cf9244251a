"""Generation against a loop written out, on a tiny random GPT-2 with a word tokenizer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from packing import pack
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from quantale.core.errors import DataError, UsageError
from quantale.quant.kernels.aten import Aten
from quantale.quant.methods.rtn import Rtn
from quantale.stages.generate import generate_text

WORDS = ["<|endoftext|>", "<unk>", *(f"w{index}" for index in range(18))]
CONTEXT = 16
OPTIONS: dict[str, Any] = {
    "max_new_tokens": 8,
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "seed": 3,
}


def save_tokenizer(folder: Path, **special: str) -> None:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", **special)
    wrapped.save_pretrained(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=1,
        n_head=2,
        initializer_range=0.5,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(path)
    save_tokenizer(path, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    return path


def test_temperature_zero_takes_the_likeliest_token_each_time(folder: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    tokens = [0, 5, 7]
    for _ in range(8):
        if len(tokens) > 3 and tokens[-1] == 0:
            break
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    expected = " ".join(WORDS[token] for token in tokens if token > 1)
    found = generate_text(str(folder), "w3 w5", **{**OPTIONS, "temperature": 0.0})
    assert found["text"].split() == expected.split()
    assert found["prompt_tokens"] == 3
    assert found["new_tokens"] == len(tokens) - 3


def test_the_same_seed_gives_the_same_text_and_leaves_the_random_state(folder: Path) -> None:
    before = torch.get_rng_state()
    texts = [generate_text(str(folder), "w3", **{**OPTIONS, "seed": s})["text"] for s in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert torch.equal(before, torch.get_rng_state())


def test_fast_kernels_write_unless_exact_ones_are_asked_for(folder: Path, tmp_path: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(folder).eval()
    pack(model, method=Rtn(8, "row", symmetric=True))
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    found = generate_text(str(tmp_path), "w3", **OPTIONS)["kernels"]
    assert found == (["reference"] if Aten().lacks() else ["aten"])
    assert generate_text(str(tmp_path), "w3", exact=True, **OPTIONS)["kernels"] == ["reference"]


def test_the_context_is_the_end(folder: Path) -> None:
    options = {**OPTIONS, "max_new_tokens": 99}
    for seed in range(5):
        found = generate_text(str(folder), "w3", **{**options, "seed": seed})
        assert found["prompt_tokens"] + found["new_tokens"] <= CONTEXT
        assert found["stopped"] in {"eos", "context"}
        assert (found["stopped"] == "eos") == (found["new_tokens"] < CONTEXT - 2)


def test_a_prompt_longer_than_the_context_is_an_error(folder: Path) -> None:
    with pytest.raises(DataError, match="17 tokens, the model's context is 16"):
        generate_text(str(folder), "w3 " * 16, **OPTIONS)


def test_unknown_words_are_counted(folder: Path) -> None:
    assert generate_text(str(folder), "w3 zebra w4 zebra", **OPTIONS)["unknown"] == 2


def test_an_empty_prompt_begins_a_document_or_is_an_error(folder: Path, tmp_path: Path) -> None:
    assert generate_text(str(folder), "", **OPTIONS)["prompt_tokens"] == 1
    GPT2LMHeadModel.from_pretrained(folder).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(UsageError, match="give --prompt"):
        generate_text(str(tmp_path), "", **OPTIONS)
