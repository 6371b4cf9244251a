"""What stays of a pass: sums a window, KL a token on disk, whatever the order of batches."""

import numpy as np
import pytest

from quantale.core.errors import NumericalError
from quantale.evaluation.tapes import Tape, document_scores, making_tapes
from quantale.evaluation.windows import Plan, Unit, Window

SCORED = ((0, 5), (1, 3), (1, 4), (2, 1))
"""Unit and scored tokens of four windows."""


def plan_of(scored: tuple[tuple[int, int], ...] = SCORED) -> Plan:
    windows = [Window(unit, np.zeros(size + 1, np.int64), 1) for unit, size in scored]
    sizes = np.bincount([unit for unit, _ in scored], weights=[size for _, size in scored])
    units = [Unit(f"d{i}", int(size), 4 * int(size), 2, 0) for i, size in enumerate(sizes)]
    return Plan(tuple(units), tuple(windows), ())


def fill(tape: Tape, batches: list[list[int]], nll: np.ndarray, kl: np.ndarray) -> None:
    """Write per-token values window by window, in the order of the batches."""
    for batch in batches:
        chosen = np.concatenate(
            [np.arange(tape.starts[i], tape.starts[i + 1]) for i in batch]
        ).astype(int)
        tape.write_nll(batch, nll[chosen])
        tape.write_divergence(batch, kl[chosen], kl[chosen] < 0.5)


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[3], [1], [0], [2]], [[2, 0], [3, 1]]])
def test_sums_and_token_kl_do_not_depend_on_the_order_of_batches(batches: list[list[int]]) -> None:
    plan, rng = plan_of(), np.random.default_rng(0)
    nll, kl = rng.random(13).astype(np.float32), rng.random(13).astype(np.float32)
    with making_tapes(["base", "other"], "base", plan) as tapes:
        fill(tapes["base"], batches, nll, np.zeros(13, np.float32))
        fill(tapes["other"], batches, nll, kl)
        found = list(document_scores(tapes, plan, "base"))
    parts = [slice(0, 5), slice(5, 12), slice(12, 13)]
    for one, part in zip(found[3:], parts, strict=True):
        assert one.model == "other"
        assert one.nll == pytest.approx(nll[part].sum(dtype=np.float64), rel=1e-12)
        assert one.kl_sum == pytest.approx(kl[part].sum(dtype=np.float64), rel=1e-12)
        assert one.top1_same == (kl[part] < 0.5).sum()
        assert one.kl_tokens is not None
        np.testing.assert_array_equal(one.kl_tokens, kl[part])  # the file is closed by now
    for one in found[:3]:
        assert (one.kl_sum, one.top1_same) == (0.0, one.tokens)


def test_memory_does_not_grow_with_tokens() -> None:
    def held(scored: int) -> int:
        plan = plan_of(tuple((unit, scored) for unit in range(10)))
        with making_tapes(["base", "other"], "base", plan) as tapes:
            tape = tapes["other"]
            return tape.nll.nbytes + tape.kl.nbytes + tape.same.nbytes + tape.starts.nbytes

    assert held(5) == held(5000) == 10 * 8 * 4 + 8


def test_the_kl_of_tokens_is_mapped_and_that_of_the_base_takes_no_room() -> None:
    plan = plan_of()
    with making_tapes(["base", "other"], "base", plan) as tapes:
        fill(tapes["other"], [[0, 1, 2, 3]], np.ones(13, np.float32), np.ones(13, np.float32))
        assert isinstance(tapes["other"].token_kl(), np.memmap)
        assert tapes["base"].token_kl().strides == (0,)


def test_a_sum_that_is_not_finite_names_model_and_unit() -> None:
    plan = plan_of()
    with making_tapes(["m"], None, plan) as tapes:
        nll = np.ones(13, np.float32)
        nll[6] = np.inf
        tapes["m"].write_nll([0, 1, 2, 3], nll)
        with pytest.raises(NumericalError, match="model 'm' on document 'd1'"):
            list(document_scores(tapes, plan, None))
