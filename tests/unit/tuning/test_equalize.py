"""Evening out columns: the same function, and outlier channels are gone."""

import pytest
import torch
from packing import tiny
from tiny_models import FAMILIES, VOCABULARY, tiny_family, tiny_nanogpt
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import NumericalError
from quantale.models.blocks import find_blocks
from quantale.quant.methods.binary import Binary
from quantale.quant.sites import weight_view
from quantale.quant.whole import Methods
from quantale.tuning.equalize import equalize_columns
from quantale.tuning.method import Start
from quantale.tuning.methods.qat import Qat
from quantale.tuning.trainer import prepare_qat

READERS: dict[str, list[tuple[str, ...]]] = {
    "GPT2": [("c_attn",), ("c_fc",)],
    "Llama": [("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")],
    "GPTNeoX": [("query_key_value",), ("dense_h_to_4h",)],
    "Phi": [("q_proj", "k_proj", "v_proj", "fc1")],
    "Gemma2": [("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")],
}
"""Of each block, the layers that read one norm; Phi has one, and Gemma's add one to its weight."""


def logits(model: PreTrainedModel) -> Tensor:
    tokens = torch.randint(VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=tokens).logits
    return found


def columns_of(model: PreTrainedModel, name: str) -> list[Tensor]:
    """Return the weights that read each norm of the first block, (out, in)."""
    block = find_blocks(model)[1][0]
    named = {path.rpartition(".")[2]: module for path, module in block.named_modules()}
    return [torch.cat([weight_view(named[end]) for end in ends]) for ends in READERS[name]]


def spread(columns: Tensor) -> float:
    sizes = columns.abs().mean(0)
    return float(sizes.max() / sizes.min())


def planted(model: PreTrainedModel) -> PreTrainedModel:
    """Make channels larger in the norms of a GPT-2 and smaller in what reads them."""
    with torch.no_grad():
        for block in model.transformer.h:
            for norm, reader in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc)):
                norm.weight[3:6] *= 30
                norm.bias[3:6] *= 30
                reader.weight[3:6] /= 30
    return model


@pytest.mark.parametrize("name", [*FAMILIES, "GPT2 classifier", "Llama classifier"])
def test_every_family_computes_what_it_did(name: str) -> None:
    model = tiny(name)
    before = logits(model)
    assert equalize_columns(model) > 0
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


def test_our_own_model_computes_what_it_did() -> None:
    model = tiny_nanogpt()
    before = logits(model)
    assert equalize_columns(model) == 4
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", READERS)
def test_columns_are_even_over_all_layers_that_read_a_norm(name: str) -> None:
    model = tiny(name)
    before = [spread(columns) for columns in columns_of(model, name)]
    assert min(before) > 1.1
    assert equalize_columns(model) == 2 * sum(len(ends) for ends in READERS[name])
    assert max(spread(columns) for columns in columns_of(model, name)) < 1 + 1e-4


def test_outlier_channels_are_undone() -> None:
    model, twin = tiny("GPT2"), planted(tiny("GPT2"))
    for one in (model, twin):
        equalize_columns(one)
    for block, other in zip(model.transformer.h, twin.transformer.h, strict=True):
        for ours, theirs in (
            (block.attn.c_attn.weight, other.attn.c_attn.weight),
            (block.mlp.c_fc.weight, other.mlp.c_fc.weight),
        ):
            factor = theirs.norm() / ours.norm()  # one for the layer, of the median column
            assert 0.8 < factor < 1.25
            torch.testing.assert_close(theirs / factor, ours, rtol=1e-4, atol=1e-5)


def test_a_column_of_zeros_stays() -> None:
    model = tiny("GPT2")
    reader = model.transformer.h[0].attn.c_attn
    with torch.no_grad():
        reader.weight[7] = 0
    before = logits(model)
    equalize_columns(model)
    assert not reader.weight[7].any()
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


def test_a_norm_that_something_else_reads_is_left_alone() -> None:
    class Leaky(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.inner(x) + x
            return found

    model = planted(tiny("GPT2"))
    block = model.transformer.h[0]
    block.mlp = Leaky(block.mlp)
    before, weight = logits(model), block.mlp.inner.c_fc.weight.clone()
    assert equalize_columns(model) == 3
    assert torch.equal(block.mlp.inner.c_fc.weight, weight)
    torch.testing.assert_close(logits(model), before, rtol=1e-4, atol=1e-4)


def test_norms_behind_the_residual_sum_are_left_alone() -> None:
    model = tiny_family("OPT", do_layer_norm_before=False)
    before = logits(model)
    assert equalize_columns(model) == 0
    assert torch.equal(logits(model), before)


def test_a_frozen_model_is_looked_through_too() -> None:
    assert equalize_columns(tiny("GPT2").requires_grad_(False)) == 4


def test_a_norm_that_squares_its_weight_is_refused() -> None:
    class Squares(nn.LayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * self.weight

    model = planted(tiny("GPT2"))
    model.transformer.h[0].ln_1 = Squares(32)
    with pytest.raises(NumericalError, match="leave equalize out"):
        equalize_columns(model)


def test_dropout_is_as_it_was_afterwards() -> None:
    model = tiny("GPT2").train()
    equalize_columns(model)
    assert model.training


def test_training_through_one_bit_begins_where_a_model_without_outliers_does() -> None:
    methods = Methods(Binary(16))
    plain, twin = tiny("GPT2"), planted(tiny("GPT2"))
    exact = logits(plain)
    lost = planted(tiny("GPT2"))
    prepare_qat(lost, methods)
    prepare_qat(plain, methods, equalize=True)
    Qat(equalize=True).begin(Start(twin, methods=methods))
    torch.testing.assert_close(logits(twin), logits(plain), rtol=1e-3, atol=1e-3)
    assert (logits(twin) - exact).norm() < (logits(lost) - exact).norm()
