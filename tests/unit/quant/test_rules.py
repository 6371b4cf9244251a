"""Rules: the first that fits decides, and one that decides nothing is an error."""

from collections.abc import Callable

import pytest
import torch
from tiny_models import tiny_classifier, tiny_family, tiny_gpt2, tiny_llama, windows
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.ledger import inspect
from quantale.quant.linear import QuantEmbedding, QuantLinear, QuantNorm, TiedHead
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.rules import ROLES, Rule, plan
from quantale.quant.sites import Site, find_sites
from quantale.quant.whole import Methods, quantize_model

SITES = find_sites(tiny_gpt2())
LINEARS = [site.name for site in SITES if site.role in ("attention", "mlp")]
HQQ, NF4, RTN = Hqq(4, 16), Nf4(16), Rtn(8, 16)


def names(*rules: Rule, sites: list[Site] = SITES) -> list[str]:
    return list(plan(sites, rules))


def message(*rules: Rule, sites: list[Site] = SITES) -> str:
    with pytest.raises(UsageError) as caught:
        plan(sites, rules)
    return str(caught.value)


def test_the_first_rule_that_fits_a_site_decides() -> None:
    early = Rule(HQQ, "transformer.h.[0].**")
    found = plan(SITES, [early, Rule(NF4, role=("attention", "mlp"))])
    assert found == {name: HQQ if ".h.0." in name else NF4 for name in LINEARS}
    other_way = plan(SITES, [Rule(NF4, role="mlp"), Rule(HQQ, "transformer.h.[0-1].**")])
    assert other_way == {name: NF4 if ".mlp." in name else HQQ for name in LINEARS}


def test_a_rule_without_a_method_leaves_full_precision() -> None:
    found = names(Rule(None, "**.h.1.**"), Rule(RTN, role=("attention", "mlp")))
    assert found == [name for name in LINEARS if ".h.0." in name]


def test_sizes_include_their_limits() -> None:
    sizes = {site.name: site.shape[0] * site.shape[1] for site in SITES}
    largest = max(sizes[name] for name in LINEARS)
    linear = ("attention", "mlp")
    assert names(Rule(RTN, role=linear, min_weights=largest)) == [
        name for name in LINEARS if sizes[name] == largest
    ]
    small = [name for name in LINEARS if sizes[name] < largest]
    assert names(Rule(RTN, role=linear, max_weights=largest - 1)) == small


def test_norms_and_heads_are_taken_only_by_their_role_or_name() -> None:
    everything = names(Rule(RTN))
    assert everything == names(Rule(RTN, "**")) == names(Rule(RTN, "{transformer,lm_head}.**"))
    roles = {site.role for site in SITES if site.name in everything}
    assert roles == {"attention", "mlp", "embedding", "position"}
    assert names(Rule(RTN, "**.ln_*")) == names(Rule(RTN, role="norm"))
    assert names(Rule(RTN, role=ROLES)) == [site.name for site in SITES]
    llama = find_sites(tiny_llama())
    assert "lm_head" not in names(Rule(RTN, "**"), sites=llama)
    assert names(Rule(RTN, "lm_head"), sites=llama) == names(Rule(RTN, role="head"), sites=llama)


def test_a_tied_pair_is_found_by_either_name_and_either_role() -> None:
    for rule in (Rule(RTN, "lm_head"), Rule(RTN, "transformer.wte"), Rule(RTN, role="head")):
        assert names(rule) == ["transformer.wte"]


def test_a_rule_that_matches_nothing_lists_what_is_near() -> None:
    text = message(Rule(RTN, "h.[0-1].attn.**"))
    assert text.startswith("rule 'h.[0-1].attn.**' matches no site; the model has transformer.h.0.")
    assert text.endswith(", ...; did you mean '**.h.[0-1].attn.**'?")
    assert "transformer.h.0.attn.c_attn" in message(Rule(RTN, "transformer.h.0.attn.c_atn"))
    assert "did you mean" not in message(Rule(RTN, "transformer.h.7.**"))


def test_a_rule_that_only_finds_what_must_be_named_says_so() -> None:
    text = message(Rule(RTN, "transformer.ln_f.**"))
    assert "the model has transformer.ln_f (norm)" in text
    assert "norms and untied heads must be named: give their role too" in text


