"""The ways to few bits that the benchmark compares: each one can be made, and how it is printed."""

import pytest
from benchmarks.one_bit import BINARY, FIRST_ATTENTION, WAYS, Way, table
from tiny_models import tiny_gpt2, tiny_llama
from transformers import PreTrainedModel

from quantale.core.recipe_variants import RuleSection, VariantSection
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import plan_model
from quantale.stages.heal import Budget, taught_section
from quantale.stages.tune import check_tuning
from quantale.stages.variants import make_methods


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_every_way_is_a_variant_that_can_be_made(way: Way) -> None:
    section = None
    if way.method is not None:
        section = taught_section(way.method, way.settings or {}, way.rate, Budget(3, 2))
    check_tuning(VariantSection(name=way.name, tune=section, **way.quantized))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (tiny_gpt2(), {f"transformer.h.0.attn.{part}" for part in ("c_attn", "c_proj")}),
        (tiny_llama(), {f"model.layers.0.self_attn.{part}_proj" for part in "qkvo"}),
    ],
    ids=("gpt2", "llama"),
)
def test_the_first_attention_alone_gets_more_bits(
    model: PreTrainedModel, expected: set[str]
) -> None:
    variant = VariantSection(name="mixed", rules=(RuleSection(**FIRST_ATTENTION),), **BINARY)
    _, plan = plan_model(model, make_methods(variant))
    assert {name for name, method in plan.items() if isinstance(method, Rtn)} == expected
    assert len(plan) > len(expected)


def test_names_are_unique() -> None:
    assert len({way.name for way in WAYS}) == len(WAYS)


def test_rows_are_printed_as_shares_of_perplexity() -> None:
    row = {
        "name": "hqq-1",
        "bits_per_weight": 1.5,
        "bytes_on_disk": 1234,
        "rise": 0.031,
        "rise_low": 0.02,
        "rise_high": 0.04,
        "kl": 0.0312,
        "seconds": 61.2,
        "processor_seconds": 30.0,
    }
    last = table([row]).splitlines()[-1]
    assert last == "| hqq-1 | 1.50 | 1,234 | +3.1% | +2.0% to +4.0% | 0.031 | 61 | 30 |"
