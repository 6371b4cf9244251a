"""Windows of the document protocol: every token once, bytes of what was scored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantale.core.errors import UsageError
from quantale.core.registry import PROTOCOLS
from quantale.evaluation.protocols.blocks import Blocks
from quantale.evaluation.windows import (
    EncodedDocument,
    Limits,
    Plan,
    Window,
    batches,
    protocol_named,
)


def encoded(text: str, name: str = "d") -> EncodedDocument:
    """One token a character."""
    ids = np.array([ord(c) for c in text], dtype=np.int64)
    ends = np.arange(1, len(text) + 1)
    return EncodedDocument(name, text, ids, np.zeros(len(text), dtype=np.bool_), ends)


def plan_of(*texts: str, bos: int | None = 0, context: int = 8, cut: int | None = None) -> Plan:
    documents = [encoded(text, str(i)) for i, text in enumerate(texts)]
    return protocol_named("document").plan(documents, Limits(bos, context, cut))


@given(
    st.lists(st.text(max_size=40), max_size=5),
    st.sampled_from([None, 0]),
    st.integers(2, 9),
    st.sampled_from([None, 1, 2, 7, 13]),
)
def test_every_token_is_scored_exactly_once(
    texts: list[str], bos: int | None, context: int, cut: int | None
) -> None:
    plan = plan_of(*texts, bos=bos, context=context, cut=cut)
    scored: dict[int, list[int]] = {}
    for window in plan.windows:
        assert 1 <= window.first < len(window.tokens) <= context
        scored.setdefault(window.unit, []).extend(window.tokens[window.first :].tolist())
    for index, unit in enumerate(plan.units):
        tokens = [*([] if bos is None else [bos]), *(ord(c) for c in texts[int(unit.id)])][:cut]
        assert scored[index] == tokens[1:]
        assert unit.tokens == len(tokens) - 1
    assert len(plan.units) + len(plan.skipped) == len(texts)


@given(st.text(min_size=1, max_size=60), st.integers(2, 9))
def test_past_the_first_window_a_token_sees_at_least_half_a_context(
    text: str, context: int
) -> None:
    for window in plan_of(text, context=context).windows[1:]:
        assert window.first >= context // 2


def test_no_window_holds_tokens_of_two_documents() -> None:
    plan = plan_of("aaaaaaaaaaaa", "bbbbbbbbbbbb")
    kinds = [set(window.tokens.tolist()) - {0} for window in plan.windows]
    assert all(len(kind) == 1 for kind in kinds)


def test_with_a_bos_every_byte_of_the_text_counts() -> None:
    (unit,) = plan_of("żółw 🐢").units
    assert unit.tokens == 6
    assert unit.bytes == len("żółw 🐢".encode())


def test_without_a_bos_the_first_token_is_not_scored_nor_counted() -> None:
    (unit,) = plan_of("żółw", bos=None).units
    assert unit.tokens == 3
    assert unit.bytes == len("ółw".encode())


def test_a_cut_document_counts_the_bytes_of_what_is_left() -> None:
    (unit,) = plan_of("żółw i mysz", cut=4).units
    assert unit.tokens == 3
    assert unit.bytes == len("żół".encode())


def test_empty_documents_are_skipped_by_name() -> None:
    plan = plan_of("", "abc", "")
    assert plan.skipped == ("0", "2")
    assert [unit.id for unit in plan.units] == ["1"]


def test_a_document_of_one_token_is_scored_only_after_a_bos() -> None:
    assert [unit.tokens for unit in plan_of("a").units] == [1]
    assert plan_of("a", bos=None).skipped == ("0",)


def test_the_fingerprint_states_bos_context_stride_and_cut() -> None:
    protocol = protocol_named("document")
    assert protocol.fingerprint(Limits(7, 256)) == "document(bos=1,context=256,stride=128)"
    assert protocol.fingerprint(Limits(None, 9)) == "document(bos=0,context=9,stride=4)"
    assert protocol.fingerprint(Limits(1, 8, 5)) == "document(bos=1,context=8,stride=4,cut=5)"


def test_a_protocol_is_looked_up_with_its_number() -> None:
    assert "document" in PROTOCOLS.names()
    with pytest.raises(UsageError, match="did you mean 'document'"):
        protocol_named("documents")
    with pytest.raises(UsageError, match="takes no setting"):
        protocol_named("document:5")
    assert protocol_named("blocks:2048") == Blocks(2048)
    with pytest.raises(UsageError, match="a number was expected"):
        protocol_named("blocks:many")
    with pytest.raises(UsageError, match="needs its number"):
        protocol_named("blocks")


def test_bytes_of_a_part_need_offsets() -> None:
    slow = EncodedDocument("d", "ab", np.array([1, 2]), np.zeros(2, np.bool_), None)
    assert slow.bytes_between(0, 2) == 2
    with pytest.raises(UsageError, match="fast tokenizer"):
        slow.bytes_between(1, 2)


def test_batches_hold_like_lengths_and_respect_both_limits() -> None:
    windows = [Window(0, np.zeros(n, np.int64), 1) for n in (3, 9, 5, 9, 2, 30)]
    found = list(batches(windows, batch_size=3, positions=20))
    assert found == [[5], [1, 3], [2, 0, 4]]
    with pytest.raises(UsageError, match="at least 1"):
        list(batches(windows, batch_size=0, positions=20))
