"""Healing against autograd through each format's own dequantize, and against what is stored."""

import dataclasses
from pathlib import Path

import pytest
import torch
from plugin_cases import FEW_BITS, drawn, inputs, method_cases, stats_of
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from torch import Tensor, nn

from quantale.core.progress import Silent
from quantale.core.recipe_variants import VariantSection
from quantale.data.load import load_documents
from quantale.quant.apply import Method
from quantale.quant.learned import LearnedWeight
from quantale.quant.linear import QuantLinear, packed_module
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor
from quantale.quant.parts import separable
from quantale.stages.corpus import first_documents
from quantale.stages.heal import Budget, taught_corpus, taught_section
from quantale.stages.paired import pair
from quantale.stages.quantize import Source, quantize_stage, source_of
from quantale.stages.tune import Tuned, tune_stage

SHAPE = (6, 20)
CASES = [
    pytest.param(method, id=name)
    for name, method in method_cases(FEW_BITS)
    if name.partition("-")[0] in ("rtn", "hqq", "binary", "bitnet", "nf4", "fp4", "bnb")
]


def pack(method: Method) -> PackedTensor:
    packed = method.quantize(drawn(*SHAPE), stats_of(inputs(SHAPE[1])))
    if separable(packed.format) is None:
        pytest.skip("the format has no scales that can be trained")
    return packed


def layer_of(packed: PackedTensor) -> QuantLinear:
    found = packed_module(nn.Linear(SHAPE[1], SHAPE[0]), packed, torch.ones(SHAPE[0]))
    assert isinstance(found, QuantLinear)
    return found


def moved(layer: QuantLinear) -> LearnedWeight:
    """Move scales and zero points as a training would."""
    assert layer.learn(scales=True, zeros=True)
    assert layer.learned is not None
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.learned.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return layer.learned


@pytest.mark.parametrize("method", CASES)
def test_an_untouched_layer_gives_the_packed_layers_bits(method: Method) -> None:
    packed, x = pack(method), inputs(SHAPE[1])[:5]
    layer = layer_of(packed)
    expected = layer(x)
    if not getattr(packed.format, "double_quant", False):  # those do not come back unchanged
        assert layer.learn(scales=True, zeros=True)
        assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("method", CASES)
def test_what_is_stored_is_what_was_trained_bit_for_bit(method: Method) -> None:
    packed, x = pack(method), inputs(SHAPE[1])[:5]
    layer = layer_of(packed)
    before = {name: tensor.clone() for name, tensor in layer.packed.tensors.items()}
    moved(layer)
    with torch.no_grad():
        trained = layer(x)
    layer.finish()
    assert torch.equal(layer(x), trained)
    after = layer.packed.tensors
    assert not torch.equal(after["scale"], before["scale"])
    sizes = {name: (t.dtype, t.shape) for name, t in after.items()}
    assert sizes == {name: (t.dtype, t.shape) for name, t in before.items()}
    width = packed.shape[1]
    assert torch.equal(_codes(layer.packed)[:, :width], _codes(packed)[:, :width])


@pytest.mark.parametrize("method", CASES)
def test_gradients_are_those_of_autograd_through_dequantize(method: Method) -> None:
    packed = pack(method)
    layer = layer_of(packed)
    learned = moved(layer)
    parts = learned.parts()
    pull = torch.randn(packed.shape, generator=torch.Generator().manual_seed(2))
    (parts.weight() * pull).sum().backward()  # type: ignore[no-untyped-call]

    scale = parts.scale.detach().clone().requires_grad_(True)
    leaves = [scale]
    tensors = {"weight": packed.tensors["weight"], "scale": scale}
    if "zero_point" in packed.tensors:
        tensors["zero_point"] = packed.tensors["zero_point"]
    if learned.shift is not None and parts.zero_point is not None:
        tensors["zero_point"] = parts.zero_point.detach().clone().requires_grad_(True)
        leaves.append(tensors["zero_point"])
    plain = {"scale_dtype": "float32", "double_quant": False}
    fields = {field.name for field in dataclasses.fields(packed.format)}  # type: ignore[arg-type]
    layout = dataclasses.replace(  # type: ignore[type-var]
        packed.format, **{key: value for key, value in plain.items() if key in fields}
    )
    weight = layout.dequantize(PackedTensor(layout, packed.shape, tensors))
    assert torch.equal(weight, parts.weight())
    expected = torch.autograd.grad((weight * pull).sum(), leaves)

    assert learned.factor is not None
    assert learned.factor.grad is not None
    first = learned.get_buffer("scale")
    torch.testing.assert_close(learned.factor.grad.view_as(first), expected[0] * first)
    if learned.shift is not None:
        assert learned.shift.grad is not None
        torch.testing.assert_close(learned.shift.grad.view_as(first), expected[1])


def test_zero_points_that_are_whole_numbers_stay() -> None:
    layer = layer_of(pack(Rtn(2, 8)))
    assert moved(layer).shift is None


def _codes(packed: PackedTensor) -> Tensor:
    layout = separable(packed.format)
    assert layout is not None
    parts = layout.take_apart(packed)
    return parts.units.flatten(1).t() if parts.transposed else parts.units.flatten(1)


@pytest.mark.slow
@needs_shared
def test_a_short_healing_halves_the_divergence_of_a_rounded_model(tmp_path: Path) -> None:
    original, quiet = source_of(str(STORIES260K)), Silent()
    stories = str(TINYSTORIES / "train.txt")
    corpus = taught_corpus(f"{stories}[:2000]", 0)
    test = first_documents(load_documents(str(TINYSTORIES / "valid.txt"), split="test"), 30)
    variant = VariantSection(name="w3", method="rtn", bits=3, group_size=64)
    made = quantize_stage(
        original, variant, None, tmp_path / "w3", resume=False, progress=quiet, verify=False
    )
    section = taught_section("heal", {}, 1e-2, Budget(100, 4))
    plan = Tuned(section, Source(made.path, made.digest), original, corpus, 0)
    healed = tune_stage(plan, tmp_path / "healed", resume=False, progress=quiet)
    before = pair(original.folder, made.path, test, 0, quiet).kl.value
    after = pair(original.folder, healed.path / "model", test, 0, quiet).kl.value
    assert after <= before / 2
