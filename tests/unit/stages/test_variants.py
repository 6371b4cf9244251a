"""From settings to methods: what was given reaches the method, and nothing else."""

import dataclasses
import json
from typing import Any

import pytest

from quantale.core.errors import UsageError
from quantale.core.recipe_file import load_recipe, recipe_names
from quantale.core.recipe_variants import VariantSection
from quantale.core.registry import METHODS
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.rules import Rule
from quantale.quant.whole import Methods
from quantale.stages.variants import make_method, make_methods


def made(**fields: Any) -> Methods:
    return make_methods(VariantSection.model_validate_json(json.dumps({"name": "v", **fields})))


@pytest.mark.parametrize("name", METHODS.names())
def test_every_method_is_made_from_what_it_cannot_do_without(name: str) -> None:
    kind = METHODS.get(name)
    fields = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING}
    assert fields <= {"bits"}
    bits = {"bits": 4} if fields else {}
    assert made(method=name, **bits).linear == kind(**bits)


def test_unsaid_settings_are_the_methods_own() -> None:
    assert made(method="nf4") == Methods(Nf4(group_size=64))
    assert made(method="bitnet") == Methods(Bitnet(group_size="tensor"))
    assert made(method="rtn", bits=1) == Methods(Rtn(1, "row", symmetric=False))
    assert made(method="hqq", bits=3, group_size="row") == Methods(Hqq(3, "row"))
    assert made(method="binary", settings={"scale_dtype": "float32"}) == Methods(
        Binary(scale_dtype="float32")
    )


@pytest.mark.parametrize("name", recipe_names())
def test_what_shipped_recipes_ask_for_stays_what_it_was(name: str) -> None:
    for variant in load_recipe(name).recipe.variants:
        methods = make_methods(variant)
        if variant.method not in ("rtn", "gptq"):
            continue
        assert isinstance(methods.linear, Rtn | Gptq)
        found = methods.linear
        assert (found.bits, found.group_size) == (variant.bits, variant.group_size)
        assert found.symmetric == bool(variant.symmetric)
        expected = variant.embedding_bits and Rtn(variant.embedding_bits, found.group_size)
        assert methods.embedding == expected
        assert methods.head is None


def test_embedding_and_head_take_over_what_they_understand() -> None:
    shared = {"group_size": 32, "symmetric": True, "settings": {"scale_dtype": "float32"}}
    methods = made(method="rtn", bits=3, embedding_method="nf4", head_bits=8, **shared)
    assert methods.embedding == Nf4(32, "float32")
    assert methods.head == Rtn(8, 32, symmetric=True, scale_dtype="float32")
    assert made(method="nf4", embedding_bits=4, head_method="gptq", head_bits=4) == Methods(
        Nf4(), Rtn(4), Gptq(4)
    )


def test_rules_keep_their_order_and_settings() -> None:
    rules = [
        {"match": "**.[0-2].**", "method": "hqq", "bits": 4, "settings": {"iterations": 5}},
        {"role": ["norm", "head"], "min_size": 10, "max_size": 99, "method": "none"},
    ]
    assert made(rules=rules) == Methods(
        None,
        rules=(
            Rule(Hqq(4, iterations=5), "**.[0-2].**"),
            Rule(None, None, ("norm", "head"), 10, 99),
        ),
    )


def test_what_calibrates_is_known_wherever_it_stands() -> None:
    assert made(method="nf4").calibrating is None
    assert made(method="nf4", head_method="gptq", head_bits=4).calibrating == "gptq"
    rule = {"match": "**", "method": "rtn", "bits": 3, "settings": {"clip": "activations"}}
    assert made(rules=[rule]).calibrating == "rtn"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "rtn"}, "rtn needs bits"),
        ({"method": "nf4", "bits": 4}, "nf4 has no setting 'bits'; it has group_size"),
        ({"method": "nf4", "symmetric": True}, "nf4 has no setting 'symmetric'"),
        ({"method": "gptq", "bits": 4, "settings": {"dmap": 1}}, "did you mean 'damp'?"),
        (
            {"method": "gptq", "bits": 4, "settings": {"damp": "x"}},
            "gptq: damp should be a valid number; got 'x'",
        ),
        ({"method": "gptq", "bits": 4, "settings": {"act_order": 1}}, "act_order should be a va"),
        ({"method": "nf4", "embedding_method": "nf4", "embedding_bits": 4}, "no setting 'bits'"),
        ({"method": "nf4", "embedding_method": "rtn"}, "rtn needs bits"),
        (
            {"method": "nf4", "embedding_method": "gptq", "embedding_bits": 4},
            "embedding_method gptq needs calibration",
        ),
        ({"rules": [{"method": "nf4", "match": "h.[2"}]}, r"'h.[2' is no pattern"),
    ],
)
def test_what_a_method_cannot_do_is_told_before_anything_is_loaded(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        made(**fields)
    assert message in str(caught.value)


def test_whole_numbers_do_for_fractions_and_none_where_it_is_allowed() -> None:
    assert make_method("gptq", {"bits": 4, "correct": 1}) == Gptq(4, correct=1)
    assert make_method("bitnet", {"activation_bits": None}) == Bitnet(activation_bits=None)
