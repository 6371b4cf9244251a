"""Time one model in this process: load, prefill, decode. Runs in the children of `forking`.

The loop is greedy, of fixed length, and never looks at an end token, so that every model does the
same work. Each phase first runs until two runs in a row agree, at most five times or for a second
(warm-up), then is timed. The decode phase fills the cache by a prefill before each run, which is
not part of its times.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from quantale.core.errors import ModelFileError, UsageError
from quantale.evaluation.accelerator import DeviceMemory, Stopwatch, begin_phase, end_phase
from quantale.evaluation.fresh import Job
from quantale.evaluation.memory import Phase, measured_phase, resident
from quantale.evaluation.roofline import read_bandwidth, weight_bytes
from quantale.evaluation.windows import own_context
from quantale.inference.network import Network
from quantale.inference.widths import check_cache
from quantale.models.gate import ADAPTER_CONFIG
from quantale.models.load import load
from quantale.quant.dispatch import fast_kernels

AGREEMENT = 0.05
"""Two warm-up runs agree when they differ by at most this share of the shorter one."""

_WARM_UP_LIMIT = 5
_WARM_UP_SECONDS = 1.0  # a busy machine never settles: time the runs and say so


@dataclass(frozen=True)
class Timing:
    """Runs of one phase, in seconds."""

    runs: list[list[float]]
    """One list a run, one number a timed step."""
    warm_up_runs: int
    settled: bool
    """Whether the last two warm-up runs agreed."""


def load_pretrained(path: str) -> Any:
    """Load a model directory as transformers does once quantale is imported, in its own dtype.

    A classifier keeps its head. An adapter comes with its base, both through the gate, since
    transformers knows no base that lies beside it.
    """
    importlib.import_module("quantale")
    if (Path(path) / ADAPTER_CONFIG).is_file():
        return load(path, dtype=None).model
    names = AutoConfig.from_pretrained(path).architectures or ()
    is_classifier = any(name.endswith("ForSequenceClassification") for name in names)
    kind = AutoModelForSequenceClassification if is_classifier else AutoModelForCausalLM
    return kind.from_pretrained(path)


def function_at(dotted: str) -> Callable[..., Any]:
    """Return the function named "package.module:function"; raises UsageError for another form."""
    module, colon, name = dotted.partition(":")
    found = getattr(importlib.import_module(module), name, None) if colon and name else None
    if not callable(found):
        raise UsageError(f"a function was expected as 'package.module:function', {dotted!r} came")
    function: Callable[..., Any] = found
    return function


def measure(job: Job) -> dict[str, Any]:
    """Load and time the model; returns plain values. Raises UsageError past the context.

    Without new tokens only the prompt is read: all that a classifier does.
    """
    torch.set_num_threads(job.threads)
    phases = _Phases(torch.device(job.device))
    before = resident()
    started = time.perf_counter()
    with phases.measured("load"):
        model = function_at(job.loader)(job.path).eval().to(phases.device)
    load_seconds = time.perf_counter() - started
    _check_length(model, job)
    prompt = _prompt(model, job)
    with torch.inference_mode(), fast_kernels(job.fast):
        cached, device = _cached(model, prompt, job), prompt.device
        with phases.measured("prefill"):
            prefill = _timed(lambda: [_prefill(cached, device)[0]], job.runs)
        decode = None
        if job.new_tokens:
            with phases.measured("decode"):
                decode = _timed(lambda: _decode(cached, device, job.new_tokens), job.runs)
    read = weight_bytes(model)
    return {
        "weight_bytes": read,
        "bandwidth": read_bandwidth(read, model.device),
        "resident_before": before,
        "load_seconds": load_seconds,
        "prefill": asdict(prefill),
        "decode": None if decode is None else asdict(decode),
        "phases": [asdict(phase) for phase in phases.resident],
        "device_memory": [asdict(one) for one in phases.on_device],
        "threads": torch.get_num_threads(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "kernels": _kernels(model, job),
        "cache": "static" if isinstance(cached, _StaticCache) else "own",
    }


@dataclass
class _Phases:
    """Memory by phase, of the process and of the device."""

    device: torch.device
    resident: list[Phase] = field(default_factory=list)
    on_device: list[DeviceMemory] = field(default_factory=list)

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        begin_phase(self.device)
        with measured_phase(name, self.resident):
            yield
        found = end_phase(name, self.device)
        if found is not None:
            self.on_device.append(found)


def _check_length(model: Any, job: Job) -> None:
    context = own_context(model)
    total = job.prompt_tokens + job.new_tokens
    if context is not None and total > context:
        raise UsageError(
            f"{job.path}: {job.prompt_tokens} prompt tokens and {job.new_tokens} new ones do not "
            f"fit its context of {context}; ask for at most {context} together"
        )


def _prompt(model: Any, job: Job) -> Tensor:
    generator = torch.Generator().manual_seed(job.seed)
    shape = (job.batch, job.prompt_tokens)
    ids = torch.randint(int(model.config.vocab_size), shape, generator=generator)
    return ids.to(model.device)


def _timed(run: Callable[[], list[float]], runs: int) -> Timing:
    until = time.perf_counter() + _WARM_UP_SECONDS
    last = median(run())
    settled, count = False, 1
    while not settled and (count < 2 or _may_warm_up(count, until)):
        previous, last = last, median(run())
        settled = abs(last - previous) <= AGREEMENT * min(last, previous)
        count += 1
    return Timing([run() for _ in range(runs)], count, settled)


def _may_warm_up(count: int, until: float) -> bool:
    return count < _WARM_UP_LIMIT and time.perf_counter() < until


class _StaticCache:
    """The engine's step, on the engine's cache."""

    def __init__(self, network: Network, prompt: Tensor) -> None:
        self._network, self._prompt, self._at = network, prompt, 0

    def prefill(self) -> Tensor:
        """Read the prompt; return the next tokens, (batch, 1)."""
        self._at = 0
        return self.step(self._prompt)

    def step(self, tokens: Tensor) -> Tensor:
        """Read (batch, any) tokens; return the next ones."""
        rows, size = tokens.shape
        logits = self._network.forward(0, tokens, [self._at] * rows, keep=size)
        self._at += size
        return logits[:, -1:].argmax(dim=-1)


class _OwnCache:
    """The model's own step and cache, where the engine's does not fit."""

    def __init__(self, model: Any, prompt: Tensor) -> None:
        self._model, self._prompt, self._cache = model, prompt, None

    def prefill(self) -> Tensor:
        """Read the prompt; return the next tokens, (batch, 1)."""
        self._cache = None
        return self.step(self._prompt)

    def step(self, tokens: Tensor) -> Tensor:
        """Read (batch, any) tokens; return the next ones."""
        out = self._model(input_ids=tokens, past_key_values=self._cache, use_cache=True)
        self._cache = out.past_key_values
        return out.logits[:, -1:].argmax(dim=-1)


def _cached(model: Any, prompt: Tensor, job: Job) -> _StaticCache | _OwnCache:
    if not job.new_tokens:  # what is read once needs no cache; classifiers know none
        return _OwnCache(model, prompt)
    try:
        network = Network(model, len(prompt), job.prompt_tokens + job.new_tokens)
        check_cache(network)
    except ModelFileError:
        return _OwnCache(model, prompt)
    return _StaticCache(network, prompt)


def _prefill(cached: _StaticCache | _OwnCache, device: torch.device) -> tuple[float, Tensor]:
    """Return seconds and the next token (batch, 1)."""
    watch = Stopwatch(device)
    watch.start()
    token = cached.prefill()
    return watch.stop(), token


def _decode(cached: _StaticCache | _OwnCache, device: torch.device, new_tokens: int) -> list[float]:
    """Return the seconds of each decoded token."""
    _, token = _prefill(cached, device)
    watch, seconds = Stopwatch(device), []
    for _ in range(new_tokens):
        watch.start()
        token = cached.step(token)
        seconds.append(watch.stop())
    return seconds


def _kernels(model: Any, job: Job) -> Mapping[str, str]:
    return {} if job.describe is None else dict(function_at(job.describe)(model))
