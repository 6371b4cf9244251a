"""Training checkpoints: flat tensors in safetensors and the rest in sorted JSON, never a pickle.

A checkpoint is one sealed folder that holds all that the loop needs to go on to the same bytes:
weights, the best weights so far, optimizer moments, random states, the step and the logs. The two
newest are kept; the best weights travel inside them, so that no folder refers to another.
"""

import json
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from quantale.core.errors import ModelFileError, UsageError
from quantale.core.files import disk_faults, latest_valid, sealed_folder, write_atomic
from quantale.tuning.cost import TrainCost
from quantale.tuning.optimizers import restore_state, state_tensors

KEPT = 2
_PATTERN = "step-*"


@dataclass
class TrainState:
    """Everything about a training that changes from step to step, except model and optimizer."""

    step: int = 0
    """Optimizer steps done; also the position in the data, which is a function of it."""
    best_step: int = 0
    """Step after which the validation loss was lowest."""
    best_loss: float = float("inf")
    """That loss, nats a token."""
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """The trainable parameters at that step, on the CPU."""
    best_accuracy: float | None = None
    """Its share of right classes; None where the loss decides what is best."""
    stale: int = 0
    """Validations since then."""
    scale: dict[str, Any] = field(default_factory=dict)
    """Of fp16's gradients, with its history; empty without one."""
    ranks: dict[str, torch.Tensor] = field(default_factory=dict)
    """Random states of the other processes, by name."""
    metrics: list[str] = field(default_factory=list)
    """JSON lines that are the same in every run of the same recipe."""
    timings: list[str] = field(default_factory=list)
    """JSON lines that are not."""
    cost: TrainCost = field(default_factory=TrainCost)
    """Of all processes that worked on this training."""


def save(
    folder: Path,
    state: TrainState,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    environment: Mapping[str, str | int],
) -> None:
    """Write `checkpoints/step-NNNNNN` in the staging folder and drop all but the newest two.

    environment: what the bytes of a result depend on besides the recipe, such as threads.
    """
    parent = folder / "checkpoints"
    folder_name = parent / f"step-{state.step:06d}"
    with disk_faults(folder_name), sealed_folder(folder_name) as target:
        save_file(_contiguous(weights), target / "model.safetensors")
        save_file(state.best_weights, target / "best.safetensors")
        save_file(state_tensors(optimizer, weights), target / "optimizer.safetensors")
        tensors, python = _random_state()
        save_file({**tensors, **state.ranks}, target / "random.safetensors")
        values = {
            "step": state.step,
            "best_step": state.best_step,
            "best_loss": state.best_loss,
            "best_accuracy": state.best_accuracy,
            "stale": state.stale,
            "scale": state.scale,
            "cost": asdict(state.cost),
            "random": python,
            "environment": dict(environment),
        }
        write_atomic(target / "state.json", json.dumps(values, sort_keys=True) + "\n")
        write_logs(target, state)
    for old in sorted(parent.glob(_PATTERN), key=_step_of)[:-KEPT]:
        shutil.rmtree(old)


def write_logs(folder: Path, state: TrainState) -> None:
    """Write metrics.jsonl and timings.jsonl up to the state's step."""
    write_atomic(folder / "metrics.jsonl", "".join(state.metrics))
    write_atomic(folder / "timings.jsonl", "".join(state.timings))


def restore(
    folder: Path,
    weights: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    environment: Mapping[str, str | int],
    *,
    allow_other_threads: bool,
) -> TrainState:
    """Put the newest valid checkpoint into weights, optimizer and random generators.

    Without a checkpoint the state of a new training comes back. The random states of other
    processes come back in it. Raises UsageError when threads, processes, device or precision differ
    from the checkpoint's, since the result would have other bytes.
    """
    found = latest_valid(folder / "checkpoints", _PATTERN)
    if found is None:
        return TrainState()
    values = json.loads((found / "state.json").read_text())
    free = {"threads"} if allow_other_threads else set()
    _compare(values["environment"], {k: v for k, v in environment.items() if k not in free})
    _copy_into(weights, load_file(found / "model.safetensors"), found)
    restore_state(optimizer, weights, load_file(found / "optimizer.safetensors"))
    random_states = load_file(found / "random.safetensors")
    _restore_random(random_states, values["random"])
    return TrainState(
        step=values["step"],
        best_step=values["best_step"],
        best_loss=values["best_loss"],
        best_weights=load_file(found / "best.safetensors"),
        best_accuracy=values["best_accuracy"],
        stale=values["stale"],
        scale=values["scale"],
        ranks={k: v for k, v in random_states.items() if k.startswith("rank-")},
        metrics=(found / "metrics.jsonl").read_text().splitlines(keepends=True),
        timings=(found / "timings.jsonl").read_text().splitlines(keepends=True),
        cost=TrainCost(**values["cost"]),
    )


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _compare(then: Mapping[str, str | int], now: Mapping[str, str | int]) -> None:
    for key, value in now.items():
        if then.get(key) != value:
            raise UsageError(
                f"this training began with {key}={then.get(key)} and would go on with {value}, "
                f"which gives other bytes; set {key} back (threads may be allowed to differ)"
            )


def _copy_into(
    weights: Mapping[str, torch.Tensor], saved: Mapping[str, torch.Tensor], source: Path
) -> None:
    if saved.keys() != weights.keys():
        odd = sorted(saved.keys() ^ weights.keys())[0]
        raise ModelFileError(f"{source}: {odd!r} is in the checkpoint or in the model, not in both")
    with torch.no_grad():
        for name, tensor in weights.items():
            tensor.copy_(saved[name])


def _random_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).copy())}
    for index, state in enumerate(torch.cuda.get_rng_state_all()):
        tensors[f"cuda.{index}"] = state
    python = {"version": version, "words": list(words), "gauss": gauss}
    numpy = {"kind": kind, "position": position, "has_gauss": has_gauss, "cached": cached}
    return tensors, {"python": python, "numpy": numpy}


def _restore_random(tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
    python, numpy = values["python"], values["numpy"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    keys = tensors["numpy"].numpy()
    np.random.set_state(
        (numpy["kind"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"])
    )
    torch.set_rng_state(tensors["torch"])
    for index in range(torch.cuda.device_count()):
        torch.cuda.set_rng_state(tensors[f"cuda.{index}"], index)


def _contiguous(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().contiguous() for name, tensor in weights.items()}