def test_roles_and_sizes_that_nothing_has_are_shown_beside_what_there_is() -> None:
    llama = find_sites(tiny_llama())
    text = message(Rule(RTN, role="position"), sites=llama)
    assert text.startswith("rule for role position matches no site; the model has ")
    assert "model.embed_tokens (embedding)" in text
    text = message(Rule(RTN, role="mlp", min_weights=10**6))
    assert text.startswith("rule for role mlp from 1,000,000 weights matches no site; the model")
    assert "transformer.h.0.mlp.c_fc (mlp, 4,096 weights)" in text
    text = message(Rule(RTN, "lm_head", max_weights=3))
    assert "transformer.wte (3,072 weights)" in text


def test_a_rule_behind_others_that_take_all_its_sites_says_so() -> None:
    text = message(Rule(NF4, "**.h.*.**"), Rule(None, role="norm"), Rule(HQQ, "**.h.0.mlp.**"))
    assert text == (
        "rule '**.h.0.mlp.**' decides no site: rule '**.h.*.**' came first for all it matches; "
        "move it up or drop it"
    )


def test_rules_that_leave_everything_alone_are_an_error() -> None:
    assert "full precision" in message(Rule(None, "**"))
    assert "is quantized already" in _second_time()


def _second_time() -> str:
    model = tiny_gpt2()
    quantize_model(model, [Rule(RTN, role="mlp")])
    with pytest.raises(UsageError) as caught:
        quantize_model(model, [Rule(RTN, role="attention")])
    return str(caught.value)


def test_an_unknown_role_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no role 'atention'.*did you mean 'attention'"):
        Rule(RTN, role=("mlp", "atention"))


def test_a_hybrid_scheme_is_a_few_lines() -> None:
    """HQQ early, NF4 late, an 8-bit head: what the ledger says of every site."""
    model = tiny_llama()
    rules = [
        Rule(Hqq(3, 16), "model.layers.0.**"),
        Rule(Nf4(16), "model.layers.**"),
        Rule(Rtn(8), role="head"),
    ]
    results = quantize_model(model, rules)
    lines = {line.name: line for line in inspect(model).sites}
    for name, line in lines.items():
        expected = {"0": "hqq", "1": "nf4"}.get(name.split(".")[2] if ".layers." in name else "")
        expected = "rtn" if name == "lm_head" else expected
        assert line.method == (expected or "none") or line.role == "norm", name
    assert lines["model.layers.0.mlp.up_proj"].bits_per_weight < 6
    assert {lines[r.site.name].method for r in results} == {"hqq", "nf4", "rtn"}
    assert torch.isfinite(model(windows(1)).logits).all()


def test_rules_come_before_methods_by_kind() -> None:
    model = tiny_gpt2()
    rules = (Rule(None, "**.h.0.attn.**"), Rule(Bitnet(), role="position"))
    quantize_model(model, Methods(Gptq(4, 16), embedding=Nf4(16), rules=rules), windows())
    found = {line.name: line.method for line in inspect(model).sites}
    assert found["transformer.h.0.attn.c_attn"] == "none"
    assert found["transformer.h.1.attn.c_attn"] == "gptq"
    assert (found["transformer.wte"], found["transformer.wpe"]) == ("nf4", "bitnet")
    assert isinstance(model.lm_head, TiedHead)


def test_norms_a_classifiers_head_and_untied_heads_can_be_taken() -> None:
    model = tiny_classifier("GPT2")
    head = next(site.name for site in find_sites(model) if site.role == "head")
    quantize_model(model, Methods(Rtn(8)))
    assert not isinstance(model.get_submodule(head), QuantLinear)
    model = tiny_classifier("GPT2")
    quantize_model(model, [Rule(Rtn(8, "tensor", symmetric=True), role=ROLES)])
    assert isinstance(model.get_submodule(head), QuantLinear)
    assert {line.method for line in inspect(model).sites} == {"rtn"}


