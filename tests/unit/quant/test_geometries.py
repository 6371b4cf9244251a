"""Every geometry of transformers that is claimed: sites, packed results, files, generation."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from packing import ENDS, EVERYTHING, dequantized, methods_by_format, pack, tiny
from tiny_models import CLASSIFIERS, CONTEXT, FAMILIES, LABELS, VOCABULARY, windows
from torch import nn
from transformers import AutoModelForCausalLM, MixtralConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from quantale.core.errors import UsageError
from quantale.models.blocks import find_blocks
from quantale.quant.hf import mark_quantized
from quantale.quant.ledger import inspect
from quantale.quant.linear import PackedModule, QuantEmbedding, QuantNorm, TiedHead
from quantale.quant.sites import LINEAR_ROLES, Site, choose, find_sites

CLASSIFYING = tuple(f"{family} classifier" for family in CLASSIFIERS)
NAMES = (*FAMILIES, *CLASSIFYING)
METHODS = methods_by_format()
TIED = ("GPT2", "Llama", "Gemma2", "Gemma3Text", "OPT")


def found(model: PreTrainedModel) -> dict[str, Site]:
    return {site.name: site for site in find_sites(model)}


@pytest.mark.parametrize("name", NAMES)
def test_every_matrix_is_a_site_with_its_role(name: str) -> None:
    model = tiny(name)
    sites = found(model)
    matrices = {key for key, p in model.named_parameters() if p.dim() == 2}
    assert matrices <= {f"{site}.weight" for site in sites}
    prefix, _ = find_blocks(model)
    for site in sites.values():
        inside = site.name.startswith(f"{prefix}.")
        assert (site.role in LINEAR_ROLES) == (inside and site.shape[0] > 1), site
    roles = [site.role for site in sites.values()]
    assert roles.count("embedding") == 1
    assert roles.count("position") == (name.startswith("GPT2") or name == "OPT")
    assert roles.count("head") == (name not in TIED)
    assert roles.count("other") == (2 if name == "OPT" else 0)  # its projections in and out
    tied = [site.tied for site in sites.values() if site.tied]
    assert tied == (["lm_head"] if name in TIED else [])


@pytest.mark.parametrize("name", NAMES)
def test_norms_are_sites_that_only_an_explicit_request_quantizes(name: str) -> None:
    model = tiny(name)
    sites = find_sites(model)
    norms = [site for site in sites if site.role == "norm"]
    named = [key for key, module in model.named_modules() if "Norm" in type(module).__name__]
    assert [site.name for site in norms] == named
    assert {site.shape[0] for site in norms} == {1}
    assert not any(site in norms for site in choose(sites, embedding=True, head=True))


@pytest.mark.parametrize("name", CLASSIFYING)
def test_the_head_of_a_classifier_stays_as_it_is_unless_asked_for(name: str) -> None:
    sites = find_sites(tiny(name))
    plain = choose(sites, embedding=True, head=False)
    assert "score" not in [site.name for site in plain]
    assert choose(sites, embedding=True, head=True) == [s for s in sites if s.role in ENDS]
    assert sites[-1] == Site("score", "head", (LABELS, 32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("roles", [LINEAR_ROLES, ENDS, EVERYTHING], ids=["linear", "ends", "all"])
def test_packed_models_compute_what_their_dequantized_weights_do_and_come_back_from_disk(
    name: str, roles: tuple[str, ...], tmp_path: Path
) -> None:
    model = tiny(name)
    original = copy.deepcopy(model)
    results = pack(model, roles)
    _, blocks = find_blocks(model)
    assert not any(isinstance(m, nn.Linear | Conv1D) for m in blocks.modules())

    tokens = windows(2)
    with torch.no_grad():
        logits = model(input_ids=tokens).logits
        expected = dequantized(original, results)(input_ids=tokens).logits
        assert not torch.equal(logits, original(input_ids=tokens).logits)
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)

    model.save_pretrained(tmp_path / "a")
    again = type(model).from_pretrained(tmp_path / "a")
    with torch.no_grad():
        assert torch.equal(again(input_ids=tokens).logits, logits)
    again.save_pretrained(tmp_path / "b")
    first, second = (tmp_path / n / "model.safetensors" for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    _check_ledger(again, original, first)
    if not name.endswith("classifier"):
        _check_generation(again, model)


@pytest.mark.parametrize("name", ["GPT2", "Gemma3Text"])
@pytest.mark.parametrize("layout", METHODS)
def test_every_format_serves_every_kind_of_site(name: str, layout: str, tmp_path: Path) -> None:
    model = tiny(name)
    original = copy.deepcopy(model)
    results = pack(model, EVERYTHING, METHODS[layout])
    assert {type(result.packed.format).__name__ for result in results} == {layout}
    twin = dequantized(original, results)
    tokens = windows(2)
    with torch.no_grad():
        logits, expected = model(input_ids=tokens).logits, twin(input_ids=tokens).logits
    cosine = torch.cosine_similarity(logits.flatten(), expected.flatten(), 0)
    assert cosine > 0.99  # a format may round activations
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(input_ids=tokens).logits, logits)
    _check_ledger(again, original, tmp_path / "model.safetensors")


def _check_ledger(model: PreTrainedModel, original: PreTrainedModel, file: Path) -> None:
    ledger = inspect(model, file.parent)
    assert ledger.bytes_resident == model.get_memory_footprint()
    assert ledger.bytes_on_disk == file.stat().st_size == sum(ledger.components.values())
    assert sum(inspect(model).components.values()) == ledger.bytes_resident
    assert ledger.parameters == original.num_parameters()
    plain = inspect(original)
    for part in ("linear", "embedding", "head"):
        assert (ledger.components[part] > 0) == (plain.components[part] > 0)
        assert ledger.components[part] <= plain.components[part]


def _check_generation(one: PreTrainedModel, other: PreTrainedModel) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    tokens = windows(2, 6)
    drawn = one.generate(tokens, **settings)
    assert torch.equal(drawn, other.generate(tokens, **settings))
    assert drawn.shape[1] > tokens.shape[1]


@pytest.mark.parametrize("name", TIED)
def test_a_tied_pair_is_stored_once_and_comes_back_tied(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    pack(model, ENDS)
    model.save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    for each in (model, again):
        head, embedding = each.get_output_embeddings(), each.get_input_embeddings()
        assert isinstance(head, TiedHead)
        assert head.weight is embedding.weight
        assert not [key for key in each.state_dict() if key.startswith("lm_head")]


@pytest.mark.parametrize(("name", "key"), [("Gemma3Text", "embedding"), ("OPT", "position")])
def test_an_embedding_with_arithmetic_of_its_own_keeps_it(name: str, key: str) -> None:
    """The scale of Gemma's embedding, the offset of OPT's positions."""
    model = tiny(name)
    site = next(site for site in find_sites(model) if site.role == key)
    module = copy.deepcopy(model.get_submodule(site.name))
    (result,) = pack(model, [key])
    with torch.no_grad():
        module.weight.copy_(result.packed.dequantize())
    packed = model.get_submodule(site.name)
    assert isinstance(packed, QuantEmbedding)
    index = torch.ones(2, 5, dtype=torch.int64)
    assert torch.equal(packed(index), module(index))
    assert not torch.equal(packed(index), packed.lookup(index))
    assert torch.equal(copy.deepcopy(packed)(index), module(index))
    assert packed.bfloat16()(index).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["GPT2", "Llama", "Gemma2"])
def test_a_packed_norm_keeps_its_names_and_its_arithmetic(name: str) -> None:
    model = tiny(name)
    results = {result.site.name: result for result in pack(copy.deepcopy(model), ["norm"])}
    packed = copy.deepcopy(model)
    pack(packed, ["norm"])
    site, result = next(iter(results.items()))
    plain, module = model.get_submodule(site), packed.get_submodule(site)
    assert isinstance(module, QuantNorm)
    wanted = {f"{site}.{part}" for part in ("weight", "scale", "zero_point")}
    wanted |= {f"{site}.bias"} if name == "GPT2" else set()
    assert {key for key in packed.state_dict() if key.startswith(f"{site}.")} == wanted
    assert packed.state_dict()[f"{site}.weight"].dim() == 3
    with torch.no_grad():
        plain.weight.copy_(result.packed.dequantize()[0])
        x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
        assert torch.equal(module(x), plain(x))
    assert module.bfloat16()(x.bfloat16()).dtype == torch.bfloat16


class Weighted(nn.Embedding):
    """Does more than look up."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return super().forward(index) + self.weight.mean()


