"""Quantizing whole models: every linear layer of every geometry, in order, once."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import tiny_gpt2, tiny_llama, tiny_nanogpt, windows
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import NumericalError, UsageError
from quantale.quant.apply import Method, SiteResult, quantize_head, quantize_site
from quantale.quant.calibration import LayerStats
from quantale.quant.linear import PackedModule, QuantEmbedding, QuantLinear, TiedHead
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.rtn import Rtn
from quantale.quant.sequential import Calibration, quantize_blocks
from quantale.quant.sites import EMBEDDING_ROLES, LINEAR_ROLES, choose, find_sites

MODELS: list[Callable[[], PreTrainedModel]] = [tiny_gpt2, tiny_llama, tiny_nanogpt]


def quantize_linears(
    model: PreTrainedModel, method: Method, scratch: Path, batch_size: int = 4
) -> list[SiteResult]:
    results: list[SiteResult] = []
    sites = find_sites(model)
    chosen: dict[str, Method] = {s.name: method for s in sites if s.role in LINEAR_ROLES}
    calibration = Calibration(windows(), batch_size, scratch)
    quantize_blocks(model, chosen, sites, calibration, results.append)
    return results


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("method", [Rtn(4, 16), Gptq(4, 16)])
def test_no_linear_layer_of_a_block_is_left_alone(
    make: Callable[[], PreTrainedModel], method: Method, tmp_path: Path
) -> None:
    model = make()
    before = copy.deepcopy(model)
    results = quantize_linears(model, method, tmp_path)
    inside = [m for name, m in model.named_modules() if ".h." in name or ".layers." in name]
    assert not any(isinstance(m, (nn.Linear, Conv1D)) for m in inside)
    assert sum(isinstance(m, QuantLinear) for m in inside) == len(results) > 0
    tokens = windows(2)
    assert not torch.equal(model(tokens).logits, before(tokens).logits)


@pytest.mark.parametrize("make", MODELS)
def test_eight_bits_change_little_and_more_bits_change_less(
    make: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    tokens, losses = windows(4, seed=9), []
    base = make()(tokens).logits.detach().log_softmax(-1)
    for bits in (8, 4, 2):
        model = make()
        quantize_linears(model, Rtn(bits, 16), tmp_path / str(bits))
        other = model(tokens).logits.detach().log_softmax(-1)
        losses.append(float((base.exp() * (base - other)).sum(-1).mean()))
    assert losses[0] < 0.01
    assert losses == sorted(losses)


def test_conv1d_and_linear_with_the_same_weights_get_the_same_codes() -> None:
    weight = torch.randn(24, 32, generator=torch.Generator().manual_seed(0))
    linear, conv = nn.Linear(32, 24), Conv1D(24, 32)
    with torch.no_grad():
        linear.weight.copy_(weight)
        conv.weight.copy_(weight.t())
    stats = LayerStats(32)
    stats.add(torch.randn(200, 32, generator=torch.Generator().manual_seed(1)))
    from quantale.quant.sites import weight_view

    for method in (Rtn(3, 16), Gptq(3, 16), Gptq(4, "row", act_order=True)):
        one = method.quantize(weight_view(linear), stats)
        other = method.quantize(weight_view(conv), stats)
        assert all(torch.equal(one.tensors[n], other.tensors[n]) for n in one.tensors)


def test_gptq_sees_what_its_quantized_predecessors_produce(tmp_path: Path) -> None:
    """The Hessian of the last layer differs from that of the unquantized model."""
    seen: dict[str, torch.Tensor] = {}

    class Spy(Gptq):
        def quantize(self, weight: torch.Tensor, stats: LayerStats | None = None):  # type: ignore[no-untyped-def]
            assert stats is not None
            seen[f"{len(seen)}"] = stats.hessian.clone()
            return super().quantize(weight, stats)

    model = tiny_gpt2()
    plain: list[torch.Tensor] = []
    last = model.transformer.h[1].mlp.c_proj
    handle = last.register_forward_pre_hook(lambda module, args: plain.append(args[0]))
    with torch.no_grad():
        model(windows())
    handle.remove()
    quantize_linears(model, Spy(2, 16), tmp_path)
    stats = LayerStats(plain[0].shape[-1])
    stats.add(plain[0])
    hessian = list(seen.values())[-1]
    assert hessian.shape == stats.hessian.shape
    assert not torch.allclose(hessian, stats.hessian, rtol=0.02)


def test_the_batch_size_of_calibration_does_not_change_the_statistics() -> None:
    x = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    whole, parts = LayerStats(8), LayerStats(8)
    whole.add(x)
    for part in torch.tensor_split(x, 9):
        parts.add(part)
    torch.testing.assert_close(whole.hessian, 2 * x.t() @ x / 60)
    torch.testing.assert_close(parts.hessian, whole.hessian)
    torch.testing.assert_close(parts.absmax, x.abs().amax(0))
    assert parts.rows == 60


def test_hidden_states_in_the_scratch_file_equal_those_of_the_model(tmp_path: Path) -> None:
    """Eight-bit weights barely move them, so that the borders can be compared."""
    model = tiny_llama()
    expected = model(windows(), output_hidden_states=True).hidden_states
    quantize_linears(model, Rtn(8, "row", scale_dtype="float32"), tmp_path)
    states = torch.from_file(
        str(tmp_path / "states-1.bin"), size=expected[1].numel(), dtype=torch.float32
    )
    torch.testing.assert_close(states.view_as(expected[1]), expected[1], rtol=0.05, atol=0.05)


def test_finished_blocks_are_taken_from_the_scratch_folder(tmp_path: Path) -> None:
    whole, resumed = tiny_gpt2(), tiny_gpt2()
    first = quantize_linears(whole, Gptq(3, 16), tmp_path)

    class Never(Gptq):
        def quantize(self, weight: torch.Tensor, stats: LayerStats | None = None):  # type: ignore[no-untyped-def]
            raise AssertionError("a finished block was quantized again")

    second = quantize_linears(resumed, Never(3, 16), tmp_path)
    assert [r.site for r in first] == [r.site for r in second]
    assert torch.equal(whole(windows(2)).logits, resumed(windows(2)).logits)


@pytest.mark.parametrize("make", [tiny_gpt2, lambda: tiny_llama(tied=True), tiny_nanogpt])
def test_a_tied_pair_is_stored_once_and_stays_tied(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    sites = choose(find_sites(model), embedding=True, head=False)
    for site in sites:
        if site.role in EMBEDDING_ROLES:
            quantize_site(model, site, Rtn(8), None)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, QuantEmbedding)
    assert isinstance(head, TiedHead)
    assert head.weight is embedding.get_buffer("weight")
    assert not [name for name in model.state_dict() if name.startswith("lm_head")]
    model.tie_weights()
    twin = copy.deepcopy(model)
    assert twin.get_output_embeddings().weight is twin.get_input_embeddings().get_buffer("weight")
    torch.testing.assert_close(
        model(windows(2)).logits, make()(windows(2)).logits, rtol=0.1, atol=0.5
    )


def test_an_untied_head_is_calibrated_behind_the_blocks() -> None:
    model = tiny_llama()
    site = next(s for s in find_sites(model) if s.role == "head")
    results: list[SiteResult] = []
    quantize_head(model, site, Gptq(4, 16), [windows()[:3], windows()[3:]], results.append)
    assert isinstance(model.lm_head, QuantLinear)
    assert results[0].output_error is not None
    assert 0 < results[0].output_error < 0.05


def test_bias_and_dtype_survive_moves_and_casts(tmp_path: Path) -> None:
    model = tiny_gpt2()
    bias = model.transformer.h[0].attn.c_attn.bias.clone()
    quantize_linears(model, Rtn(4, 16), tmp_path)
    model.to(torch.bfloat16)
    module = model.transformer.h[0].attn.c_attn
    assert torch.equal(module.bias, bias.to(torch.bfloat16))
    packed = [m for m in model.modules() if isinstance(m, PackedModule)]
    assert {m.get_buffer("scale").dtype for m in packed} == {torch.float16}
    assert {m.get_buffer("weight").dtype for m in packed} == {torch.uint8}
    assert model(windows(1)).logits.dtype == torch.bfloat16


def test_nothing_to_quantize_is_an_error_that_lists_what_is_there() -> None:
    sites = [s for s in find_sites(tiny_gpt2()) if s.role == "embedding"]
    with pytest.raises(UsageError, match=r"no linear layer.*transformer\.wte \(embedding\)"):
        choose(sites, embedding=True, head=False)


def test_a_weight_that_is_not_finite_is_named(tmp_path: Path) -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = float("nan")
    with pytest.raises(NumericalError, match=r"layers\.1\.mlp\.up_proj"):
        quantize_linears(model, Rtn(4, 16), tmp_path)


def test_methods_that_need_data_say_so() -> None:
    with pytest.raises(UsageError, match="calibration"):
        Gptq(4).quantize(torch.randn(4, 8), None)
