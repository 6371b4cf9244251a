"""Streams of documents and the windows drawn from them."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from quantale.core.errors import DataError
from quantale.data.load import load_documents
from quantale.data.tokenizers import train_bpe, train_characters
from quantale.data.windows import (
    Align,
    TokenStream,
    WindowSampler,
    calibration_windows,
    encode_documents,
    encode_enough,
)

TEXTS = load_documents("storygen", limit=20).texts
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=25)


def stream_of(lengths: list[int]) -> TokenStream:
    """Tokens that are their own positions, so that a window shows where it came from."""
    ends = np.cumsum(lengths)
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    return TokenStream(np.arange(ends[-1], dtype=np.uint32), starts, 0)


def one_epoch(sampler: WindowSampler, epoch: int = 0) -> torch.Tensor:
    """All windows of an epoch; the sampler must have a batch size of 1."""
    count = sampler.windows_per_epoch
    return torch.cat([sampler.batch(step) for step in range(epoch * count, (epoch + 1) * count)])


@given(LENGTHS, st.integers(1, 12), st.integers(0, 3), st.integers(0, 5))
def test_an_epoch_of_a_stream_has_no_target_twice_and_leaves_less_than_a_window(
    lengths: list[int], context: int, epoch: int, seed: int
) -> None:
    stream = stream_of(lengths)
    if len(stream) <= context:
        return
    windows = one_epoch(WindowSampler(stream, context, 1, seed), epoch)
    targets = Counter(windows[:, 1:].flatten().tolist())
    assert max(targets.values()) == 1
    assert len(stream) - len(targets) == len(stream) % context < context
    assert torch.equal(windows[:, 1:], (windows[:, :-1] + 1) % len(stream))


@given(LENGTHS, st.integers(1, 12), st.integers(0, 5))
def test_an_epoch_of_documents_covers_each_of_them_and_starts_at_boundaries(
    lengths: list[int], context: int, seed: int
) -> None:
    stream = stream_of(lengths)
    if len(stream) <= context:
        return
    windows = one_epoch(WindowSampler(stream, context, 1, seed, align="document"))
    starts, boundaries = windows[:, 0].tolist(), set(stream.starts.tolist())
    assert set(range(len(stream))) - set(windows[:, 1:].flatten().tolist()) <= boundaries
    for start in set(starts) - boundaries:
        assert start - context in starts, "only a long document goes on in a further window"
    for begin, length in zip(stream.starts.tolist(), lengths, strict=True):
        if length <= context:
            assert any(s <= begin and begin + length <= s + context for s in starts)
    assert torch.equal(windows[:, 1:], (windows[:, :-1] + 1) % len(stream))


@given(LENGTHS, st.integers(1, 9), st.integers(1, 50), st.integers(0, 40))
@settings(max_examples=60)
def test_a_batch_is_a_function_of_seed_and_step(
    lengths: list[int], context: int, batch_size: int, step: int
) -> None:
    stream = stream_of(lengths)
    if len(stream) <= context:
        return
    for align in ("stream", "document"):
        used = WindowSampler(stream, context, batch_size, 7, align=align)
        for earlier in (0, step + 3, step // 2):
            used.batch(earlier)
        fresh = WindowSampler(stream, context, batch_size, 7, align=align)
        assert torch.equal(used.batch(step), fresh.batch(step))
        assert used.batch(step).shape == (batch_size, context + 1)


@pytest.mark.parametrize("align", ["stream", "document"])
def test_batches_do_not_depend_on_the_batch_size(align: Align) -> None:
    stream = stream_of([9, 4, 17, 2, 30])
    single = WindowSampler(stream, 8, 1, 3, align=align)
    many = WindowSampler(stream, 8, 5, 3, align=align)
    expected = torch.cat([single.batch(step) for step in range(40)])
    assert torch.equal(torch.cat([many.batch(step) for step in range(8)]), expected)


def test_epochs_and_seeds_differ_in_order_and_phase() -> None:
    stream = stream_of([50] * 10)
    sampler = WindowSampler(stream, 20, 1, 0)
    first, second = one_epoch(sampler, 0), one_epoch(sampler, 1)
    assert set(first[:, 0].tolist()) != set(second[:, 0].tolist())
    assert not torch.equal(first, one_epoch(WindowSampler(stream, 20, 1, 1), 0))


def test_windows_are_long_tensors() -> None:
    assert WindowSampler(stream_of([30]), 4, 2, 0).batch(0).dtype == torch.int64


@pytest.mark.parametrize("align", ["stream", "document"])
def test_a_stream_shorter_than_a_window_says_what_is_there_and_needed(align: Align) -> None:
    with pytest.raises(DataError, match=r"there are 10 tokens.*context 10 needs 11"):
        WindowSampler(stream_of([10]), 10, 1, 0, align=align)


@given(LENGTHS, st.integers(1, 4), st.integers(1, 12), st.integers(0, 9))
def test_calibration_windows_are_disjoint_or_too_few_tokens_is_an_error(
    lengths: list[int], samples: int, length: int, seed: int
) -> None:
    stream = stream_of(lengths)
    if len(stream) < samples * length:
        message = f"= {samples * length} tokens, there are {len(stream)}"
        with pytest.raises(DataError, match=message):
            calibration_windows(stream, samples, length, seed)
        return
    windows = calibration_windows(stream, samples, length, seed)
    assert windows.shape == (samples, length)
    assert len(set(windows.flatten().tolist())) == samples * length
    assert torch.equal(windows[:, 1:], windows[:, :-1] + 1)
    assert torch.equal(windows, calibration_windows(stream, samples, length, seed))


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_every_document_follows_one_boundary_and_decodes_to_itself(kind: str) -> None:
    tokenizer = train_characters(TEXTS) if kind == "characters" else train_bpe(TEXTS, 300)
    stream = encode_documents(tokenizer, TEXTS)
    assert stream.tokens.dtype == np.uint32
    assert (stream.tokens == tokenizer.bos_token_id).nonzero()[0].tolist() == stream.starts.tolist()
    pieces = np.split(stream.tokens, stream.starts[1:])
    assert [tokenizer.decode(piece[1:].tolist()) for piece in pieces] == TEXTS
    assert stream.unknown == 0


def test_unknown_characters_are_counted() -> None:
    tokenizer = train_characters(["abc"])
    assert encode_documents(tokenizer, ["axbx", "<|endoftext|>"]).unknown == 2 + 13


def test_a_text_that_spells_the_boundary_does_not_make_one() -> None:
    for tokenizer in (train_characters(["<|endoftext|>"]), train_bpe(["<|endoftext|>"], 260)):
        stream = encode_documents(tokenizer, ["a<|endoftext|>", "<|endoftext|>"])
        assert (stream.tokens == tokenizer.bos_token_id).sum() == 2


def test_no_documents_and_no_boundary_are_data_errors() -> None:
    tokenizer = train_bpe(["ab"], 260)
    with pytest.raises(DataError, match="no documents"):
        encode_documents(tokenizer, [])
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(DataError, match="neither a BOS nor an EOS"):
        encode_documents(bare, ["ab"])


def test_only_as_many_documents_are_encoded_as_are_needed() -> None:
    texts = [f"story {i} " * 5 for i in range(500)]
    tokenizer = train_characters(texts)
    whole = encode_documents(tokenizer, texts)
    some = encode_enough(tokenizer, texts, 1000, seed=3)
    assert 1000 <= len(some) < len(whole) // 5
    assert (some.tokens[some.starts] == tokenizer.bos_token_id).all()
    assert (some.tokens == tokenizer.bos_token_id).sum() == len(some.starts)
    again = encode_enough(tokenizer, texts, 1000, seed=3)
    assert np.array_equal(some.tokens, again.tokens)
    other = encode_enough(tokenizer, texts, 1000, seed=4)
    assert not np.array_equal(some.tokens[:200], other.tokens[:200])
    assert len(encode_enough(tokenizer, texts, 10**9, seed=3)) == len(whole)