class Scattered(nn.Embedding):
    """Does something else than looking up."""

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        return torch.index_select(self.weight, 0, index.flatten()).view(*index.shape, -1)


class Decoupled(nn.Embedding):
    """Stores more than a weight."""

    def __init__(self, entries: int, width: int) -> None:
        super().__init__(entries, width)
        self.more = nn.Parameter(torch.zeros(2))


def test_an_embedding_that_cannot_be_packed_is_an_error_that_names_it() -> None:
    model = tiny("GPT2")
    model.transformer.wpe = Decoupled(CONTEXT, 32)
    with pytest.raises(UsageError, match=r"transformer\.wpe: a Decoupled that stores"):
        pack(model, ["position"])
    model.transformer.wpe = nn.Embedding(CONTEXT, 32, max_norm=1.0)
    with pytest.raises(UsageError, match=r"max_norm 1\.0"):
        pack(model, ["position"])
    unknown: list[tuple[nn.Embedding, type[Exception], str]] = [
        (Weighted(CONTEXT, 32), AttributeError, "a Weighted uses its weight for 'mean'"),
        (Scattered(CONTEXT, 32), UsageError, "a Scattered uses its weight for 'index_select'"),
    ]
    for module, error, message in unknown:
        other = tiny("GPT2")
        other.transformer.wpe = module
        pack(other, ["position"])
        with pytest.raises(error, match=message):
            other(windows(1))


def test_weights_that_would_be_left_out_of_a_block_are_an_error() -> None:
    model = tiny("Llama")

    class Odd(nn.Linear):
        pass

    model.model.layers[1].mlp.up_proj = Odd(32, 44)
    with pytest.raises(UsageError, match=r"layers\.1\.mlp\.up_proj: a Odd is no plain linear"):
        find_sites(model)
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=44,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    experts = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UsageError, match=r"experts.*mixture of experts"):
        find_sites(experts)
    assert inspect(experts).parameters == experts.num_parameters()


def test_a_model_without_a_parameter_is_refused() -> None:
    model = tiny("Llama")
    pack(model, EVERYTHING)
    model.model.norm = nn.Identity()
    with pytest.raises(UsageError, match="leave one norm out"):
        mark_quantized(model, [])


def test_a_packed_model_is_not_searched_for_sites_again() -> None:
    for name in ("Gemma2", "OPT"):
        model = tiny(name)
        pack(model, EVERYTHING)
        assert [site.role for site in find_sites(model)] == ["norm"]
        packed = [m for m in model.modules() if isinstance(m, PackedModule)]
        assert repr(model).count("QuantNorm(out=1, in=32, Affine") > 2
        assert len([s for s in inspect(model).sites if s.method != "none"]) == len(packed)
