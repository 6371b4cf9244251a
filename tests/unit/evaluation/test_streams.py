"""Protocols that join texts: what they score, what they leave, what they refuse."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_texts import (
    SYMBOLS,
    Constant,
    Text,
    Texts,
    character_tokenizer,
    documents,
    small_llama,
)

from quantale.core.errors import DataError, UsageError
from quantale.core.records import to_json_line
from quantale.evaluation.language import LanguageScores, LanguageSettings, score
from quantale.evaluation.summary import measurements
from quantale.evaluation.windows import EncodedDocument, Limits, Plan, protocol_named
from quantale.report.compare import compare_files

CONTEXT = 8


def encoded(text: str) -> EncodedDocument:
    """One token a character; the token is its place, so that a test can tell which is scored."""
    size = len(text)
    return EncodedDocument(
        "joined", text, np.arange(100, 100 + size), np.zeros(size, np.bool_), np.arange(1, size + 1)
    )


def plan_of(spec: str, text: str, limits: Limits) -> Plan:
    return protocol_named(spec).plan([encoded(text)], limits)


def scored_places(plan: Plan) -> list[int]:
    return [int(token) - 100 for window in plan.windows for token in window.tokens[window.first :]]


TEXTS = st.text(alphabet="ab \nż", min_size=2, max_size=70)


@given(TEXTS, st.integers(1, CONTEXT), st.booleans())
def test_stride_scores_every_token_once_but_those_without_context(
    text: str, step: int, bos: bool
) -> None:
    plan = plan_of(f"stride:{step}", text, Limits(0, CONTEXT, None, bos))
    found = scored_places(plan)
    missing = {0} - ({0} if bos else set())
    if step == CONTEXT:
        missing = {i - bos for i in range(0, len(text) + bos, CONTEXT)} - {-1}
    assert found == [i for i in range(len(text)) if i not in missing]
    assert all(len(window.tokens) <= CONTEXT for window in plan.windows)


@given(TEXTS, st.integers(1, CONTEXT - 1))
def test_past_the_first_window_stride_gives_the_rest_of_the_context(text: str, step: int) -> None:
    for window in plan_of(f"stride:{step}", text, Limits(None, CONTEXT)).windows[1:]:
        assert window.first >= CONTEXT - step


@given(TEXTS, st.integers(2, CONTEXT))
def test_blocks_score_all_but_the_first_token_of_each_and_drop_the_rest(
    text: str, length: int
) -> None:
    limits = Limits(0, CONTEXT, None, True)
    whole = len(text) // length
    if not whole:
        with pytest.raises(DataError, match=f"needs {length} tokens"):
            plan_of(f"blocks:{length}", text, limits)
        return
    plan = plan_of(f"blocks:{length}", text, limits)
    assert scored_places(plan) == [i for i in range(whole * length) if i % length]
    assert [unit.tokens for unit in plan.units] == [length - 1] * whole


@given(TEXTS, st.integers(3, CONTEXT), st.booleans())
def test_llamacpp_scores_the_second_half_of_each_chunk(text: str, length: int, bos: bool) -> None:
    limits = Limits(7, CONTEXT, None, bos)
    chunks = (len(text) + bos) // length
    if chunks < 2:
        with pytest.raises(DataError, match=f"needs {2 * length} tokens"):
            plan_of(f"llamacpp:{length}", text, limits)
        return
    plan = plan_of(f"llamacpp:{length}", text, limits)
    expected = [i - bos for i in range(chunks * length) if i % length > length // 2]
    assert scored_places(plan) == expected
    first = {int(window.tokens[0]) for window in plan.windows}
    assert first == {7} if bos else 7 not in first


@given(TEXTS, st.sampled_from(["blocks:4", "stride:3", "stride:8", "llamacpp:4"]), st.booleans())
def test_bytes_and_words_of_units_are_those_of_the_scored_characters(
    text: str, spec: str, bos: bool
) -> None:
    text = text * 5
    plan = plan_of(spec, text, Limits(0, CONTEXT, None, bos))
    at = 0
    places = scored_places(plan)
    for unit in plan.units:
        own = places[at : at + unit.tokens]
        at += unit.tokens
        assert unit.bytes == sum(len(text[i].encode()) for i in own)
        begins = [i for i in own if not text[i].isspace() and (i == 0 or text[i - 1].isspace())]
        assert unit.words == len(begins)


def test_words_of_a_whole_text_are_those_of_str_split() -> None:
    text = "  Ona\u00a0ma\tżółwia -- \n\n i 2 koty. "
    whole = encoded(text)
    assert whole.words_between(0, len(text)) == len(text.split()) == 7


def test_fingerprints_state_the_number_and_all_else_that_changes_the_result() -> None:
    plain, bos = Limits(None, 1024), Limits(1, 1024, 90, True)
    marks = {
        spec: (protocol_named(spec).fingerprint(plain), protocol_named(spec).fingerprint(bos))
        for spec in ("blocks:1024", "stride:512", "llamacpp:512")
    }
    assert marks == {
        "blocks:1024": (
            "blocks(length=1024,bos=0,join=blank-line)",
            "blocks(length=1024,bos=0,join=blank-line,cut=90)",
        ),
        "stride:512": (
            "stride(step=512,context=1024,bos=0,join=blank-line)",
            "stride(step=512,context=1024,bos=1,join=blank-line,cut=90)",
        ),
        "llamacpp:512": (
            "llamacpp(length=512,bos=0,join=blank-line)",
            "llamacpp(length=512,bos=1,join=blank-line,cut=90)",
        ),
    }


@pytest.mark.parametrize("spec", ["blocks:9", "blocks:1", "stride:9", "stride:0", "llamacpp:2"])
def test_a_number_that_the_context_does_not_allow_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="the models' context is 8"):
        plan_of(spec, "abc" * 20, Limits(None, CONTEXT))


def scores_of(spec: str, texts: Texts, **more: object) -> LanguageScores:
    models = {"base": small_llama(0), "other": small_llama(1)}
    settings = LanguageSettings(protocol=spec, **more)  # type: ignore[arg-type]
    return score(models, character_tokenizer(), texts, settings, "base")


SPECS = ["blocks:16", "stride:5", "stride:16", "llamacpp:16"]
MANY = documents(40, 0, 1, 90, 17)


@pytest.mark.parametrize("spec", SPECS)
def test_batches_and_padding_do_not_change_totals(spec: str) -> None:
    expected = scores_of(spec, MANY, batch_size=1).documents
    for batch_size, padding in ((4, "right"), (16, "left")):
        found = scores_of(spec, MANY, batch_size=batch_size, padding=padding).documents
        for a, b in zip(found, expected, strict=True):
            assert (a.document, a.tokens, a.top1_same) == (b.document, b.tokens, b.top1_same)
            assert a.nll == pytest.approx(b.nll, rel=1e-4)
            assert a.kl_sum == pytest.approx(b.kl_sum, rel=1e-4)


@pytest.mark.parametrize("spec", SPECS)
def test_uniform_logits_give_a_perplexity_of_the_vocabulary(spec: str) -> None:
    flat = {"flat": Constant(torch.zeros(len(SYMBOLS)))}
    found = score(flat, character_tokenizer(), MANY, LanguageSettings(protocol=spec))
    values = {one.metric: one.value for one in measurements(found.documents, found.protocol)}
    assert values["perplexity"] == pytest.approx(len(SYMBOLS), rel=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_texts_are_joined_by_a_blank_line_before_they_are_tokenized(spec: str) -> None:
    joined = Texts((Text("one", "\n\n".join(item.text for item in MANY.items)),))
    assert scores_of(spec, joined).documents == scores_of(spec, MANY).documents


def test_tokens_that_no_number_rests_on_are_counted() -> None:
    texts = documents(50)
    assert scores_of("blocks:16", texts).unscored == 3 + 2
    assert scores_of("stride:16", texts).unscored == 4
    assert scores_of("stride:5", texts).unscored == 1
    assert scores_of("llamacpp:16", texts).unscored == 50 - 3 * 7
    assert scores_of("document", texts).unscored == 0


def test_a_cut_takes_the_first_tokens_of_the_whole() -> None:
    found = scores_of("blocks:16", MANY, cut=33)
    assert [one.tokens for one in found.documents] == [15, 15, 15, 15]
    assert found.unscored == sum(len(item.text) for item in MANY.items) + 2 * 4 - 30


def write(path: Path, spec: str, model: str) -> Path:
    found = scores_of(spec, MANY)
    own = [one for one in found.documents if one.model == model]
    lines = [*measurements(own, found.protocol), *(one.record() for one in own)]
    path.write_text("\n".join(map(to_json_line, lines)), encoding="utf-8")
    return path


def test_results_of_unlike_protocols_are_refused_and_both_are_named(tmp_path: Path) -> None:
    base = write(tmp_path / "a.jsonl", "blocks:16", "base")
    same = write(tmp_path / "b.jsonl", "blocks:16", "other")
    assert math.isfinite(compare_files(base, [same], 0.01, 100)["pairs"][0]["delta"])
    for spec in ("blocks:15", "stride:16", "llamacpp:16", "document"):
        other = write(tmp_path / "c.jsonl", spec, "other")
        mark = json.loads(other.read_text(encoding="utf-8").splitlines()[0])["protocol"]
        with pytest.raises(UsageError, match="differ in protocol") as caught:
            compare_files(base, [other], 0.01, 100)
        assert mark in str(caught.value)
        assert "blocks(length=16," in str(caught.value)