@pytest.mark.parametrize(
    "rule",
    [Rule(Gptq(4), role="embedding"), Rule(Gptq(4), "lm_head"), Rule(Gptq(4), role="norm")],
)
def test_a_calibrating_method_goes_on_linear_layers_only(rule: Rule) -> None:
    with pytest.raises(UsageError, match=r"gptq calibrates on the inputs of a linear layer"):
        quantize_model(tiny_gpt2(), [rule], windows())


def test_an_untied_head_may_take_gptq_and_sees_the_quantized_blocks() -> None:
    errors = {}
    for method in (Gptq(3, 16), Rtn(3, 16)):
        model = tiny_llama()
        quantize_model(model, Methods(Nf4(16), head=method), windows())
        errors[type(method).__name__] = _head_error(model)
    assert errors["Gptq"] < 0.8 * errors["Rtn"]


@torch.no_grad()
def _head_error(model: PreTrainedModel) -> float:
    twin = tiny_llama()
    quantize_model(twin, Methods(Nf4(16)))
    expected = twin(windows()).logits
    return float((model(windows()).logits - expected).square().sum())


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama])
def test_embeddings_of_any_method_without_calibration_answer_lookups(
    make: Callable[[], PreTrainedModel],
) -> None:
    for method in (Nf4(16), Hqq(4, 16), Bitnet("row"), Rtn(1, 16)):
        model = make()
        quantize_model(model, Methods(Rtn(8), embedding=method))
        embedding = model.get_input_embeddings()
        assert isinstance(embedding, QuantEmbedding)
        rows = embedding(torch.tensor([[3, 5]]))[0]
        torch.testing.assert_close(rows, embedding.packed.dequantize()[[3, 5]])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_rest_is_cast_behind_the_quantizing(dtype: torch.dtype) -> None:
    model, twin = tiny_gpt2(), tiny_gpt2()
    rules = [Rule(Nf4(16), role=("attention", "mlp")), Rule(Rtn(8), "**.ln_1")]
    quantize_model(model, rules, dtype=dtype)
    quantize_model(twin, rules)
    assert {p.dtype for p in model.parameters()} == {dtype}
    module = model.transformer.h[0].attn.c_attn
    same = twin.transformer.h[0].attn.c_attn
    assert torch.equal(module.packed.dequantize(), same.packed.dequantize())
    assert module.get_buffer("scale").dtype == torch.float32
    assert isinstance(model.transformer.h[0].ln_1, QuantNorm)
    assert model(windows(1)).logits.dtype == dtype
    assert model.lm_head.weight is model.transformer.wte.weight
    before, after = (inspect(m).bytes_resident for m in (twin, model))
    rest = sum(p.numel() for p in model.parameters())
    assert before - after == 2 * rest


def test_a_weight_that_does_not_fit_the_dtype_is_named() -> None:
    model = tiny_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.weight[3] = 70_000
    with pytest.raises(Exception, match=r"transformer\.ln_f\.weight overflows float16"):
        quantize_model(model, Methods(Rtn(8)), dtype=torch.float16)


def test_linear_layers_outside_the_blocks_calibrate_in_the_order_of_the_model() -> None:
    """OPT projects its embedding before the blocks and back behind them."""
    model = tiny_family("OPT")
    results = quantize_model(model, [Rule(Gptq(4, 16), role=("mlp", "other"))], windows())
    order = [result.site.name for result in results]
    assert (order[0], order[-1]) == ("model.decoder.project_in", "model.decoder.project_out")
    errors = [result.output_error for result in results]
    assert all(error is not None and 0 < error < 0.05 for error in errors)


def test_a_classifier_without_padding_calibrates_with_its_head() -> None:
    model = tiny_classifier("Llama", pad_token_id=None)
    results = quantize_model(model, [Rule(Gptq(4, 16), role=("mlp", "head"))], windows())
    assert results[-1].site.role == "head"
    assert results[-1].output_error is not None


def test_two_runs_of_mixed_rules_give_the_same_bytes() -> None:
    rules = [Rule(Gptq(3, 16), "**.0.**"), Rule(Nf4(16), "**.1.**"), Rule(Rtn(8), role="norm")]
    one, two = tiny_llama(), tiny_llama()
    for model in (one, two):
        quantize_model(model, rules, windows())
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))
