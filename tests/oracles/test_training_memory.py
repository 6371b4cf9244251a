"""The arithmetic of training memory against what torch really keeps for the backward pass."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from packing import pack, tiny
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from quantale.quant.linear import PackedModule
from quantale.quant.methods.nf4 import Nf4
from quantale.tuning.memory import Trained, geometry_of, kept_by_block, predict, resident_bytes
from quantale.tuning.method import Start
from quantale.tuning.methods.lora import Lora

LENGTH = 64


@contextmanager
def kept(found: dict[int, int], known: set[int]) -> Iterator[None]:
    """Sum the storages that autograd keeps, those of the model left out."""

    def pack_hook(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        yield


def model_of(layers: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=64,
            hidden_size=128,
            intermediate_size=352,
            num_hidden_layers=layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            tie_word_embeddings=True,
        )
    )


def kept_bytes(layers: int, how: Trained) -> int:
    """Return what a forward pass of QLoRA keeps, or without a rank that of full fine-tuning."""
    model = model_of(layers)
    if how.rank:
        pack(model, method=Nf4())
        targets = "" if how.adapted == "all" else "q_proj,k_proj,v_proj,o_proj"
        lora = Lora(rank=how.rank, targets=targets, dropout=0.1 if how.dropout else 0.0)
        lora.begin(Start(model, base="somewhere"))
    model.train()
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}
    tokens = torch.randint(64, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    with kept(found, known):
        loss = model(input_ids=tokens, use_cache=False).logits.sum()
    assert torch.isfinite(loss)
    return sum(found.values())


@pytest.mark.parametrize(
    "how",
    [
        Trained(2, LENGTH, 0, rank=4),
        Trained(2, LENGTH, 0, rank=4, dropout=True),
        Trained(2, LENGTH, 0, rank=4, adapted="all"),
        Trained(2, LENGTH, 0, rank=4, adapted="all", dropout=True),
        Trained(2, LENGTH, 0),
    ],
    ids=["attention", "attention-dropout", "all", "all-dropout", "full"],
)
def test_a_block_keeps_what_the_arithmetic_says(how: Trained) -> None:
    one, three = (kept_bytes(layers, how) for layers in (1, 3))
    predicted = 2 * LENGTH * kept_by_block(geometry_of(model_of(1).config), how)
    assert abs((three - one) / 2 / predicted - 1) < 0.02


def test_a_packed_layer_keeps_no_dequantized_weight_for_its_gradient() -> None:
    """Otherwise QLoRA would need the memory of the model in full precision."""
    model = model_of(1)
    pack(model, method=Nf4())
    largest = max(
        4 * module.shape[0] * module.shape[1]
        for module in model.modules()
        if isinstance(module, PackedModule)
    )
    assert largest == 4 * 128 * 352
    Lora(rank=4).begin(Start(model, base="somewhere"))
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}
    with kept(found, known):
        model(input_ids=torch.zeros(1, 2, dtype=torch.int64), use_cache=False)
    assert max(found.values()) < largest / 4


def test_the_parts_add_up() -> None:
    model = tiny("Llama")
    shape = geometry_of(model.config)
    assert (shape.layers, shape.width, shape.mlp, shape.key_width) == (2, 32, 44, 16)
    assert shape.is_gated
    assert not geometry_of(tiny("GPT2").config).is_gated
    plain = predict(shape, resident_bytes(model), 0, Trained(1, 16, trainable=100))
    assert plain.gradients == plain.best == 400
    assert plain.optimizer == 800
    assert plain.logits == 3 * 16 * shape.vocabulary * 4
    less = predict(shape, 0, 0, Trained(1, 16, trainable=100, checkpointing=True))
    assert less.activations < plain.activations
    assert plain.peak - plain.process > plain.weights + plain.activations
