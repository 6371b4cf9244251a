"""The two routes on tiny models, full precision and packed, against loops over documents."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from tiny_models import tiny_classifier, tiny_gpt2, tiny_llama

from quantale.core.errors import DataError, NumericalError, UsageError
from quantale.data.tokenizers import train_characters
from quantale.evaluation.classification import ClassificationSettings, Predictions, classify
from quantale.evaluation.scores import by_model
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
TEXTS = [
    "stocks rise", "a match", "war and peace", "a chip", "goal", "banks", "moon", "a vote in May",
    "oil", "the cup", "x", "shares fall again today",
]  # fmt: skip
TOKENIZER = train_characters(["".join(map(chr, range(32, 123))) + "\n"])


def data(texts: Sequence[str] = TEXTS) -> tuple[list[str], list[str], list[str]]:
    ids = [f"d{i}" for i in range(len(texts))]
    return ids, list(texts), [CLASSES[i % 4] for i in range(len(texts))]


def shares(found: Predictions, model: str = "m") -> torch.Tensor:
    rows = by_model(found.documents)[model]
    return torch.tensor([list(row.probabilities.values()) for row in rows], dtype=torch.float64)


def run(model: Any, settings: ClassificationSettings | None = None, **more: Any) -> Predictions:
    return classify({"m": model}, TOKENIZER, data(**more), CLASSES, settings)


def packed(model: Any) -> Any:
    quantize_model(model, Methods(Rtn(4, 16)))
    return model


MAKERS: list[Callable[[], Any]] = [
    lambda: tiny_classifier("GPT2"),
    lambda: tiny_classifier("Llama"),
    lambda: packed(tiny_classifier("Llama")),
    lambda: packed(tiny_classifier("GPT2", pad_token_id=None)),
]


@pytest.mark.parametrize("make", MAKERS, ids=["gpt2", "llama", "packed", "packed without padding"])
def test_the_head_route_is_the_models_own_logits_one_document_at_a_time(
    make: Callable[[], Any],
) -> None:
    model = make()
    found = run(model)
    for text, row in zip(TEXTS, shares(found), strict=True):
        with torch.no_grad():
            logits = model(**TOKENIZER(text, return_tensors="pt")).logits[0]
        assert torch.allclose(row, torch.softmax(logits.double(), 0), atol=1e-5)
    assert found.protocol == "head(classes=4,length=64)"


def test_a_packed_classifier_says_something_else_than_the_original() -> None:
    first, second = run(tiny_classifier("Llama")), run(packed(tiny_classifier("Llama")))
    assert not torch.allclose(shares(first), shares(second), atol=1e-4)


@pytest.mark.parametrize("route", ["head", "likelihood"])
def test_batches_and_the_order_of_documents_change_nothing(route: str) -> None:
    model = tiny_classifier("Llama") if route == "head" else tiny_llama()
    wanted = shares(run(model, ClassificationSettings(route, batch_size=1)))
    for batch_size in (4, 16):
        found = shares(run(model, ClassificationSettings(route, batch_size=batch_size)))
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-7)
    backwards = shares(run(model, ClassificationSettings(route), texts=TEXTS[::-1]))
    assert torch.allclose(backwards.flip(0), wanted, rtol=1e-4, atol=1e-7)


def test_every_document_is_seen_once() -> None:
    model, seen = tiny_classifier("Llama"), []
    model.register_forward_pre_hook(
        lambda _module, _args, words: seen.append(len(words["input_ids"])), with_kwargs=True
    )
    run(model)
    assert sum(seen) == len(TEXTS)


def by_hand(model: Any, prompt: list[int], word: list[int]) -> tuple[float, int]:
    """Sum the log-probabilities of a word's tokens, one forward pass a token."""
    total = 0.0
    for i, token in enumerate(word):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt, *word[:i]]])).logits[0, -1]
        total += float(torch.log_softmax(logits.double(), 0)[token])
    return total, len(word)


