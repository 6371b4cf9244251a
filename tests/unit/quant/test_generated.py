"""Text that a model writes itself: its own distribution, seeded, the same bytes twice."""

from collections.abc import Callable

import pytest
import torch
from tiny_models import (
    CONTEXT,
    VOCABULARY,
    tiny_classifier,
    tiny_family,
    tiny_gpt2,
    tiny_llama,
    tiny_nanogpt,
)
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from quantale.core.errors import UsageError
from quantale.quant import generated
from quantale.quant.generated import generate_windows

MAKERS: list[Callable[[], PreTrainedModel]] = [tiny_gpt2, tiny_llama, tiny_nanogpt]


@pytest.mark.parametrize("make", MAKERS)
def test_windows_have_their_shape_begin_with_bos_and_depend_on_the_seed(
    make: Callable[[], PreTrainedModel],
) -> None:
    model = make()
    first = generate_windows(model, 5, CONTEXT, 3)
    assert first.shape == (5, CONTEXT)
    assert first.dtype == torch.int64
    assert int(first.min()) >= 0
    assert int(first.max()) < VOCABULARY
    assert (first[:, 0] == model.config.bos_token_id).all()
    assert torch.equal(first, generate_windows(model, 5, CONTEXT, 3))
    assert not torch.equal(first, generate_windows(model, 5, CONTEXT, 4))
    assert not torch.equal(first[0], first[1])


def test_the_global_random_state_and_the_mode_are_left_as_they_were() -> None:
    model = tiny_gpt2().train()
    before = torch.random.get_rng_state()
    generate_windows(model, 2, 8, 0)
    assert torch.equal(before, torch.random.get_rng_state())
    assert model.training


def test_tokens_are_drawn_as_the_model_without_a_cache_says() -> None:
    """Frequencies of second and third tokens against the probabilities of plain forward passes."""
    model = tiny_gpt2()
    count = 20_000
    windows = generate_windows(model, count, 3, 0)
    with torch.no_grad():
        second = model(windows[:1, :1]).logits[0, -1].softmax(-1)
        all_pairs = torch.stack(
            [torch.zeros(VOCABULARY, dtype=torch.long), torch.arange(VOCABULARY)]
        )
        third = second @ model(all_pairs.t()).logits[:, -1].softmax(-1)
    for position, expected in ((1, second), (2, third)):
        found = torch.bincount(windows[:, position], minlength=VOCABULARY) / count
        distance = float((found - expected).abs().sum()) / 2
        assert distance < 0.5 * (VOCABULARY / count) ** 0.5  # its mean is below 0.4 of that


def test_windows_written_in_parts_are_full_too(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = generate_windows(tiny_llama(), 6, 16, 0)
    monkeypatch.setattr(generated, "_CACHE_BYTES", 1)
    parts = generate_windows(tiny_llama(), 6, 16, 0)
    assert parts.shape == whole.shape
    assert torch.equal(parts, generate_windows(tiny_llama(), 6, 16, 0))


@pytest.mark.parametrize("begin", [None, VOCABULARY])
def test_a_model_without_a_usable_bos_begins_anywhere(begin: int | None) -> None:
    model = tiny_llama()
    model.config.bos_token_id = begin
    first = generate_windows(model, 200, 2, 0)[:, 0]
    assert len(set(first.tolist())) > VOCABULARY / 2


def test_a_document_that_ends_is_followed_by_the_next() -> None:
    model = tiny_llama()
    model.config.bos_token_id, model.config.eos_token_id = 1, [2, 3]
    windows = generate_windows(model, 40, CONTEXT, 0)
    ended = torch.isin(windows[:, :-1], torch.tensor([2, 3]))
    assert ended.sum() > 5
    assert (windows[:, 1:][ended] == 1).all()


@pytest.mark.parametrize("family", ["Gemma2", "Gemma3Text", "Qwen3", "OPT", "GPTNeoX"])
def test_other_families_write_too_and_the_cache_with_room_changes_nothing(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sliding windows are among them."""
    model = tiny_family(family)
    windows = generate_windows(model, 3, 24, 0)
    monkeypatch.setattr(
        generated, "_cache", lambda model, length: DynamicCache(config=model.config)
    )
    assert torch.equal(windows, generate_windows(model, 3, 24, 0))


def test_a_token_of_no_chance_is_never_drawn() -> None:
    chances = torch.tensor([[0.0, 0.5, 0.0, 0.5, 0.0]]).repeat(2000, 1)
    drawn = generated._draw(chances, torch.Generator().manual_seed(0))
    assert drawn.shape == (2000, 1)
    assert set(drawn.flatten().tolist()) == {1, 3}


def test_a_model_without_a_language_head_says_that_it_needs_data() -> None:
    with pytest.raises(UsageError, match="give calibration data"):
        generate_windows(tiny_classifier("GPT2"), 2, 8, 0)
