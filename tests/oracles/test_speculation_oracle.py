"""With a draft, a model writes what it writes alone, except where two tokens are nearly even."""

import pytest
import torch
from serving import ascii_tokenizer, loaded, requests, tiny_chat, tokens_of
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from tiny_models import spread, tiny_gpt2, tiny_llama, tiny_nanogpt
from transformers import PreTrainedModel

from quantale import methods
from quantale.core.errors import UsageError
from quantale.inference.engine import Engine
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.inference.speculative import NEAR, Draft
from quantale.models.load import LoadedModel, load
from quantale.quant.whole import Methods, quantize_model


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def gap(model: PreTrainedModel, tokens: list[int]) -> float:
    """How far the two best next tokens are apart, by a pass without a cache."""
    with torch.inference_mode():
        best = model(torch.tensor([tokens])).logits[0, -1].float().topk(2).values
    return float(best[0] - best[1])


def check(model: LoadedModel, asked: list[Request], draft: Draft) -> Engine:
    """Compare token by token; a first difference must be a near-tie. Return the closed engine."""
    with Engine(model, slots=3, queue=40) as plain:
        expected = [tokens_of(plain, request) for request in asked]
    with Engine(model, slots=3, queue=40, draft=draft) as engine:
        streams = [engine.submit(request) for request in asked]
        found = [[piece.token for piece in stream] for stream in streams]
    for request, mine, theirs in zip(asked, found, expected, strict=True):
        if mine == theirs:
            continue
        assert request.sampling.is_greedy
        place = next(
            i for i, pair in enumerate(zip(mine, theirs, strict=False)) if len({*pair}) > 1
        )
        assert gap(model.model, [*request.tokens, *mine[:place]]) < NEAR
    return engine


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_llama, tiny_nanogpt])
@pytest.mark.parametrize("ahead", [1, 4])
def test_any_draft_changes_no_text(make: object, ahead: int) -> None:
    one = loaded(make())  # type: ignore[operator]
    engine = check(one, requests(12, new_tokens=25), Draft(loaded(tiny_nanogpt()), ahead))
    tally = engine.tally
    assert tally is not None
    assert tally.passes > 0
    assert tally.accepted <= tally.guessed


def test_the_model_as_its_own_draft_is_always_right() -> None:
    one = loaded(tiny_nanogpt())
    tally = check(one, requests(6, new_tokens=25), Draft(loaded(tiny_nanogpt()))).tally
    assert tally is not None
    assert tally.accepted > 0.95 * 6 * 25 * 4 / 5


def test_texts_end_at_the_context_and_at_stop_texts() -> None:
    one, draft = loaded(tiny_nanogpt()), Draft(loaded(tiny_nanogpt()))
    asked = [Request((5,) * size, Sampling(1.0, seed=size), 60) for size in (1, 40, 58, 63)]
    asked.append(Request((5, 6), Sampling(1.0, seed=9), 40, ("e", "x")))
    check(one, asked, draft)


@needs_shared
def test_a_real_model_and_its_four_bit_draft_write_the_same() -> None:
    real, small = load(STORIES260K), load(STORIES260K)
    quantize_model(small.model, Methods(methods.Rtn(bits=4, group_size=32)))
    stories = (TINYSTORIES / "valid.txt").read_text(encoding="utf-8").split("<|endoftext|>")[:8]
    prompts = [tuple(real.tokenizer.encode(story.strip()[:60])) for story in stories]
    asked = [
        Request(prompt, Sampling(0.8 * (number % 2), seed=number), 60)
        for number, prompt in enumerate(prompts)
    ]
    tally = check(real, asked, Draft(small)).tally
    assert tally is not None
    assert tally.accepted / tally.guessed > 0.5


def test_a_draft_of_another_tokenizer_is_refused() -> None:
    with pytest.raises(UsageError, match="tokenizer"):
        Engine(loaded(tiny_nanogpt()), draft=Draft(tiny_chat()))


def test_a_draft_of_another_vocabulary_size_is_refused() -> None:
    other = spread(tiny_gpt2())
    other.resize_token_embeddings(128)
    with pytest.raises(UsageError, match="ranks 128"):
        Engine(loaded(tiny_nanogpt()), draft=Draft(loaded(other, ascii_tokenizer())))
