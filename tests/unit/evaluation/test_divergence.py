"""Row-wise loss and divergence against closed forms in float64."""

import math

import pytest
import torch

from quantale.evaluation.divergence import reference, reference_scores, row_scores


def logits_of(rows: int, vocabulary: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed))


def exact_kl(base: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    p, q = base.double().log_softmax(1), other.double().log_softmax(1)
    return (p.exp() * (p - q)).sum(1)


def test_two_coins_diverge_by_the_closed_form() -> None:
    base, other = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    found = row_scores(
        other, torch.tensor([0]), torch.tensor([1]), reference(base, torch.tensor([0]))
    )
    assert found.kl is not None
    assert found.kl.item() == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))
    assert found.nll.item() == pytest.approx(math.log(4.0))


@pytest.mark.parametrize("change", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
def test_small_divergences_are_right_to_a_thousandth(change: float) -> None:
    base = logits_of(2000, 300, 0)
    other = base + change * torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    rows = torch.arange(2000)
    found = row_scores(other, rows, rows % 300, reference(base, rows)).kl
    assert found is not None
    exact = exact_kl(base, other)
    assert found.double().mean().item() == pytest.approx(exact.mean().item(), rel=1e-3)
    assert found.min() >= 0.0


def test_a_token_that_the_base_excludes_is_summed_without_overflow() -> None:
    base, other = torch.tensor([[0.0, 200.0, 199.0]]), torch.tensor([[300.0, 200.0, 199.0]])
    rows = torch.tensor([0])
    found = row_scores(other, rows, rows, reference(base, rows)).kl
    assert found is not None
    assert found.item() == pytest.approx(exact_kl(base, other).item(), rel=1e-6)


def test_a_model_whose_first_place_is_shared_still_agrees() -> None:
    base = torch.tensor([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    other = torch.tensor([[0.0, 3.0, 3.0], [0.0, 3.0, 2.0], [5.0, 1.0, 5.0]])
    rows = torch.arange(3)
    found = row_scores(other, rows, rows, reference(base, rows)).same
    assert found is not None
    assert found.tolist() == [True, False, True]


def test_only_the_given_rows_count_and_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    base, other = logits_of(50, 40, 0), logits_of(50, 40, 1)
    rows, targets = torch.arange(3, 50, 2), torch.arange(24)
    whole = row_scores(other, rows, targets, reference(base, rows))
    monkeypatch.setattr("quantale.evaluation.divergence._CHUNK_ELEMENTS", 5 * 40)
    parts = row_scores(other, rows, targets, reference(base, rows))
    for a, b in zip(
        (whole.nll, whole.kl, whole.same), (parts.nll, parts.kl, parts.same), strict=True
    ):
        assert a is not None
        assert b is not None
        assert torch.equal(a, b)
    assert whole.same is not None
    assert torch.equal(whole.same, base[rows].argmax(1) == other[rows].argmax(1))


def test_the_base_scored_from_its_reference_is_the_base_scored() -> None:
    base = logits_of(20, 30, 0)
    rows, targets = torch.arange(20), torch.arange(20)
    kept = reference(base, rows)
    again = row_scores(base, rows, targets, kept)
    own = reference_scores(kept, targets)
    assert torch.equal(own.nll, again.nll)
    assert again.kl is not None
    assert torch.count_nonzero(again.kl) == 0
    assert own.same is not None
    assert own.same.all()


def test_half_precision_logits_are_normalised_in_single_precision() -> None:
    logits = logits_of(10, 30, 0).bfloat16()
    rows, targets = torch.arange(10), torch.arange(10)
    nll = row_scores(logits, rows, targets).nll
    assert nll.dtype == torch.float32
    exact = -logits.double().log_softmax(1)[rows, targets]
    torch.testing.assert_close(nll.double(), exact, rtol=1e-6, atol=1e-6)
