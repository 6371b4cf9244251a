"""The error of every layer against its formula, and which models it is asked of."""

import copy

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from quantale.models.shorten import shorten
from quantale.quant.damage import output_errors
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model

WINDOWS = torch.randint(40, (2, 12), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def base() -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"n_embd": 32, "n_layer": 4, "n_head": 4, "vocab_size": 40, "n_positions": 16}
    return GPT2LMHeadModel(GPT2Config(**sizes)).eval()


def packed(model: PreTrainedModel) -> PreTrainedModel:
    found = copy.deepcopy(model)
    quantize_model(found, Methods(Rtn(3, 16)))
    return found


def test_it_is_the_squared_error_on_what_the_base_saw(base: PreTrainedModel) -> None:
    other, name = packed(base), "transformer.h.2.mlp.c_fc"
    seen: list[torch.Tensor] = []
    handle = base.get_submodule(name).register_forward_hook(lambda _m, args, _o: seen.append(*args))
    found = output_errors(base, {"rtn": other}, WINDOWS)["rtn"]
    handle.remove()
    exact = (seen[0] @ base.get_parameter(f"{name}.weight")).detach()
    rounded = seen[0] @ other.get_submodule(name).packed.dequantize().t()
    assert found[name] == pytest.approx(
        float((rounded - exact).square().sum() / exact.square().sum()), rel=1e-4
    )
    assert len(found) == 16


def test_a_student_of_another_shape_is_left_out(base: PreTrainedModel) -> None:
    student = packed(shorten(copy.deepcopy(base), (0, 3)))
    found = output_errors(base, {"rtn": packed(base), "student": student}, WINDOWS)
    assert list(found) == ["rtn"]
    assert output_errors(base, {"student": student}, WINDOWS) == {}
