"""Models that exporters are tried on, and ways to damage what they wrote."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from tiny_models import SMALL, spread, tiny_gpt2, tiny_nanogpt
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from quantale.core.errors import QuantaleError
from quantale.core.registry import EXPORTERS, METHODS
from quantale.data.tokenizers import train_characters
from quantale.export.exporter import Exporter
from quantale.export.source import Source
from quantale.quant.apply import Method
from quantale.quant.whole import Methods, quantize_model

ALPHABET = "".join(map(chr, range(32, 125))) + "\n"
"""With the two symbols of the tokenizer as many as the tiny models have entries."""


def wide_llama() -> PreTrainedModel:
    """A tied Llama whose widths every format can divide."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        sizes = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
        config = LlamaConfig(**SMALL | sizes | {"tie_word_embeddings": True})
        return spread(LlamaForCausalLM(config).eval())


def method(name: str, **settings: object) -> Method:
    """Return a method by its plug-in name."""
    made: Method = METHODS.get(name)(**settings)
    return made


FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": wide_llama,
    "gpt2": tiny_gpt2,
    "nanogpt": tiny_nanogpt,
}


def packings() -> dict[str, Method | None]:
    """Return what the models are packed with, by name."""
    return {
        "plain": None,
        "rtn4": method("rtn", bits=4, group_size=32, symmetric=True),
        "nf4": method("nf4", group_size=32),
    }


@cache
def source_of(family: str, packing: str) -> Source:
    """Return a tiny model, packed or not, with a tokenizer."""
    model, chosen = FAMILIES[family](), packings()[packing]
    if chosen is not None:
        quantize_model(model, Methods(chosen))
    return Source(model, train_characters([ALPHABET]), torch.float32)


@cache
def accepted(name: str) -> tuple[tuple[str, str, str], ...]:
    """Return (family, packing, type) of everything that an exporter says it can write."""
    exporter: Exporter = EXPORTERS.get(name)()
    found = []
    for family in FAMILIES:
        for packing in packings():
            for kind in exporter.types:
                try:
                    exporter.check(source_of(family, packing), kind)
                except QuantaleError:
                    continue
                found.append((family, packing, kind))
    return tuple(found)


def largest(folder: Path) -> Path:
    """Return the file with the weights."""
    return max(folder.iterdir(), key=lambda path: path.stat().st_size)


def flip(path: Path, share: float) -> None:
    """Flip one bit at a share of the file's length."""
    data = bytearray(path.read_bytes())
    data[int(share * (len(data) - 1))] ^= 16
    path.write_bytes(data)
