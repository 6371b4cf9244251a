"""The protocol `answer`: of every document the part behind its prompt, each token once."""

import numpy as np
import pytest
import torch
from chat_tokenizer import letters
from tiny_texts import Constant

from quantale.core.errors import UsageError
from quantale.data.documents import Document, Documents
from quantale.evaluation.language import LanguageSettings, score
from quantale.evaluation.protocols.answer import Answer
from quantale.evaluation.windows import Limits, encode

DATA = Documents.collect(
    [Document("a" * p + "b" * n, f"{p}/{n}", answer=p) for p, n in ((3, 4), (20, 1), (9, 40))],
    "test",
    "test",
)


def test_every_token_of_the_answer_is_scored_once_and_no_other() -> None:
    tokenizer = letters()
    encoded = encode(tokenizer, DATA)
    assert [one.answer for one in encoded] == [3, 20, 9]
    plan = Answer().plan(encoded, Limits(bos=0, context=8))
    b = tokenizer.convert_tokens_to_ids("b")
    scored = [0, 0, 0]
    for window in plan.windows:
        assert len(window.tokens) <= 8
        assert set(window.tokens[window.first :].tolist()) == {b}
        scored[window.unit] += window.scored
    assert scored == [4, 1, 40]
    assert [unit.tokens for unit in plan.units] == [4, 1, 40]
    assert [unit.bytes for unit in plan.units] == [4, 1, 40]


def test_a_uniform_model_has_the_bits_of_its_vocabulary_a_byte() -> None:
    tokenizer = letters()
    model = Constant(torch.zeros(len(tokenizer)), context=8)
    found = score({"m": model}, tokenizer, DATA, LanguageSettings(protocol="answer"))
    assert found.protocol == "answer(bos=1,context=8,stride=4)"
    assert found.unscored == 3 + 20 + 9
    bits = sum(one.nll for one in found.documents) / np.log(2)
    assert bits / sum(one.bytes for one in found.documents) == pytest.approx(
        np.log2(len(tokenizer)), rel=1e-6
    )


def test_documents_without_a_prompt_are_refused() -> None:
    plain = Documents.collect([Document("ab", "a")], "test", "test")
    with pytest.raises(UsageError, match="'a' has no prompt"):
        Answer().plan(encode(letters(), plain), Limits(bos=0, context=8))
