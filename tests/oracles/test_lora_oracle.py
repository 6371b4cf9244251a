"""LoRA, rsLoRA and DoRA against their formulas written out; merging; every packed format."""

import copy
import math

import pytest
import torch
from packing import dequantized, methods_by_format, pack, tiny
from peft import LoraConfig
from plugin_cases import drawn
from tiny_models import windows
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.models.adapters import adapter_config, adapter_tensors, put_on
from quantale.quant.linear import PackedModule, QuantLinear
from quantale.quant.merging import merged, merged_into, unpacked
from quantale.quant.sites import LINEAR_ROLES
from quantale.tuning.method import Start
from quantale.tuning.methods.lora import Lora, proof_divergence

METHODS = methods_by_format()
FORMS: list[dict[str, object]] = [
    {},
    {"rslora": True},
    {"dora": True},
    {"biases": True, "targets": "**.mlp.*"},
    {"init": "orthogonal"},
    {"init": "gaussian"},
]
PREFIX = "base_model.model."


def adapted(model: PreTrainedModel, **settings: object) -> PreTrainedModel:
    """Return a model with an adapter whose numbers are random; B starts as zeros."""
    work = Lora(rank=4, alpha=6.0, **settings).begin(Start(model, seed=1, base="somewhere"))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in work.objective.trainable(work.model).values():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.05)
    return model.eval()


def written_out(model: PreTrainedModel, tuned: PreTrainedModel, **form: object) -> PreTrainedModel:
    """Change the weights of a plain model by the published formulas."""
    scale = 6.0 / (math.sqrt(4) if form.get("rslora") else 4)
    tensors = adapter_tensors(tuned)
    with torch.no_grad():
        for name in adapter_config(tuned).target_modules:
            down = tensors[f"{PREFIX}{name}.lora_A.weight"]
            up = tensors[f"{PREFIX}{name}.lora_B.weight"]
            module = model.get_submodule(name)
            weight = module.get_parameter("weight")
            changed = (weight.t() if isinstance(module, Conv1D) else weight) + scale * up @ down
            if form.get("dora"):
                magnitude = tensors[f"{PREFIX}{name}.lora_magnitude_vector"]
                changed = magnitude[:, None] * changed / changed.norm(dim=1, keepdim=True)
            weight.copy_(changed.t() if isinstance(module, Conv1D) else changed)
        for name, tensor in tensors.items():
            if name.endswith(".bias"):
                inside = name.removeprefix(PREFIX).replace(".base_layer", "")
                model.get_parameter(inside).copy_(tensor)
    return model


def apart(one: PreTrainedModel, other: PreTrainedModel) -> float:
    with torch.no_grad():
        return float((logits(one) - logits(other)).abs().max())


def logits(model: PreTrainedModel) -> Tensor:
    found: Tensor = model(input_ids=windows(2)).logits
    return found


@pytest.mark.parametrize("is_packed", [False, True], ids=["plain", "packed"])
@pytest.mark.parametrize("name", ["GPT2", "Llama"])
@pytest.mark.parametrize("form", FORMS, ids=["-".join(form) or "lora" for form in FORMS])
def test_a_model_with_an_adapter_computes_the_formula(
    form: dict[str, object], name: str, is_packed: bool
) -> None:
    model = tiny(name)
    twin = copy.deepcopy(model)
    if is_packed:
        twin = dequantized(twin, pack(model))
    before = {key: value.clone() for key, value in twin.state_dict().items()}
    tuned = adapted(model, **form)
    plain = merged(tuned)
    assert apart(tuned, twin) > 0.05, "the adapter changes nothing: the test would be empty"
    assert all(torch.equal(value, before[key]) for key, value in twin.state_dict().items())
    wanted = written_out(twin, tuned, **form)
    assert apart(tuned, wanted) < 1e-5
    assert apart(plain, wanted) < 1e-5
    assert apart(plain, tuned) < 1e-5
    assert type(plain) is type(wanted)
    assert not any(isinstance(module, PackedModule) for module in plain.modules())
    assert plain.state_dict().keys() == wanted.state_dict().keys()


def test_alpha_scales_by_rank_and_by_its_root() -> None:
    plain, rooted = (adapted(tiny("Llama"), rslora=rslora) for rslora in (False, True))
    names = {"model.layers.0.mlp.up_proj"}
    for name in names:
        assert plain.get_submodule(name).scaling["default"] == 6.0 / 4
        assert rooted.get_submodule(name).scaling["default"] == 6.0 / 2


@pytest.mark.parametrize("layout", METHODS)
def test_an_adapter_merges_over_every_format(layout: str) -> None:
    """What the format makes of inputs is left out: the divergence allows for that alone."""
    model = tiny("Llama")
    pack(model, LINEAR_ROLES, METHODS[layout])
    plain = unpacked(model)
    tuned = adapted(model)
    again = merged(tuned)
    base_gap = proof_divergence(model_without(tuned, layout), plain)
    assert proof_divergence(tuned, again) <= 4 * base_gap + 1e-6
    other = merged_into(unpacked(tuned), tuned)
    assert apart(other, again) < 1e-6


def model_without(tuned: PreTrainedModel, layout: str) -> PreTrainedModel:
    del tuned
    model = tiny("Llama")
    pack(model, LINEAR_ROLES, METHODS[layout])
    return model


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("layout", METHODS)
def test_dora_over_a_packed_layer_equals_dora_over_the_dequantized_one(
    layout: str, dropout: float
) -> None:
    packed = METHODS[layout].quantize(drawn(24, 48))
    rows, width = packed.shape
    plain = nn.Linear(width, rows)
    bias = drawn(1, rows, seed=3)[0]
    with torch.no_grad():
        plain.weight.copy_(packed.dequantize())
        plain.bias.copy_(bias)
    x, direction = drawn(5, width, seed=4), drawn(5, rows, seed=5)
    found = []
    for layer in (QuantLinear(packed, bias), plain):
        model = nn.Sequential(layer)
        config = Lora(rank=2, dora=True, dropout=dropout)
        lora = config_for(config)
        torch.manual_seed(8)
        put_on(model, lora)
        trained = [p for p in model.parameters() if p.requires_grad]
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weight in trained:
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        torch.manual_seed(9)
        out = model.train()(x)
        (out * direction).sum().backward()
        found.append([out.detach(), *(p.grad for p in trained)])
    rounds_inputs = layout in ("LlmInt8", "Ternary")
    for got, wanted in zip(*found, strict=True):
        assert got is not None
        assert wanted is not None
        allowed = 0.05 if rounds_inputs else 1e-4
        assert float((got - wanted).norm()) <= allowed * float(wanted.norm()) + 1e-6


def config_for(method: Lora) -> LoraConfig:
    """Return the configuration of a model that is one layer."""
    return LoraConfig(
        r=method.rank,
        lora_alpha=4,
        lora_dropout=method.dropout,
        target_modules=["0"],
        use_dora=method.dora,
    )


def test_only_adapters_get_gradients_and_packed_weights_stay() -> None:
    model = tiny("GPT2")
    pack(model)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    work = Lora(rank=2).begin(Start(model, base="somewhere"))
    trained = work.objective.trainable(work.model)
    assert trained
    assert all("lora_" in name for name in trained)
    tokens = windows(2)
    work.model(input_ids=tokens, labels=tokens).loss.backward()
    with_gradient = {n for n, p in work.model.named_parameters() if p.grad is not None}
    assert with_gradient == set(trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=0.1)
    optimizer.step()
    after = {k.replace(".base_layer", ""): v for k, v in work.model.state_dict().items()}
    assert all(torch.equal(after[key], value) for key, value in before.items())