@pytest.mark.parametrize("normalise", ["sum", "token", "byte"])
@pytest.mark.parametrize("make", [tiny_gpt2, lambda: packed(tiny_llama())], ids=["gpt2", "packed"])
def test_the_likelihood_route_is_a_loop_over_the_tokens_of_every_word(
    make: Callable[[], Any], normalise: str
) -> None:
    model, words = make(), (" world", " sport", " we", "w")
    settings = ClassificationSettings(
        "likelihood", template="News: {text}\nTopic:", words=words, normalise=normalise
    )
    found = shares(run(model, settings))

    def tokens(text: str) -> list[int]:
        return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])

    for text, row in zip(TEXTS, found, strict=True):
        prompt = [TOKENIZER.bos_token_id, *tokens(f"News: {text}\nTopic:")]
        sums = [by_hand(model, prompt, tokens(word)) for word in words]
        divisors = {
            "sum": [1] * 4, "token": [n for _, n in sums], "byte": [len(w.encode()) for w in words]
        }[normalise]  # fmt: skip
        scores = torch.tensor([s / d for (s, _), d in zip(sums, divisors, strict=True)]).double()
        assert torch.allclose(row, torch.softmax(scores, 0), atol=1e-4)


def test_normalisation_template_and_words_are_in_the_fingerprint() -> None:
    model = tiny_llama()
    settings = [
        ClassificationSettings("likelihood"),
        ClassificationSettings("likelihood", normalise="token"),
        ClassificationSettings("likelihood", template="{text} ="),
        ClassificationSettings("likelihood", words=("a", "b", "c", "d")),
        ClassificationSettings("likelihood", length=40),
    ]
    prints = [run(model, one).protocol for one in settings]
    assert len(set(prints)) == len(prints)
    assert all(one.startswith("likelihood(classes=4,length=") for one in prints)


def test_a_long_text_loses_its_end_and_the_template_stays() -> None:
    model = tiny_llama()
    settings = ClassificationSettings("likelihood", length=40)
    long = ["a" * 200 + tail for tail in ("bcd", "xyz")]
    first, second = shares(run(model, settings, texts=long))
    assert torch.equal(first, second)
    with pytest.raises(UsageError, match="no room for a text"):
        run(model, ClassificationSettings("likelihood", length=10))
    head = tiny_classifier("Llama")
    cut = shares(run(head, ClassificationSettings(length=8), texts=["abcdefgh" + "x" * 9]))
    assert torch.equal(cut, shares(run(head, texts=["abcdefgh"])))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ClassificationSettings("head"), "no classification head; use the route 'likelihood'"),
        (ClassificationSettings("likelihood", template="no place"), "holds {text} once"),
        (ClassificationSettings("likelihood", words=("a", "b")), "as many different words"),
        (ClassificationSettings("likelihood", words=("a", "a", "b", "c")), "different words"),
        (ClassificationSettings("likelihood", words=("", "a", "b", "c")), "different words"),
        (ClassificationSettings("likelihood", normalise="tokens"), "did you mean 'token'"),
        (ClassificationSettings("likelihood", length=65), "is too long"),
        (ClassificationSettings("likelihod"), "did you mean 'likelihood'"),
        (ClassificationSettings("likelihood", batch_size=0), "at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    settings: ClassificationSettings, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        run(tiny_llama(), settings)


def test_a_classifier_is_asked_through_its_head_with_its_own_number_of_classes() -> None:
    model = tiny_classifier("Llama")
    with pytest.raises(UsageError, match="is a classifier; use the route 'head'"):
        run(model, ClassificationSettings("likelihood"))
    with pytest.raises(UsageError, match="knows 4 classes, the data 2"):
        classify({"m": model}, TOKENIZER, (["d"], ["x"], ["a"]), ("a", "b"))


def test_bad_documents_and_bad_weights_are_named() -> None:
    model = tiny_classifier("Llama")
    with pytest.raises(DataError, match="same id"):
        classify({"m": model}, TOKENIZER, (["d", "d"], ["x", "y"], ["a", "a"]), CLASSES)
    with torch.no_grad():
        model.score.weight.fill_(float("inf"))
    with pytest.raises(NumericalError, match="model 'm': the scores of document"):
        run(model)


def test_progress_counts_documents_of_all_models() -> None:
    calls: list[tuple[int, int]] = []
    models = {"a": tiny_classifier("Llama"), "b": tiny_classifier("Llama")}
    classify(
        models, TOKENIZER, data(), CLASSES, progress=lambda done, whole: calls.append((done, whole))
    )
    assert calls[-1] == (24, 24)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
