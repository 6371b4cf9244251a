"""Self-tests of the standard: totals that no detail of batching may change."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import tiny_family, tiny_nanogpt
from tiny_texts import (
    SYMBOLS,
    Constant,
    Text,
    Texts,
    character_tokenizer,
    documents,
    small_llama,
)
from transformers import (
    BloomConfig,
    GPT2Config,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from quantale.core.errors import DataError, NumericalError, UsageError
from quantale.evaluation import stats
from quantale.evaluation.language import LanguageScores, LanguageSettings, score
from quantale.evaluation.scores import by_model, column
from quantale.evaluation.stats import Verdict
from quantale.evaluation.summary import measurements
from quantale.evaluation.windows import named_context

Pair = dict[str, LlamaForCausalLM]
V = len(SYMBOLS)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return character_tokenizer()


@pytest.fixture(scope="module")
def pair() -> Pair:
    return {"base": small_llama(0), "other": small_llama(1)}


MANY = documents(1, 5, 15, 16, 17, 40, 70, 3, 9)


def totals(scores: LanguageScores) -> np.ndarray:
    rows = sorted(scores.documents, key=lambda one: (one.model, one.document))
    return np.array([[one.nll, one.tokens, one.bytes, one.kl_sum, one.top1_same] for one in rows])


def test_uniform_logits_give_a_perplexity_of_the_vocabulary(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    found = score({"flat": Constant(torch.zeros(V))}, tokenizer, MANY)
    values = {one.metric: one for one in measurements(found.documents, found.protocol)}
    assert values["perplexity"].value == pytest.approx(V, rel=1e-6)
    assert values["bits_per_byte"].value == pytest.approx(math.log2(V), rel=1e-6)
    assert values["perplexity"].ci_low == pytest.approx(V, rel=1e-6)


@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_batch_size_does_not_change_totals(
    tokenizer: PreTrainedTokenizerFast, pair: Pair, batch_size: int
) -> None:
    expected = score(pair, tokenizer, MANY, LanguageSettings(batch_size=3), "base")
    found = score(pair, tokenizer, MANY, LanguageSettings(batch_size=batch_size), "base")
    np.testing.assert_allclose(totals(found), totals(expected), rtol=1e-5, atol=1e-6)


def test_document_order_does_not_change_totals(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    turned = Texts(tuple(reversed(MANY.items)))
    found = totals(score(pair, tokenizer, turned, base="base"))
    np.testing.assert_allclose(
        found, totals(score(pair, tokenizer, MANY, base="base")), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("family", ["GPT2", "Llama", "Gemma2", "GPTNeoX", "OPT", "nanoGPT"])
@pytest.mark.parametrize("batch_size", [1, 4, 16])
def test_padding_left_and_batch_size_do_not_change_totals(family: str, batch_size: int) -> None:
    models = {"base": model_of(family, 0.0), "other": model_of(family, 0.05)}
    texts = documents(1, 5, 63, 64, 65, 150, 0, 30, 2)
    right = LanguageSettings(batch_size=1)
    left = LanguageSettings(batch_size=batch_size, padding="left")
    expected = totals(score(models, character_tokenizer(), texts, right, "base"))
    found = totals(score(models, character_tokenizer(), texts, left, "base"))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def model_of(family: str, noise: float) -> PreTrainedModel:
    model = tiny_nanogpt() if family == "nanoGPT" else tiny_family(family)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            moved = torch.randn(parameter.shape, generator=generator)
            parameter.add_(moved, alpha=noise * float(parameter.std()))
    return model


def test_a_model_against_itself_diverges_by_nothing_and_passes(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    twins = {"base": pair["base"], "twin": pair["base"]}
    found = score(twins, tokenizer, MANY, base="base")
    measured = measurements(found.documents, found.protocol, base="base")
    values = {one.metric: one.value for one in measured if one.model == "twin"}
    assert values["kl_mean"] == values["kl_median"] == values["kl_p99"] == 0.0
    assert values["top1_agreement"] == values["perplexity_ratio"] == 1.0
    assert values["log_perplexity_ratio"] == 0.0
    base, twin = by_model(found.documents).values()
    differences = column(twin, "nll") - column(base, "nll")
    (difference,) = stats.differences(differences[None], column(base, "tokens"))
    assert stats.judge(difference.estimate, margin=0.0).verdict is Verdict.PASS


def test_scoring_together_is_scoring_alone(tokenizer: PreTrainedTokenizerFast, pair: Pair) -> None:
    together = score(pair, tokenizer, MANY, base="base").documents
    alone = score({"other": pair["other"]}, tokenizer, MANY).documents
    for a, b in zip(together[len(together) // 2 :], alone, strict=True):
        assert a.nll == pytest.approx(b.nll, rel=1e-9)
        assert b.kl_sum is None


def test_the_order_of_models_is_kept_and_the_base_may_come_last(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    found = score({"other": pair["other"], "base": pair["base"]}, tokenizer, MANY, base="base")
    assert [one.model for one in found.documents] == ["other"] * 9 + ["base"] * 9
    np.testing.assert_allclose(
        totals(found), totals(score(pair, tokenizer, MANY, base="base")), rtol=1e-6
    )


def test_every_token_of_long_documents_is_scored_once(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    found = score(pair, tokenizer, documents(500, 1)).documents
    assert [one.tokens for one in found] == [500, 1, 500, 1]
    assert [one.bytes for one in found] == [500, 1, 500, 1]


def test_empty_documents_are_skipped_and_named(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    found = score(pair, tokenizer, documents(5, 0, 7))
    assert found.skipped == ("d1",)
    assert [one.document for one in found.documents] == ["d0", "d2", "d0", "d2"]


def test_without_a_bos_the_first_token_is_context_only(pair: Pair) -> None:
    found = score(pair, character_tokenizer(bos=None), documents(5, 1))
    assert found.protocol == "document(bos=0,context=16,stride=8)"
    assert found.skipped == ("d1",)
    assert [one.tokens for one in found.documents] == [4, 4]


def test_unknown_symbols_are_counted_and_scored(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    found = score(pair, tokenizer, Texts((Text("d", "abZbäc"),)))
    assert [one.unknown for one in found.documents] == [2, 2]
    assert found.documents[0].bytes == 7


def test_a_shorter_context_changes_the_protocol_and_a_longer_one_is_refused(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    found = score(pair, tokenizer, MANY, LanguageSettings(context=8, cut=6))
    assert found.protocol == "document(bos=1,context=8,stride=4,cut=6)"
    assert max(one.tokens for one in found.documents) == 5
    with pytest.raises(UsageError, match="context 17 is too long: 'base' takes 16"):
        score(pair, tokenizer, MANY, LanguageSettings(context=17))


def test_the_shortest_context_of_all_models_is_used(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    models_ = {**pair, "short": Constant(torch.zeros(V), context=6)}
    assert score(models_, tokenizer, MANY).protocol == "document(bos=1,context=6,stride=3)"


def test_dropout_is_off_while_scoring_and_as_before_afterwards(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    model = small_llama(0)
    expected = score({"m": model}, tokenizer, MANY).documents
    model.train()
    assert score({"m": model}, tokenizer, MANY).documents == expected
    assert model.training


def test_progress_ends_with_all_windows(tokenizer: PreTrainedTokenizerFast, pair: Pair) -> None:
    seen: list[tuple[int, int]] = []
    score(pair, tokenizer, MANY, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_names_and_inputs_are_checked_before_any_work(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    with pytest.raises(UsageError, match="did you mean 'base'"):
        score(pair, tokenizer, MANY, base="bsae")
    with pytest.raises(UsageError, match="at least one model"):
        score({}, tokenizer, MANY)
    with pytest.raises(DataError, match="no document has a token"):
        score(pair, tokenizer, documents(0, 0))
    with pytest.raises(DataError, match="same id"):
        score(pair, tokenizer, Texts((Text("d", "a"), Text("d", "b"))))


def test_a_vocabulary_that_does_not_fit_is_refused(
    tokenizer: PreTrainedTokenizerFast, pair: Pair
) -> None:
    with pytest.raises(DataError, match=r"token 11 is outside the vocabulary of model 'm' \(11\)"):
        score({"m": Constant(torch.zeros(11))}, tokenizer, Texts((Text("d", "."),)))
    wider = {**pair, "wide": Constant(torch.zeros(V + 1))}
    with pytest.raises(DataError, match="ranks 14 tokens and the base 13"):
        score(wider, tokenizer, MANY, base="base")


def test_a_loss_that_is_not_finite_names_model_and_document(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    with pytest.raises(NumericalError, match="model 'm' on document 'd0'"):
        score({"m": Constant(torch.full((V,), math.nan))}, tokenizer, MANY)


def test_a_model_without_a_known_context_asks_for_one(tokenizer: PreTrainedTokenizerFast) -> None:
    model = Constant(torch.zeros(V))
    model.config = SimpleNamespace(vocab_size=12)
    with pytest.raises(UsageError, match="set `context`"):
        score({"m": model}, tokenizer, MANY)
    found = score({"m": model}, tokenizer, MANY, LanguageSettings(context=8))
    assert found.protocol == "document(bos=1,context=8,stride=4)"
    with pytest.raises(UsageError, match="a bloom names no longest input"):
        named_context(BloomConfig())
    assert named_context(GPT2Config(n_positions=12)) == 12
