"""Settings of LoRA: which layers, in which order with quantization, what is refused."""

from typing import Any

import pytest
import torch
from packing import pack, tiny

from quantale.core.errors import UsageError
from quantale.tuning.method import Start
from quantale.tuning.methods.lora import Lora, target_layers


@pytest.mark.parametrize("is_packed", [False, True])
def test_all_linear_layers_of_the_blocks_are_the_default(is_packed: bool) -> None:
    model = tiny("GPT2")
    if is_packed:
        pack(model)
    found = target_layers(model)
    assert len(found) == 2 * 4
    assert found[0] == "transformer.h.0.attn.c_attn"
    assert "lm_head" not in found


@pytest.mark.parametrize(
    ("targets", "count"),
    [("q_proj, v_proj", 4), ("**.mlp.*", 6), ("model.layers.[0].**", 7), ("q_proj,**.q_proj", 2)],
)
def test_patterns_choose_layers(targets: str, count: int) -> None:
    assert len(target_layers(tiny("Llama"), targets)) == count


def test_a_pattern_that_chooses_nothing_says_what_there_is() -> None:
    with pytest.raises(UsageError, match="'c_attn' fits no linear layer; there are q_proj, k_proj"):
        target_layers(tiny("Llama"), "q_proj,c_attn")


def test_merging_puts_the_training_before_the_quantizing() -> None:
    assert Lora().order == "quantize-first"
    assert Lora(merge=True).order == "tune-first"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank from 1"),
        ({"alpha": 0.0}, "alpha above 0"),
        ({"dropout": 1.0}, "dropout"),
        ({"init": "orthogonal", "rank": 3}, "even rank"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Lora(**settings)


def test_an_adapter_that_stays_needs_a_saved_base() -> None:
    with pytest.raises(UsageError, match="saved model"):
        Lora().begin(Start(tiny("GPT2")))
    Lora(merge=True).begin(Start(tiny("GPT2")))


def test_the_seed_alone_decides_how_an_adapter_begins() -> None:
    found = []
    for noise, seed in ((0, 1), (5, 1), (5, 2)):
        torch.manual_seed(noise)
        model = tiny("Llama")
        work = Lora(rank=2).begin(Start(model, seed=seed, base="somewhere"))
        found.append(next(iter(work.objective.trainable(model).values())).detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_classifiers_head_is_trained_with_the_adapters() -> None:
    model = tiny("GPT2 classifier")
    work = Lora(rank=2).begin(Start(model, base="somewhere"))
    names = set(work.objective.trainable(model))
    assert any("score.modules_to_save" in name for name in names)
    assert not any("original_module" in name for name in names)
