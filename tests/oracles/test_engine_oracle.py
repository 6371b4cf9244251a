"""The engine writes what transformers' `generate` writes, and its cache changes no logits."""

import copy
from typing import Any

import pytest
import torch
from serving import loaded, requests, tokens_of
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from tiny_models import FAMILIES, VOCABULARY, tiny_family, tiny_gpt2, tiny_llama, tiny_nanogpt
from transformers import PreTrainedModel

from quantale import methods
from quantale.inference.engine import Engine
from quantale.inference.network import Network
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.models.load import load
from quantale.quant.whole import Methods, quantize_model

MODELS = {"gpt2": tiny_gpt2, "llama": tiny_llama, "nanogpt": tiny_nanogpt}
NEAR = 1e-4


def by_generate(model: PreTrainedModel, request: Request) -> list[int]:
    ids = torch.tensor([request.tokens])
    mask, count = torch.ones_like(ids), request.max_new_tokens
    with torch.inference_mode():
        found = model.generate(
            ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0
        )
    tokens: list[int] = found[0, ids.shape[1] :].tolist()
    return tokens


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("name", MODELS)
def test_greedy_texts_are_those_of_generate(name: str) -> None:
    model = MODELS[name]()
    greedy = [one for one in requests(24, new_tokens=30) if one.sampling.is_greedy]
    with Engine(loaded(model), slots=4, queue=20) as engine:
        streams = [engine.submit(request) for request in greedy]
        found = [[piece.token for piece in stream] for stream in streams]
    assert found == [by_generate(model, request) for request in greedy]


@needs_shared
def test_a_real_llama_writes_what_generate_writes() -> None:
    real = load(STORIES260K)
    stories = (TINYSTORIES / "valid.txt").read_text(encoding="utf-8").split("<|endoftext|>")[:6]
    prompts = [real.tokenizer.encode(story.strip()[:80]) for story in stories]
    with Engine(real, slots=4, queue=10) as engine:
        asked = [Request(tuple(prompt), Sampling(0.0), 60) for prompt in prompts]
        streams = [engine.submit(request) for request in asked]
        found = [[piece.token for piece in stream] for stream in streams]
    for request, tokens in zip(asked, found, strict=True):
        assert tokens == by_generate(real.model, request)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_of_the_cache_are_those_of_a_plain_pass(family: str) -> None:
    """Rows of unlike length, read in parts and stepped together, the windows of some sliding."""
    model = tiny_family(family)
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in (5, 33, 50)]
    with torch.inference_mode():
        network = Network(model, slots=3, context=64)
        for slot, text in enumerate(texts):
            network.forward(slot, [text[:2]], [0])
            network.forward(slot, [text[2:-1]], [2])
        starts = [len(text) - 1 for text in texts]
        found = network.forward(0, [text[-1:] for text in texts], starts)[:, -1]
        for row, text in zip(found, texts, strict=True):
            plain = model(torch.tensor([text]), use_cache=False).logits[0, -1]
            assert float((row - plain).abs().max()) < 2e-4 * float(plain.abs().max())


@pytest.mark.parametrize("family", ["Llama", "Gemma2", "Mistral"])
def test_texts_of_a_family_do_not_depend_on_neighbours(family: str) -> None:
    asked = requests(8, new_tokens=12)
    with Engine(loaded(tiny_family(family)), slots=4, queue=10) as engine:
        alone = [tokens_of(engine, request) for request in asked]
        streams = [engine.submit(request) for request in asked]
        assert [[piece.token for piece in stream] for stream in streams] == alone


@pytest.mark.parametrize("method", [methods.Rtn(bits=8), methods.Rtn(bits=4, group_size=32)])
@pytest.mark.parametrize("fast", [False, True], ids=["exact", "fast"])
def test_quantized_models_are_decoded_the_same(method: Any, fast: bool) -> None:
    model = copy.deepcopy(tiny_llama())
    quantize_model(model, Methods(method))
    asked = requests(8, new_tokens=12)
    with Engine(loaded(model), slots=4, queue=10, fast=fast) as engine:
        alone = [tokens_of(engine, request) for request in asked]
        streams = [engine.submit(request) for request in asked]
        assert [[piece.token for piece in stream] for stream in streams] == alone
    if not fast:
        greedy = [request for request in asked if request.sampling.is_greedy]
        assert alone[::2] == [by_generate(model, request) for request in greedy]
