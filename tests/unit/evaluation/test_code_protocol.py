"""The protocol `code`: both parts add up to `document`, and each part hears of its own damage."""

import json
import random

import numpy as np
import pytest
import torch
from shared_data import SHARED, needs_shared
from transformers import GPT2Config, GPT2LMHeadModel

from quantale.data.documents import Document, Documents
from quantale.data.tokenizers import load_tokenizer, train_bpe
from quantale.evaluation import language
from quantale.evaluation.code_parts import part_measurements
from quantale.evaluation.functions import docstring_span
from quantale.evaluation.language import LanguageSettings
from quantale.evaluation.protocols.code import Code, token_classes
from quantale.evaluation.protocols.document import Document as DocumentProtocol
from quantale.evaluation.scores import DocumentScore
from quantale.evaluation.stats import Bootstrap
from quantale.evaluation.windows import Limits, encode

TEXTS = [
    'def f(x):\n    """Add one to é€ and return it, whatever it is."""\n    return x + 1\n',
    "def g(y):\n    return [y for y in range(10)]\n",
    'def h():\n    """Nothing."""\n',
    "no python at all (",
]


def documents(texts: list[str]) -> Documents:
    items = [Document(text, f"d{index}") for index, text in enumerate(texts)]
    return Documents.collect(items, "test", "all")


@pytest.fixture(scope="module")
def tokenizer() -> object:
    return train_bpe(TEXTS * 3, 300)


def make_model(vocabulary: int, seed: int) -> GPT2LMHeadModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPT2Config(vocab_size=vocabulary, n_positions=24, n_embd=32, n_layer=1, n_head=2,
                            initializer_range=0.3)  # fmt: skip
        return GPT2LMHeadModel(config).eval()


def test_tokens_belong_where_most_of_their_bytes_are(tokenizer: object) -> None:
    for one in encode(tokenizer, documents(TEXTS)):
        classes = token_classes(one)
        span = docstring_span(one.text)
        if span is None:
            assert not classes.any()
            continue
        assert (np.abs(np.diff(classes)) == 1).sum() == 2
        sizes = one.bytes_between(0, len(one.tokens))
        marked = np.flatnonzero(classes)
        inside = one.bytes_between(int(marked[0]), int(marked[-1]) + 1)
        assert abs(inside - (span.end - span.begin)) <= 4 < sizes


@pytest.mark.parametrize("bos", [None, 0])
def test_every_token_is_scored_once_in_one_of_the_parts(tokenizer: object, bos: int | None) -> None:
    limits = Limits(bos=bos, context=24)
    encoded = encode(tokenizer, documents(TEXTS))
    plan, whole = Code().plan(encoded, limits), DocumentProtocol().plan(encoded, limits)
    for unit in whole.units:
        parts = [one for one in plan.units if one.id.startswith(f"{unit.id}#")]
        assert sum(one.tokens for one in parts) == unit.tokens
        assert sum(one.bytes for one in parts) == unit.bytes
    assert [unit.id for unit in plan.units] == [
        "d0#code", "d0#docstring", "d1#code", "d2#code", "d2#docstring", "d3#code"
    ]  # fmt: skip
    scored = [sum(w.scored for w in plan.windows if w.unit == i) for i in range(len(plan.units))]
    assert scored == [unit.tokens for unit in plan.units]
    assert all(0 < w.first < len(w.tokens) <= 24 for w in plan.windows)
    assert Code().fingerprint(limits) == f"code(bos={int(bos is not None)},context=24,stride=12)"


def test_both_parts_add_up_to_the_document_protocol(tokenizer: object) -> None:
    models = {"m": make_model(300, 0)}
    found = {
        name: language.score(models, tokenizer, documents(TEXTS), LanguageSettings(name))
        for name in ("code", "document")
    }
    for whole in found["document"].documents:
        parts = [
            one for one in found["code"].documents if one.document.startswith(f"{whole.document}#")
        ]
        assert sum(one.nll for one in parts) == pytest.approx(whole.nll, rel=1e-5)


def scores(model: str, code: float, docstring: float) -> list[DocumentScore]:
    rng = random.Random(0)
    noise = [rng.uniform(-0.1, 0.1) for _ in range(60)]
    return [
        DocumentScore(model, f"d{i}#{part}", (nll + shift) * 10, 10, 40)
        for i, shift in enumerate(noise)
        for part, nll in (("code", code), ("docstring", docstring))
    ]


def test_a_model_worse_in_one_part_is_worse_there_only() -> None:
    rows = [*scores("base", 1.0, 2.0), *scores("bad", 1.0, 2.2)]
    found = {
        (one.model, one.metric): one
        for one in part_measurements(rows, "base", "code()", Bootstrap(1000))
    }
    shift = sum(one.nll for one in scores("base", 1.0, 2.0)[::2]) / 600
    assert found["base", "perplexity_code"].value == pytest.approx(np.exp(shift))
    assert found["bad", "perplexity_docstring"].extra["to_base"] == pytest.approx(np.expm1(0.2))
    assert found["bad", "perplexity_docstring"].extra["to_base_p_holm"] < 0.01  # type: ignore[operator]
    assert found["bad", "perplexity_code"].extra["to_base"] == pytest.approx(0, abs=1e-12)
    assert found["bad", "bits_per_byte_docstring"].value > 0


@needs_shared
def test_a_docstring_of_a_real_function_has_the_tokens_of_its_literal() -> None:
    """With GPT-2's tokenizer, which may join the quotes with what stands beside them."""
    gpt2 = load_tokenizer(SHARED / "tokenizers" / "gpt2")
    lines = (SHARED / "code_search_net" / "valid.jsonl").read_text().splitlines()[:60]
    texts = [json.loads(line)["func_code_string"] for line in lines]
    for one in encode(gpt2, documents(texts)):
        span = docstring_span(one.text)
        if span is None:
            continue
        literal = one.text.encode()[span.begin : span.end].decode()
        alone = len(gpt2(literal)["input_ids"])
        assert abs(int(token_classes(one).sum()) - alone) <= 3
