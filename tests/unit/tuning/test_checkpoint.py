"""Checkpoints: sealed, free of pickles, and a resume that ends in the bytes of a whole run."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from quantale.core.errors import ModelFileError, NumericalError, UsageError
from quantale.core.files import verify
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.build import build_model
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.tuning import checkpoint
from quantale.tuning.loop import train
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData, TrainSettings

SETTINGS = TrainSettings(
    steps=12,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=2,
    evaluate_every=2,
    checkpoint_every=3,
    accumulation=2,
    cpu=True,
)


def batch_of(step: int) -> Batch:
    generator = torch.Generator().manual_seed(step)
    return Batch.of_rows(torch.randint(20, (4, 9), generator=generator))


DATA = TrainData(batches=batch_of, validation=[batch_of(1000)])


class StopsAt(Full):
    """Stands for a kill: the loss fails when the batch of one step arrives."""

    def __init__(self, step: int | None) -> None:
        object.__setattr__(self, "bad", None if step is None else batch_of(step * 2))

    def loss(self, model: Any, batch: Batch) -> torch.Tensor:
        bad = self.__dict__["bad"]
        stop = bad is not None and torch.equal(bad.inputs, batch.inputs)
        return super().loss(model, batch) * (float("nan") if stop else 1.0)


def tiny(layers: int = 1) -> NanoGPTForCausalLM:
    config = NanoGPTConfig(vocab_size=20, n_positions=8, n_embd=16, n_layer=layers, n_head=2)
    return build_model(config, seed=0)


def run(folder: Path, stop: int | None = None, **options: Any) -> None:
    """Train and leave `model.safetensors` there; with `stop`, fail in that step instead."""
    folder.mkdir(exist_ok=True)
    model = tiny()
    train(model, StopsAt(stop), DATA, SETTINGS, folder, Silent(), **options)
    model.save_pretrained(folder)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    with pytest.raises(NumericalError, match="step 11"):
        run(tmp_path / "interrupted", stop=10)
    return tmp_path / "interrupted"


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_resumed_run_ends_in_the_bytes_of_a_whole_one(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    for stop in (1, 4, 7, 11):
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(NumericalError):
            run(folder, stop=stop)
        torch.manual_seed(0)
        run(folder)
        for name in ("model.safetensors", "metrics.jsonl"):
            assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_resuming_starts_at_the_newest_checkpoint_and_not_before(interrupted: Path) -> None:
    seen: list[int] = []

    def watched(number: int) -> Batch:
        seen.append(number)
        return batch_of(number)

    data = replace(DATA, batches=watched)
    train(tiny(), Full(), data, SETTINGS, interrupted, Silent())
    assert seen == list(range(9 * 2, 12 * 2))


def test_the_two_newest_checkpoints_are_kept_sealed_and_hold_no_pickle(interrupted: Path) -> None:
    kept = sorted((interrupted / "checkpoints").iterdir())
    assert [path.name for path in kept] == ["step-000006", "step-000009"]
    for folder in kept:
        verify(folder, full=True)
        assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".jsonl"}
        for path in folder.glob("*.safetensors"):
            with safe_open(path, framework="pt") as file:
                assert len(file.metadata() or {}) <= 1


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(interrupted: Path) -> None:
    run(interrupted.parent / "whole")
    newest = interrupted / "checkpoints" / "step-000009" / "optimizer.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[-1] ^= 1
    newest.write_bytes(raw)
    run(interrupted)
    whole = interrupted.parent / "whole" / "model.safetensors"
    assert (interrupted / "model.safetensors").read_bytes() == whole.read_bytes()


def test_the_best_weights_so_far_survive_a_resume(tmp_path: Path) -> None:
    """Random targets: validation soon gets worse, so the best lies before the checkpoint."""
    run(tmp_path / "whole")
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    losses = {m["step"]: m["loss"] for m in map(json.loads, lines) if m["split"] == "validation"}
    best = min(losses, key=lambda step: losses[step])
    with pytest.raises(NumericalError):
        run(tmp_path / "stopped", stop=11)
    state = json.loads((tmp_path / "stopped/checkpoints/step-000009/state.json").read_text())
    early = min((s for s in losses if s <= 9), key=lambda step: losses[step])
    assert (state["best_step"], state["best_loss"]) == (early, losses[early])
    run(tmp_path / "stopped")
    stopped, whole = (tmp_path / d / "model.safetensors" for d in ("stopped", "whole"))
    assert stopped.read_bytes() == whole.read_bytes()
    assert best in losses


def test_another_thread_count_is_refused_unless_allowed(interrupted: Path, threads: None) -> None:
    torch.set_num_threads(torch.get_num_threads() + 1)
    with pytest.raises(UsageError, match="began with threads="):
        run(interrupted)
    run(interrupted, allow_other_threads=True)
    assert (interrupted / "model.safetensors").exists()


def test_another_precision_is_refused_even_when_other_threads_are_allowed(
    interrupted: Path,
) -> None:
    state = json.loads((interrupted / "checkpoints/step-000009/state.json").read_text())
    bf16 = state["environment"]["precision"] == "bf16"
    settings = replace(SETTINGS, precision="fp32" if bf16 else "bf16")
    with pytest.raises(UsageError, match="precision"):
        train(tiny(), Full(), DATA, settings, interrupted, Silent(), allow_other_threads=True)


def test_a_checkpoint_of_another_model_is_refused(interrupted: Path) -> None:
    with pytest.raises(ModelFileError, match="not in both"):
        train(tiny(layers=2), Full(), DATA, SETTINGS, interrupted, Silent())


def test_random_states_of_torch_numpy_and_python_are_restored(tmp_path: Path) -> None:
    weights = dict(tiny().named_parameters())
    optimizer = torch.optim.AdamW(weights.values())
    state = checkpoint.TrainState(step=3)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    np.random.standard_normal()
    random.gauss(0, 1)
    checkpoint.save(tmp_path, state, weights, optimizer, {})
    expected = (torch.rand(4).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1))
    checkpoint.restore(tmp_path, weights, optimizer, {}, allow_other_threads=False)
    again = (torch.rand(4).tolist(), np.random.standard_normal(3).tolist(), random.gauss(0, 1))
    assert again == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw-8bit"},
        {"optimizer": "paged-adamw"},
        {"precision": "fp16"},
        {"gradient_checkpointing": True},
        {"patience": 6, "evaluate_every": 1},
    ],
    ids=str,
)
def test_every_kind_of_state_resumes_to_the_same_bytes(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, **changes)

    def once(folder: Path, stop: int | None = None) -> None:
        folder.mkdir(exist_ok=True)
        shape = NanoGPTConfig(vocab_size=20, n_positions=8, n_embd=32, n_layer=1, n_head=2)
        model = build_model(shape, seed=0)
        train(model, StopsAt(stop), DATA, settings, folder, Silent())
        model.save_pretrained(folder)

    once(tmp_path / "whole")
    with pytest.raises(NumericalError):
        once(tmp_path / "stopped", stop=5)
    torch.manual_seed(0)
    once(tmp_path / "stopped")
    for name in ("model.safetensors", "metrics.jsonl"):
        whole, stopped = tmp_path / "whole" / name, tmp_path / "stopped" / name
        assert whole.read_bytes() == stopped.read_bytes(), name
