"""Oracle of the document protocol: one token, one model call, float64, no batches, no padding."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from quantale.evaluation.language import LanguageSettings, score

CONTEXT = 12
ALPHABET = "abcdefghij klmnop"


@dataclass(frozen=True)
class Text:
    id: str
    text: str


@dataclass(frozen=True)
class Texts:
    items: tuple[Text, ...]


def tokenizer_with(bos: str | None) -> PreTrainedTokenizerFast:
    vocab = {symbol: i for i, symbol in enumerate(["<s>", "<unk>", *ALPHABET])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, unk_token="<unk>")


def gpt2(seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=19,
        n_positions=CONTEXT,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def first_window_start(token: int) -> int:
    """Windows start at multiples of half the context; the first one holding the token counts."""
    start = 0
    while token >= start + CONTEXT:
        start += CONTEXT // 2
    return start


@torch.inference_mode()
def predicted(model: GPT2LMHeadModel, tokens: list[int], token: int) -> torch.Tensor:
    """Log-probabilities (vocabulary,) of one position in float64."""
    seen = torch.tensor([tokens[first_window_start(token) : token]])
    return model(input_ids=seen).logits[0, -1].double().log_softmax(dim=0)


def brute_force(
    base: GPT2LMHeadModel, other: GPT2LMHeadModel, tokens: list[int]
) -> tuple[float, float, int]:
    nll = kl = 0.0
    same = 0
    for token in range(1, len(tokens)):
        p, q = predicted(base, tokens, token), predicted(other, tokens, token)
        nll -= float(q[tokens[token]])
        kl += float((p.exp() * (p - q)).sum())
        same += int(p.argmax() == q.argmax())
    return nll, kl, same


@pytest.mark.parametrize("bos", ["<s>", None])
def test_scores_equal_a_loop_over_single_tokens(bos: str | None) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(ALPHABET), n)) for n in (2, 7, 11, 12, 13, 25, 41)]
    documents = Texts(tuple(Text(str(i), text) for i, text in enumerate(texts)))
    pair = {"base": gpt2(0), "other": gpt2(1)}
    tokenizer = tokenizer_with(bos)
    found = score(pair, tokenizer, documents, LanguageSettings(batch_size=4), "base")
    for one in found.documents[len(texts) :]:
        assert one.model == "other"
        ids = tokenizer.encode(texts[int(one.document)], add_special_tokens=False)
        tokens = [0, *ids] if bos else ids
        nll, kl, same = brute_force(pair["base"], pair["other"], tokens)
        assert one.nll == pytest.approx(nll, rel=1e-5)
        assert one.kl_sum == pytest.approx(kl, rel=1e-5)
        assert one.top1_same == same
        assert one.tokens == len(tokens) - 1
        assert one.kl_tokens is not None
        assert one.kl_tokens.sum(dtype=np.float64) == pytest.approx(one.kl_sum)
