"""LoRA of peft over packed layers: gradients, training, saved adapters, no merging."""

import copy
from pathlib import Path

import pytest
import torch
from packing import ENDS, dequantized, methods_by_format, pack, tiny
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from plugin_cases import drawn, packed_cases
from tiny_models import tiny_gpt2, windows
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from quantale.core.errors import UsageError
from quantale.quant.linear import QuantLinear
from quantale.quant.lora import QuantLoraLinear, load_adapter, lora_config
from quantale.quant.packed import PackedTensor
from quantale.quant.sites import LINEAR_ROLES

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*gradient_checkpointing.* is deprecated:FutureWarning"
)  # peft 0.21 calls transformers 5.23 by old names

PACKED = packed_cases()


METHODS = methods_by_format()


def adapters(model: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fill(model: nn.Module) -> None:
    """Give every adapter the same random numbers; B starts as zeros, which would hide A."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.mark.parametrize(("label", "packed"), PACKED, ids=[label for label, _ in PACKED])
def test_gradients_equal_those_over_the_dequantized_layer(label: str, packed: PackedTensor) -> None:
    """The loss is linear in the output, so that a format may round activations on its way."""
    rows, width = packed.shape
    bias = drawn(1, rows, seed=3)[0]
    plain = nn.Linear(width, rows)
    with torch.no_grad():
        plain.weight.copy_(packed.dequantize())
        plain.bias.copy_(bias)
    x, direction = drawn(5, width, seed=4), drawn(5, rows, seed=5)
    found = []
    for layer in (QuantLinear(packed, bias), plain):
        config = LoraConfig(r=2, target_modules=["0"])
        config._register_custom_module({QuantLinear: QuantLoraLinear})
        model = get_peft_model(nn.Sequential(layer), config)
        fill(model)
        given = x.clone().requires_grad_()
        out = model(given)
        (out * direction).sum().backward()
        found.append([given.grad, *(p.grad for p in adapters(model).values())])
    assert len(found[0]) == len(found[1]) == 3
    for got, wanted in zip(*found, strict=True):
        assert got is not None
        assert wanted is not None
        assert float((got - wanted).norm()) <= 1e-5 * float(wanted.norm()), label


@pytest.mark.parametrize("name", ["GPT2", "Llama", "OPT"])
def test_gradients_of_a_whole_model_equal_those_over_dequantized_weights(name: str) -> None:
    model = tiny(name)
    original = copy.deepcopy(model)
    results = pack(model, LINEAR_ROLES)
    twin = dequantized(original, results)
    config = lora_config(model, r=2)
    plain = LoraConfig(
        r=2, target_modules=set(config.target_modules), fan_in_fan_out=name == "GPT2"
    )
    found = []
    for base, settings in ((model, config), (twin, plain)):
        tuned = get_peft_model(base, settings).eval()
        fill(tuned)
        tokens = windows(2)
        tuned(input_ids=tokens, labels=tokens).loss.backward()
        found.append({key: p.grad for key, p in adapters(tuned).items()})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == 2 * len(results)
    for key, got in found[0].items():
        torch.testing.assert_close(got, found[1][key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
@pytest.mark.parametrize("layout", METHODS)
def test_an_adapter_trains_and_comes_back_over_a_freshly_loaded_base(
    name: str, layout: str, tmp_path: Path
) -> None:
    model = tiny(name)
    pack(model, LINEAR_ROLES, METHODS[layout])
    model.save_pretrained(tmp_path / "base")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tuned = get_peft_model(model, lora_config(model, r=4, task_type="CAUSAL_LM"))
    losses = train(tuned, windows(4))
    assert losses[-1] < 0.9 * losses[0]
    tuned.save_pretrained(tmp_path / "adapter")

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert all(torch.equal(value, before[key]) for key, value in base.state_dict().items())
    again = load_adapter(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base")(input_ids=windows(1))
        wanted = tuned.eval()(input_ids=windows(1)).logits
        assert torch.equal(again(input_ids=windows(1)).logits, wanted)
        assert not torch.equal(plain.logits, wanted)
        with tuned.disable_adapter():
            assert torch.equal(tuned(input_ids=windows(1)).logits, plain.logits)
    assert not adapters(again)
    base = again.unload()
    assert adapters(load_adapter(base, tmp_path / "adapter", is_trainable=True))


def train(model: PeftModel, tokens: torch.Tensor, **more: torch.Tensor) -> list[float]:
    trained = adapters(model)
    assert all("lora_" in name or "modules_to_save" in name for name in trained)
    optimizer = torch.optim.AdamW(trained.values(), lr=0.02)
    losses = []
    for _ in range(12):
        loss = model(input_ids=tokens, **{"labels": tokens, **more}).loss
        loss.backward()
        with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
        assert with_gradient == set(trained)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def test_a_packed_classifier_trains_with_its_head(tmp_path: Path) -> None:
    model = tiny("GPT2 classifier")
    pack(model, LINEAR_ROLES)
    model.save_pretrained(tmp_path / "base")
    tuned = get_peft_model(model, lora_config(model, r=4, task_type="SEQ_CLS"))
    assert any("score" in name for name in adapters(tuned))
    losses = train(tuned, windows(4), labels=torch.tensor([0, 1, 2, 3]))
    assert losses[-1] < 0.5 * losses[0]
    tuned.save_pretrained(tmp_path / "adapter")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    again = load_adapter(base, tmp_path / "adapter").eval()
    with torch.no_grad():
        wanted = tuned.eval()(input_ids=windows(2)).logits
        assert torch.equal(again(input_ids=windows(2)).logits, wanted)


def test_the_preparation_for_quantized_training_of_peft_works() -> None:
    """It freezes, widens and checkpoints, as its users expect of a quantized model."""
    model = tiny("Llama")
    pack(model, ENDS)
    codes = {k: v.clone() for k, v in model.state_dict().items() if v.dtype == torch.uint8}
    model = prepare_model_for_kbit_training(
        model.to(torch.bfloat16), gradient_checkpointing_kwargs={"use_reentrant": False}
    )
    tuned = get_peft_model(model, lora_config(model, r=4)).train()
    losses = train(tuned, windows(4))
    assert losses[-1] < losses[0]
    state = tuned.base_model.model.state_dict()
    assert codes
    for key, value in codes.items():
        assert any(torch.equal(value, other) for name, other in state.items() if _same(name, key))


def _same(name: str, key: str) -> bool:
    return name.replace(".base_layer", "") == key


@pytest.mark.parametrize("name", ["GPT2", "Llama"])
def test_every_packed_linear_layer_but_the_head_gets_an_adapter(name: str) -> None:
    model: PreTrainedModel = tiny(name)
    pack(model, ENDS)
    wanted = {key for key, module in model.named_modules() if isinstance(module, QuantLinear)}
    assert set(lora_config(model).target_modules) == wanted
    untied = tiny("Phi")
    pack(untied, ENDS)
    assert isinstance(untied.get_output_embeddings(), QuantLinear)
    assert "lm_head" not in lora_config(untied).target_modules
    only = get_peft_model(untied, lora_config(untied, target_modules=["fc1"]))
    found = [key for key, m in only.named_modules() if isinstance(m, QuantLoraLinear)]
    assert [key.rpartition(".")[2] for key in found] == ["fc1", "fc1"]


def test_what_cannot_work_is_an_error_that_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no packed linear layer"):
        lora_config(tiny_gpt2())
    model = tiny("Llama")
    pack(model)
    with pytest.raises(UsageError, match="reads the base weight"):
        lora_config(model, init_lora_weights="pissa")
    plain = copy.deepcopy(model)
    tuned = get_peft_model(model, lora_config(model, r=2))
    tuned.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is not supported"):  # and never an adapter left out
        PeftModel.from_pretrained(plain, str(tmp_path))
    with pytest.raises(UsageError, match="cannot be merged into packed weights"):
        tuned.merge_and_unload()
    with pytest.raises(UsageError, match="cannot be merged into packed weights"):
        tuned.merge_adapter()
    assert isinstance(tuned.unload().model.layers[0].mlp.up_proj, QuantLinear)
