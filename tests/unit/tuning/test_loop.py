"""The loop: its schedule, accumulation, precision, best weights, determinism and errors."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import tiny_classifier
from torch import nn

from quantale.core.errors import DataError, NumericalError, UsageError
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.build import build_model
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.schedules import learning_rate
from quantale.tuning.settings import TrainData, TrainResult, TrainSettings

SETTINGS = TrainSettings(
    steps=8,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=2,
    evaluate_every=3,
    checkpoint_every=4,
    precision="fp32",
    cpu=True,
)


def tiny(dropout: float = 0.1) -> NanoGPTForCausalLM:
    config = NanoGPTConfig(
        vocab_size=20, n_positions=8, n_embd=16, n_layer=1, n_head=2, dropout=dropout
    )
    return build_model(config, seed=0)


def rows_of(step: int) -> torch.Tensor:
    """Rows that count upwards, which a small model learns in a few steps."""
    generator = torch.Generator().manual_seed(step)
    return (torch.randint(20, (4, 1), generator=generator) + torch.arange(9)) % 20


def batch_of(step: int) -> Batch:
    return Batch.of_rows(rows_of(step))


DATA = TrainData(batches=batch_of, validation=[batch_of(1000), batch_of(1001)])


def run(
    folder: Path, settings: TrainSettings = SETTINGS, data: TrainData = DATA, **model: float
) -> tuple[NanoGPTForCausalLM, TrainResult, list[dict[str, Any]]]:
    folder.mkdir(exist_ok=True)
    trained = tiny(**model)
    result = train(trained, Full(), data, settings, folder, Silent())
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return trained, result, [json.loads(line) for line in lines]


def weights_of(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_training_learns_and_keeps_the_best_validation(tmp_path: Path) -> None:
    model, result, metrics = run(tmp_path, replace(SETTINGS, steps=40))
    validation = {m["step"]: m["loss"] for m in metrics if m["split"] == "validation"}
    assert sorted(validation) == [*range(3, 40, 3), 40]
    assert result.best_loss == min(validation.values()) == validation[result.best_step]
    assert result.best_loss < 0.5 * validation[3]
    assert not model.training
    with torch.no_grad():
        again = sum(Full().loss(model, batch).item() for batch in DATA.validation) / 2
    assert again == pytest.approx(result.best_loss)


def test_an_earlier_best_is_what_the_model_ends_with(tmp_path: Path) -> None:
    """The validation set contradicts the training set, so that learning makes it worse."""
    backwards = TrainData(batches=batch_of, validation=[Batch.of_rows(rows_of(0).flip(1))])
    slow = replace(SETTINGS, steps=3, warmup_steps=0, evaluate_every=1, learning_rate=3e-2)
    first, _, _ = run(tmp_path / "first", replace(slow, steps=1, min_learning_rate=3e-2), backwards)
    last, result, metrics = run(tmp_path / "all", slow, backwards)
    losses = [m["loss"] for m in metrics if m["split"] == "validation"]
    assert losses[0] == min(losses)
    assert result.best_step == 1
    assert torch.equal(weights_of(first), weights_of(last))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path: Path) -> None:
    first, _, metrics = run(tmp_path / "a")
    torch.manual_seed(99)
    second, _, same = run(tmp_path / "b")
    third, _, other = run(tmp_path / "c", replace(SETTINGS, seed=1))
    assert metrics == same
    assert torch.equal(weights_of(first), weights_of(second))
    assert (tmp_path / "a/metrics.jsonl").read_bytes() == (
        tmp_path / "b/metrics.jsonl"
    ).read_bytes()
    assert metrics != other
    assert not torch.equal(weights_of(first), weights_of(third))


def test_accumulated_batches_step_as_one_large_batch_does(tmp_path: Path) -> None:
    def joined(step: int) -> Batch:
        return Batch.of_rows(torch.cat([rows_of(2 * step), rows_of(2 * step + 1)]))

    parts, _, part_losses = run(tmp_path / "a", replace(SETTINGS, accumulation=2), dropout=0.0)
    whole, _, losses = run(tmp_path / "b", data=replace(DATA, batches=joined), dropout=0.0)
    for part, one in zip(part_losses, losses, strict=True):
        assert part["loss"] == pytest.approx(one["loss"], rel=1e-4)
    torch.testing.assert_close(weights_of(parts), weights_of(whole), rtol=1e-3, atol=1e-4)


def test_bf16_computes_the_layers_in_bf16_and_keeps_weights_in_fp32(tmp_path: Path) -> None:
    seen = set()
    model = tiny()

    def look(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        seen.add(output.dtype)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(look)
    settings = replace(SETTINGS, precision="bf16", steps=2)
    result = train(model, Full(), DATA, settings, tmp_path, Silent())
    assert seen == {torch.bfloat16}
    assert result.precision == "bf16"
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    seen.clear()
    train(model, Full(), DATA, replace(settings, precision="fp32"), tmp_path, Silent())
    assert seen == {torch.float32}


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 300),
    peak=st.floats(1e-6, 1),
    low=st.floats(0, 1),
)
def test_the_rate_climbs_to_the_peak_then_falls_to_the_minimum(
    steps: int, warmup: int, peak: float, low: float
) -> None:
    warmup, low = min(warmup, steps), peak * low
    settings = replace(
        SETTINGS, steps=steps, warmup_steps=warmup, learning_rate=peak, min_learning_rate=low
    )
    rates = [learning_rate(step, settings) for step in range(steps)]
    assert rates[:warmup] == sorted(rates[:warmup])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert all(0 < rate <= peak * (1 + 1e-9) for rate in rates if low > 0)
    if steps > warmup + 1:
        assert rates[warmup] == pytest.approx(peak)
        assert rates[-1] == pytest.approx(low)
    if warmup:
        assert rates[warmup - 1] == pytest.approx(peak)


def test_decay_shrinks_matrices_only(tmp_path: Path) -> None:
    """With no gradient to follow, AdamW multiplies matrices by 1 - rate * decay each step."""

    class Silence(Full):
        def loss(self, model: Any, batch: Batch) -> torch.Tensor:
            return super().loss(model, batch) * (0.0 if model.training else 1.0)

    settings = replace(SETTINGS, steps=1, warmup_steps=0, weight_decay=0.5)
    model, before = tiny(), tiny()
    train(model, Silence(), DATA, settings, tmp_path, Silent())
    for (name, now), then in zip(model.named_parameters(), before.parameters(), strict=True):
        factor = 1 - 1e-2 * 0.5 if now.dim() > 1 else 1.0
        torch.testing.assert_close(now, then * factor, msg=name)


def test_clipping_bounds_the_gradient_that_the_optimizer_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = []
    step: Callable[..., Any] = torch.optim.AdamW.step

    def look(self: torch.optim.AdamW, *args: Any) -> Any:
        grads = [p.grad for g in self.param_groups for p in g["params"]]
        norms.append(math.sqrt(sum(float(g.pow(2).sum()) for g in grads)))
        return step(self, *args)

    monkeypatch.setattr(torch.optim.AdamW, "step", look)
    run(tmp_path, replace(SETTINGS, clip=0.01))
    assert len(norms) == 8
    assert all(norm == pytest.approx(0.01, rel=1e-3) for norm in norms)


def test_a_loss_that_is_not_finite_names_the_step(tmp_path: Path) -> None:
    class Broken(Full):
        def loss(self, model: Any, batch: Batch) -> torch.Tensor:
            scale = float("nan") if torch.equal(batch.inputs, batch_of(4).inputs) else 1.0
            return super().loss(model, batch) * scale

    with pytest.raises(NumericalError, match="step 5: loss nan"):
        train(tiny(), Broken(), DATA, SETTINGS, tmp_path, Silent())


def test_validation_without_a_scored_token_is_a_data_error(tmp_path: Path) -> None:
    empty = replace(DATA, validation=[Batch.of_rows(torch.full((1, 9), -100))])
    with pytest.raises((DataError, NumericalError)):
        run(tmp_path, data=empty)


def test_validation_weighs_tokens_and_not_batches(tmp_path: Path) -> None:
    rows = rows_of(1000)
    rows[:, 3:] = -100
    ragged, whole = Batch.of_rows(rows), batch_of(1001)
    data = replace(DATA, validation=[ragged, whole])
    model, result, _ = run(tmp_path, replace(SETTINGS, steps=3), data=data, dropout=0.0)
    with torch.no_grad():
        short, long = (Full().loss(model, batch).item() for batch in (ragged, whole))
    assert result.best_loss == pytest.approx((short * 8 + long * 32) / 40)


def test_progress_hears_every_step_with_speed_and_time_left(tmp_path: Path) -> None:
    heard: list[dict[str, float | int | str]] = []

    class Listener(Silent):
        def advance(self, n: int = 1, **fields: float | int | str) -> None:
            heard.append({"n": n, **fields})

    train(tiny(), Full(), DATA, SETTINGS, tmp_path, Listener())
    steps = [h for h in heard if "loss" in h]
    assert len(steps) == 8
    assert all(float(h["tokens_per_second"]) > 0 for h in steps)
    assert steps[-1]["seconds_left"] == 0
    timings = [json.loads(x) for x in (tmp_path / "timings.jsonl").read_text().splitlines()]
    assert [t["step"] for t in timings] == [3, 6, 8]


def contradiction() -> TrainData:
    """The validation set contradicts the training set, so that learning makes it worse."""
    return TrainData(batches=batch_of, validation=[Batch.of_rows(rows_of(0).flip(1))])


def test_the_training_ends_when_validations_get_no_better(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=20, evaluate_every=2, patience=3, learning_rate=3e-2)
    notes: list[str] = []

    class Listener(Silent):
        def note(self, text: str) -> None:
            notes.append(text)

    model = tiny()
    result = train(model, Full(), contradiction(), settings, tmp_path, Listener())
    assert result.steps == result.best_step + 6 < 20
    assert notes == [f"step {result.steps}: no better than step {result.best_step}, ended"]
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["split"]) == (result.steps, "validation")


def test_without_patience_all_steps_are_taken(tmp_path: Path) -> None:
    _, result, _ = run(tmp_path, replace(SETTINGS, evaluate_every=1), contradiction())
    assert result.steps == 8


def test_a_classifier_can_be_kept_at_its_best_accuracy(tmp_path: Path) -> None:
    """Only the accuracy decides, though the loss of another step is lower."""

    def labelled(number: int) -> Batch:
        rows = torch.randint(1, 96, (8, 6), generator=torch.Generator().manual_seed(number))
        return Batch(rows, rows[:, -1] % 4)

    data = TrainData(labelled, [labelled(1000)])
    settings = replace(SETTINGS, evaluate_every=1, best_by="accuracy")
    result = train(tiny_classifier("GPT2"), Full(), data, settings, tmp_path, Silent())
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    scores = {s["step"]: s for s in lines if s["split"] == "validation"}
    best = max(s["accuracy"] for s in scores.values())
    assert result.best_accuracy == best == scores[result.best_step]["accuracy"]
    ties = [s["loss"] for s in scores.values() if s["accuracy"] == best]
    assert result.best_loss == min(ties)
    assert all(s["accuracy"] * 8 == int(s["accuracy"] * 8) for s in scores.values())


def test_tokens_have_no_accuracy(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="for classifiers"):
        run(tmp_path, replace(SETTINGS, best_by="accuracy"))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_follows_the_losses_of_fp32(precision: Any, tmp_path: Path) -> None:
    _, _, exact = run(tmp_path / "fp32", dropout=0.0)
    _, result, half = run(tmp_path / "half", replace(SETTINGS, precision=precision), dropout=0.0)
    assert result.precision == precision
    for one, other in zip(exact, half, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=0.02)


def test_a_batch_without_a_scored_target_counts_for_nothing(tmp_path: Path) -> None:
    empty = Batch.of_rows(torch.full((4, 9), -100))

    def every_other(number: int) -> Batch:
        return empty if number % 2 else batch_of(number // 2)

    settings = replace(SETTINGS, accumulation=2)
    mixed, _, with_empty = run(
        tmp_path / "a", settings, replace(DATA, batches=every_other), dropout=0.0
    )
    alone, _, without = run(tmp_path / "b", dropout=0.0)
    assert [m["loss"] for m in with_empty] == pytest.approx([m["loss"] for m in without])
    torch.testing.assert_close(weights_of(mixed), weights_of(alone))
