"""A student cut out of a model: equal with all layers, and else what the others compute."""

import pytest
import torch
from tiny_models import FAMILIES, tiny_classifier, tiny_family, tiny_gpt2, tiny_nanogpt, windows
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks
from quantale.models.shorten import evenly, shorten
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model


def logits(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=windows(2), use_cache=False).logits
    return found


@pytest.mark.parametrize("family", [*FAMILIES, "nanogpt"])
def test_a_student_with_all_layers_is_its_teacher_bit_for_bit(family: str) -> None:
    teacher = tiny_nanogpt() if family == "nanogpt" else tiny_family(family)
    student = shorten(teacher, (0, 1))
    assert torch.equal(logits(student), logits(teacher))
    assert type(student) is type(teacher)
    own = {tensor.data_ptr() for tensor in student.parameters()}
    assert own.isdisjoint({tensor.data_ptr() for tensor in teacher.parameters()})


@pytest.mark.parametrize("family", [*FAMILIES, "nanogpt"])
def test_it_computes_what_the_teacher_computes_without_the_other_blocks(family: str) -> None:
    teacher = tiny_nanogpt() if family == "nanogpt" else tiny_family(family)
    student = shorten(teacher, (1,))
    assert student.config.num_hidden_layers == len(find_blocks(student)[1]) == 1
    name, blocks = find_blocks(teacher)
    last = blocks[1]
    for module in last.modules():
        if getattr(module, "layer_idx", None) == 1:
            module.layer_idx = 0  # type: ignore[assignment]
    teacher.set_submodule(name, nn.ModuleList([last]))
    teacher.config.num_hidden_layers = 1
    assert torch.equal(logits(student), logits(teacher))


def test_a_classifier_keeps_its_classes() -> None:
    student = shorten(tiny_classifier("GPT2"), (0,))
    assert student.config.num_labels == 4
    assert student.num_labels == 4


def test_layers_are_chosen_as_distilgpt2_chose_them() -> None:
    twelve = nn.Module()
    twelve.h = nn.ModuleList(nn.Linear(2, 2) for _ in range(12))
    assert evenly(twelve, 6) == (0, 2, 4, 7, 9, 11)
    assert evenly(twelve, 12) == tuple(range(12))
    assert evenly(twelve, 1) == (0,)
    assert all(len(set(evenly(twelve, count))) == count for count in range(1, 13))


@pytest.mark.parametrize(
    ("kept", "message"),
    [((2,), "layers 0 to 1; 2 came"), ((0, 0), "once each"), ((), "once each")],
)
def test_layers_that_are_not_there_are_refused(kept: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shorten(tiny_gpt2(), kept)


@pytest.mark.parametrize("count", [0, 3])
def test_a_count_beyond_the_blocks_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"2 layers; {count}"):
        evenly(tiny_gpt2(), count)


def test_a_packed_model_is_refused() -> None:
    model = tiny_gpt2()
    quantize_model(model, Methods(Rtn(4)))
    with pytest.raises(UsageError, match="shorten the original"):
        shorten(model, (0,))
