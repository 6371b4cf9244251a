"""Oracles of the protocols that join texts: the published recipes, written again here.

Each recipe takes a model and the tokens of a text, one window at a time, no batches, no padding,
and returns what it calls perplexity. On real text a Llama of 260K parameters gets a context of
1,024, twice its own: its positions are rotary, and the arithmetic is what is tested.
"""

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from shared_data import SHARED, STORIES260K
from tiny_models import tiny_gpt2, tiny_llama, tiny_nanogpt
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.data.tokenizers import train_characters
from quantale.evaluation.language import LanguageScores, LanguageSettings, score
from quantale.evaluation.summary import measurements

WIKI = SHARED / "wikitext2" / "wiki.valid.raw"
needs_wiki = pytest.mark.skipif(
    not (STORIES260K.is_dir() and WIKI.is_file()),
    reason="needs ../shared/data with stories260K and wikitext2",
)


@torch.inference_mode()
def sliding_window(model: Any, ids: Tensor, context: int, step: int) -> tuple[float, float]:
    """Hugging Face's recipe; returns its perplexity, and the one that weighs tokens alike.

    ids: (1, tokens). The recipe weighs a window's mean loss by one token less than the window's
    labels; the mean itself is over all labels, but for the first window, whose first has none.
    """
    published = weights = total = count = 0.0
    reached = 0
    for begin in range(0, ids.shape[1], step):
        end = min(begin + context, ids.shape[1])
        window = ids[:, begin:end]
        labels = window.clone()
        labels[:, : -(end - reached)] = -100
        scored = int((labels[:, 1:] != -100).sum())
        if scored:
            loss = float(model(input_ids=window, labels=labels).loss.double())
            valid = int((labels != -100).sum()) - 1
            published, weights = published + loss * valid, weights + valid
            total, count = total + loss * scored, count + scored
        reached = end
        if end == ids.shape[1]:
            break
    return math.exp(published / weights), math.exp(total / count)


@torch.inference_mode()
def disjoint_blocks(model: Any, ids: Tensor, length: int) -> float:
    """The loop of GPTQ's code: mean loss of each block times its length, over all lengths."""
    blocks = ids.shape[1] // length
    sums = 0.0
    for i in range(blocks):
        block = ids[:, i * length : (i + 1) * length]
        logits = model(input_ids=block).logits
        loss = cross_entropy(logits[0, :-1].double(), block[0, 1:])
        sums += float(loss) * length
    return math.exp(sums / (blocks * length))


@torch.inference_mode()
def second_halves(model: Any, ids: Tensor, length: int, bos: int | None) -> float:
    """The loop of llama.cpp: chunks, BOS in place of their first token, the later half scored."""
    first = length // 2
    nll, count = 0.0, 0
    for start in range(0, ids.shape[1] - length + 1, length):
        chunk = ids[:, start : start + length].clone()
        own = chunk.clone()
        if bos is not None:
            chunk[0, 0] = bos
        log_probs = model(input_ids=chunk).logits[0].double().log_softmax(dim=1)
        for position in range(first, length - 1):
            nll -= float(log_probs[position, own[0, position + 1]])
            count += 1
    return math.exp(nll / count)


@dataclass(frozen=True)
class Case:
    model: Any
    tokenizer: Any
    documents: Documents
    text: str
    """What is tokenized as a whole."""

    def ids(self, special: bool) -> Tensor:
        given = self.tokenizer(self.text, add_special_tokens=special, verbose=False)
        return torch.tensor([given["input_ids"]])

    def perplexity(self, protocol: str) -> float:
        settings = LanguageSettings(protocol=protocol, batch_size=3)
        found = score({"m": self.model}, self.tokenizer, self.documents, settings)
        return perplexity_of(found)


def perplexity_of(found: LanguageScores) -> float:
    (value,) = (
        one.value
        for one in measurements(found.documents, found.protocol)
        if one.metric == "perplexity"
    )
    return value


def builtin(kind: str) -> Case:
    documents = load_documents("storygen[test][:2]")
    tokenizer = train_characters(documents.texts)
    model = {"GPT2": tiny_gpt2, "Llama": tiny_llama, "nanoGPT": tiny_nanogpt}[kind]()
    return Case(model, tokenizer, documents, "\n\n".join(documents.texts))


@pytest.fixture(scope="module", params=["GPT2", "Llama", "nanoGPT"])
def case(request: pytest.FixtureRequest) -> Case:
    return builtin(request.param)


@pytest.mark.parametrize("step", [16, 37, 64])
def test_stride_is_the_recipe_of_hugging_face_on_built_in_text(case: Case, step: int) -> None:
    published, alike = sliding_window(case.model, case.ids(True), 64, step)
    found = case.perplexity(f"stride:{step}")
    assert found == pytest.approx(alike, rel=2e-6)
    assert found == pytest.approx(published, rel=5e-3)


@pytest.mark.parametrize("length", [16, 33, 64])
def test_blocks_are_the_loop_of_gptq_on_built_in_text(case: Case, length: int) -> None:
    expected = disjoint_blocks(case.model, case.ids(False), length)
    assert case.perplexity(f"blocks:{length}") == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("length", [16, 33, 64])
def test_llamacpp_is_the_loop_of_llama_cpp_on_built_in_text(case: Case, length: int) -> None:
    expected = second_halves(case.model, case.ids(False), length, None)
    assert case.perplexity(f"llamacpp:{length}") == pytest.approx(expected, rel=2e-6)


def real(characters: int | None) -> Case:
    model = AutoModelForCausalLM.from_pretrained(
        STORIES260K, dtype=torch.float32, max_position_embeddings=1024
    ).eval()
    whole = load_documents(str(WIKI))
    text = whole.texts[0][:characters]
    items = [type(whole.items[0])(text, WIKI.name)]
    documents = Documents.collect(items, whole.source, whole.split)
    return Case(model, AutoTokenizer.from_pretrained(STORIES260K), documents, text)


@pytest.fixture(scope="module")
def beginning() -> Case:
    return real(25_000)


@needs_wiki
def test_stride_512_is_the_recipe_of_hugging_face_on_wikitext(beginning: Case) -> None:
    published, alike = sliding_window(beginning.model, beginning.ids(True), 1024, 512)
    found = beginning.perplexity("stride:512")
    assert found == pytest.approx(alike, rel=1e-5)
    assert found == pytest.approx(published, rel=1e-4)


@needs_wiki
def test_blocks_1024_are_the_loop_of_gptq_on_wikitext(beginning: Case) -> None:
    expected = disjoint_blocks(beginning.model, beginning.ids(False), 1024)
    assert beginning.perplexity("blocks:1024") == pytest.approx(expected, rel=1e-5)


@needs_wiki
def test_llamacpp_512_is_the_loop_of_llama_cpp_on_wikitext(beginning: Case) -> None:
    ids = beginning.ids(True)
    assert int(ids[0, 0]) == beginning.tokenizer.bos_token_id
    expected = second_halves(beginning.model, ids, 512, beginning.tokenizer.bos_token_id)
    assert beginning.perplexity("llamacpp:512") == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@needs_wiki
def test_the_whole_of_wikitexts_validation_text_agrees_with_both_recipes() -> None:
    case = real(None)
    published, alike = sliding_window(case.model, case.ids(True), 1024, 512)
    found = case.perplexity("stride:512")
    assert found == pytest.approx(alike, rel=1e-5)
    assert found == pytest.approx(published, rel=1e-4)
    expected = disjoint_blocks(case.model, case.ids(False), 1024)
    assert case.perplexity("blocks:1024") == pytest.approx(expected, rel=1e-5)
