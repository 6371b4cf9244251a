"""The engine: rows join and leave, places are bounded, nothing is left waiting."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from serving import GREEDY, ascii_tokenizer, loaded, requests, tokens_of
from tiny_models import CONTEXT, spread, tiny_gpt2, tiny_llama, tiny_nanogpt
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

from quantale.core.errors import DataError, ModelFileError, NumericalError, UsageError
from quantale.inference.engine import Engine
from quantale.inference.request import QueueFull, Request
from quantale.inference.sampling import Sampling
from quantale.models.load import LoadedModel

ENDLESS = Request((5, 6, 7), Sampling(1.0, seed=3), 50)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    torch.set_num_threads(1)
    with Engine(loaded(tiny_nanogpt()), slots=4, queue=40, name="tiny") as made:
        yield made


@pytest.fixture
def slow() -> Iterator[Engine]:
    """An engine that takes its time, with one slot and two places."""
    model = tiny_gpt2()
    model.register_forward_pre_hook(lambda *_: time.sleep(0.02))
    with Engine(loaded(model), slots=1, queue=2) as made:
        yield made


def test_a_text_does_not_depend_on_its_neighbours(engine: Engine) -> None:
    asked = requests(16)
    alone = [tokens_of(engine, request) for request in asked]
    streams = [engine.submit(request) for request in asked]
    assert [[piece.token for piece in stream] for stream in streams] == alone
    assert len({tuple(tokens) for tokens in alone}) > 12


def test_an_ending_counts_and_times_are_there(engine: Engine) -> None:
    stream = engine.submit(ENDLESS)
    pieces = list(stream)
    ending = stream.ending
    assert (ending.reason, ending.prompt_tokens, ending.new_tokens) == ("length", 3, 50)
    assert ending.first_token_seconds == pieces[0].seconds
    assert ending.seconds_per_token is not None
    assert sorted(piece.seconds for piece in pieces) == [piece.seconds for piece in pieces]


def test_an_answer_ends_where_the_context_does(engine: Engine) -> None:
    stream = engine.submit(Request((5,) * 60, Sampling(1.0, seed=1), 50))
    pieces = list(stream)
    assert (stream.ending.reason, len(pieces)) == ("context", CONTEXT - 60)


def test_an_end_token_ends_without_a_text() -> None:
    model = tiny_nanogpt()
    model.generation_config.eos_token_id = [0, *range(40, 60)]
    with Engine(loaded(model), slots=1) as engine:
        stream = engine.submit(Request((5, 6), Sampling(1.5, seed=2), 60))
        pieces = list(stream)
    assert stream.ending.reason == "eos"
    assert pieces[-1].token in {0, *range(40, 60)}
    assert pieces[-1].text == ""


def test_a_stop_text_ends_and_is_not_said(engine: Engine) -> None:
    text = "".join(piece.text for piece in engine.submit(ENDLESS))
    stop = text[20:23]
    stream = engine.submit(Request(ENDLESS.tokens, ENDLESS.sampling, 50, (stop,)))
    assert "".join(piece.text for piece in stream) == text[: text.index(stop)]
    assert stream.ending.reason == "stop"


def test_logprobs_are_the_models_own(engine: Engine) -> None:
    asked = Request((5, 6, 7), Sampling(0.8, top_k=3, seed=4), 5, logprobs=2)
    pieces = list(engine.submit(asked))
    whole = [*asked.tokens, *(piece.token for piece in pieces)]
    with torch.inference_mode():
        shares = engine.model(torch.tensor([whole])).logits[0].log_softmax(-1)
    for place, piece in enumerate(pieces, start=2):
        assert piece.logprob == pytest.approx(float(shares[place, piece.token]), abs=1e-4)
        assert [token for token, _ in piece.top] == shares[place].topk(2).indices.tolist()


def test_a_cancelled_stream_frees_its_slot_within_a_token(slow: Engine) -> None:
    first = slow.submit(Request((5,), Sampling(1.0), 60))
    second = slow.submit(Request((5,), GREEDY, 2))
    next(iter(first))
    first.cancel()
    cancelled = time.perf_counter()
    assert next(iter(second)).seconds > 0
    assert time.perf_counter() - cancelled < 1.0
    assert first.ending.reason == "cancelled"
    assert first.ending.new_tokens <= 3


def test_a_full_line_says_when_to_come_again(slow: Engine) -> None:
    streams = [slow.submit(Request((5,), Sampling(1.0), 30)) for _ in range(3)]
    with pytest.raises(QueueFull) as caught:
        slow.submit(ENDLESS)
    assert 1 <= caught.value.retry_after <= 60
    streams[2].cancel()
    streams.append(slow.submit(Request((5,), GREEDY, 1)))
    for stream in streams[:2]:
        stream.cancel()
    assert len(list(streams[3])) == 1


def test_closing_ends_what_is_open() -> None:
    model = tiny_gpt2()
    model.register_forward_pre_hook(lambda *_: time.sleep(0.01))
    engine = Engine(loaded(model), slots=1, queue=4)
    streams = [engine.submit(Request((5,), Sampling(1.0), 60)) for _ in range(3)]
    next(iter(streams[0]))
    engine.close()
    assert [(list(stream), stream.ending.reason)[1] for stream in streams] == ["cancelled"] * 3
    assert not engine.is_alive


@pytest.mark.parametrize(("tokens", "words"), [((), "no tokens"), ((5,) * CONTEXT, "context")])
def test_a_prompt_that_does_not_fit_is_refused(
    engine: Engine, tokens: tuple[int, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        engine.submit(Request(tokens, GREEDY, 5))


def test_a_long_prompt_is_read_in_parts(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    asked = Request(tuple(range(2, 42)), GREEDY, 10)
    whole = tokens_of(engine, asked)
    monkeypatch.setattr("quantale.inference.engine._PART", 7)
    others = [engine.submit(request) for request in requests(3)]
    assert tokens_of(engine, asked) == whole
    assert all(len(list(stream)) == 20 for stream in others)


def test_logits_that_are_not_finite_end_one_stream() -> None:
    model = tiny_llama()
    broken = threading.Event()

    def spoil(_: object, __: object, out: torch.Tensor) -> torch.Tensor:
        return out * torch.nan if broken.is_set() else out

    model.lm_head.register_forward_hook(spoil)
    with Engine(loaded(model), slots=1) as engine:
        broken.set()
        with pytest.raises(NumericalError, match="not finite"):
            list(engine.submit(ENDLESS))
        broken.clear()
        assert len(list(engine.submit(ENDLESS))) == 50


def test_a_step_that_breaks_ends_its_streams_and_no_others() -> None:
    model = tiny_llama()
    broken = threading.Event()

    def fall(*_: object) -> None:
        if broken.is_set():
            raise RuntimeError("out of luck")

    model.register_forward_pre_hook(fall)
    with Engine(loaded(model), slots=1) as engine:
        broken.set()
        with pytest.raises(Exception, match="out of luck"):
            list(engine.submit(ENDLESS))
        broken.clear()
        assert len(list(engine.submit(ENDLESS))) == 50


@pytest.mark.parametrize(
    "model",
    [
        MambaForCausalLM(
            MambaConfig(vocab_size=96, hidden_size=16, num_hidden_layers=1, state_size=4)
        ),
        BloomForCausalLM(BloomConfig(vocab_size=96, hidden_size=16, n_layer=1, n_head=2)),
    ],
    ids=["mamba", "bloom"],
)
def test_models_that_no_static_cache_fits_are_decoded_without_one(model: Any) -> None:
    spread(model.eval())
    asked = [Request((5, 6, size), GREEDY, 8) for size in (7, 8)]
    with Engine(loaded(model), slots=2, context=64) as engine:
        streams = [engine.submit(request) for request in asked]
        found = [[piece.token for piece in stream] for stream in streams]
        assert engine.facts.cache_memory == 0
    for request, tokens in zip(asked, found, strict=True):
        texts = torch.tensor([[*request.tokens, *tokens]])
        with torch.inference_mode():
            logits = model(texts, use_cache=False).logits[0, 2:-1]
        assert logits.argmax(-1).tolist() == tokens


def test_a_model_without_tokenizer_is_refused() -> None:
    with pytest.raises(ModelFileError, match="tokenizer"):
        Engine(LoadedModel(tiny_gpt2(), None, loaded(None).path))


def test_a_context_beyond_the_models_own_is_refused() -> None:
    with pytest.raises(UsageError, match="2 to 64"):
        Engine(loaded(tiny_gpt2()), context=65)


def test_facts_say_what_it_is(engine: Engine) -> None:
    facts = engine.facts
    assert (facts.context, facts.kernels) == (CONTEXT, ("torch",))
    assert facts.bits_per_weight == 32
    assert facts.weight_memory > 0
    assert facts.cache_memory == 2 * 2 * 5 * 32 * CONTEXT * 4


def test_the_tokenizer_of_these_tests_has_the_models_vocabulary() -> None:
    assert ascii_tokenizer().eos_token_id == 0
