"""Batched writing: each row by its own seed, the same whatever shares its batch."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from quantale.core.errors import DataError
from quantale.models.build import build_model
from quantale.models.load import LoadedModel
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.stages.batches import BatchSettings, Request, budget, continue_prompts
from quantale.stages.draws import Sampling, SeededDraws
from quantale.stages.generate import continue_prompt

WORDS = ["<|endoftext|>", "<unk>", *(f"w{index}" for index in range(18))]
CONTEXT = 32
REQUESTS = [
    Request(" ".join(f"w{(i + j) % 18}" for j in range(1 + i % 5)), f"p{i}/0") for i in range(10)
]


def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
    )


@pytest.fixture(scope="module", params=["gpt2", "nanogpt"])
def loaded(request: pytest.FixtureRequest) -> LoadedModel:
    shape = {"vocab_size": len(WORDS), "n_positions": CONTEXT, "n_embd": 32, "n_layer": 2,
             "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if request.param == "gpt2":
            model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.3))
        else:
            model = build_model(NanoGPTConfig(**shape), seed=0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(6 if parameter.dim() == 2 else 1)
    return LoadedModel(model.eval(), tokenizer(), Path())


def settings(batch_size: int = 4, seed: int = 0, temperature: float = 1.0) -> BatchSettings:
    return BatchSettings(12, Sampling(temperature, None), batch_size, seed)


def test_the_batch_size_and_the_neighbours_change_no_text(loaded: LoadedModel) -> None:
    whole = continue_prompts(loaded, REQUESTS, settings(10))
    assert continue_prompts(loaded, REQUESTS, settings(1)) == whole
    assert continue_prompts(loaded, REQUESTS[::-1], settings(3)) == whole[::-1]


def test_greedy_rows_are_those_of_one_prompt_at_a_time(loaded: LoadedModel) -> None:
    found = continue_prompts(loaded, REQUESTS, settings(5, temperature=0.0))
    for request, written in zip(REQUESTS, found, strict=True):
        alone = continue_prompt(
            loaded, request.prompt, max_new_tokens=12, temperature=0.0, top_k=None, seed=0
        )
        assert alone["text"] == request.prompt + written.text
        assert (alone["new_tokens"], alone["stopped"] == "eos") == (written.tokens, written.ended)


def test_other_seeds_and_other_keys_give_other_texts_and_the_random_state_stays(
    loaded: LoadedModel,
) -> None:
    before = torch.get_rng_state()
    one, other = (continue_prompts(loaded, REQUESTS, settings(seed=s)) for s in (0, 1))
    again = [Request(REQUESTS[0].prompt, f"p/{draw}") for draw in range(6)]
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 3
    assert len({written.text for written in continue_prompts(loaded, again, settings())}) > 3
    assert torch.equal(before, torch.get_rng_state())


def test_the_budget_is_what_the_longest_prompt_leaves(loaded: LoadedModel) -> None:
    short, long = "w1 w2", " ".join(["w1"] * 20)
    assert budget(loaded, [short], 5) == 5
    assert budget(loaded, [short, long], 100) == CONTEXT - 21
    with pytest.raises(DataError, match="leaves room for 1"):
        budget(loaded, [" ".join(["w1"] * 30)], 100)


def test_draws_follow_the_softmax_of_the_warped_logits() -> None:
    scores = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).repeat(4000, 1)
    for sampling, kept in ((Sampling(1.0, None), 4), (Sampling(0.5, 2), 2)):
        draws = SeededDraws(sampling, range(4000))
        counted = Counter(draws(torch.zeros(4000, 1), scores).argmax(dim=1).tolist())
        wanted = (scores[0, :kept] / sampling.temperature).softmax(dim=0).tolist()
        assert set(counted) == set(range(kept))
        for token, share in enumerate(wanted):
            spread = (share * (1 - share) / 4000) ** 0.5
            assert abs(counted[token] / 4000 - share) < 4 * spread
