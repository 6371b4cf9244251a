"""Small texts, a tokenizer of one token a character, and models for tests of scoring."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ALPHABET = "abcdefgh ."
SYMBOLS = ("<s>", "<unk>", *ALPHABET, "\n")
CONTEXT = 16


@dataclass(frozen=True)
class Text:
    id: str
    text: str


@dataclass(frozen=True)
class Texts:
    items: tuple[Text, ...]


class Constant(torch.nn.Module):
    """Answers every position with the same logits."""

    def __init__(self, logits: torch.Tensor, context: int = CONTEXT) -> None:
        super().__init__()
        self.logits = logits
        self.device = torch.device("cpu")
        self.config = SimpleNamespace(vocab_size=len(logits), max_position_embeddings=context)

    def forward(self, input_ids: torch.Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def character_tokenizer(
    bos: str | None = "<s>", *, adds_bos: bool = False
) -> PreTrainedTokenizerFast:
    vocab = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=bos, unk_token="<unk>")


def documents(*lengths: int, seed: int = 0) -> Texts:
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(list(ALPHABET), n)) for n in lengths]
    return Texts(tuple(Text(f"d{i}", text) for i, text in enumerate(texts)))


def small_llama(seed: int, context: int = CONTEXT) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(SYMBOLS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=context,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()
