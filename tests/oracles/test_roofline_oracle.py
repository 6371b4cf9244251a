"""Bytes that a decoded token reads, against counts by hand."""

import pytest
import torch
from packing import pack
from tiny_models import tiny_family
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from quantale.evaluation.roofline import read_bandwidth, weight_bytes
from quantale.quant.linear import QuantEmbedding, TiedHead
from quantale.quant.methods.rtn import Rtn
from quantale.quant.sites import LINEAR_ROLES

WIDTH, WORDS, LAYERS = 16, 40, 2


def model(tied: bool) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS, n_positions=8, n_embd=WIDTH, n_layer=LAYERS, n_head=2,
            tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_counts_once_and_tables_that_are_looked_up_not_at_all(tied: bool) -> None:
    block = 12 * WIDTH**2 + 13 * WIDTH  # four products with biases, two norms
    expected = 4 * (LAYERS * block + 2 * WIDTH + WORDS * WIDTH)
    assert weight_bytes(model(tied)) == expected


def test_a_packed_head_counts_its_packed_embedding() -> None:
    packed = tiny_family("GPT2")
    pack(packed, [*LINEAR_ROLES, "embedding"], Rtn(4, 8))
    assert any(isinstance(one, TiedHead) for one in packed.modules())
    table = packed.get_submodule("transformer.wte")
    assert isinstance(table, QuantEmbedding)
    blocks = packed.get_submodule("transformer.h")
    last = packed.get_submodule("transformer.ln_f")
    held = [*blocks.parameters(), *blocks.buffers(), *last.parameters()]
    held += table.packed.tensors.values()
    assert weight_bytes(packed) == sum(one.nbytes for one in held)


def test_reading_takes_longer_for_more_bytes_at_a_plausible_rate() -> None:
    rate = read_bandwidth(8 << 20, torch.device("cpu"))
    assert 1e8 < rate < 5e12


def test_a_model_without_weights_reads_nothing() -> None:
    assert weight_bytes(nn.Identity()) == 0
