"""How long a model takes to load, to read a prompt and to write a token, and its memory.

Every measurement is a process of its own; models are interleaved over rounds, every other round
in reverse order, so that drift of the machine hits all alike. Values are medians over runs with
an interval that resamples processes, then runs; p90 is over single tokens.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import numpy as np

from quantale.core.errors import UsageError
from quantale.core.records import Measurement
from quantale.evaluation.fresh import Answer, Job, Server, server
from quantale.evaluation.memory import Phase, phase_peak
from quantale.evaluation.stats import Bootstrap, Estimate, median_of_groups

TASK = "latency"
KERNELS = ("fast", "exact")

Progress = Callable[[int, int], None]
"""Called with processes done and processes in all."""


@dataclass(frozen=True)
class LatencySettings:
    """What is timed, and how often."""

    prompt_tokens: int = 16
    new_tokens: int = 64
    rounds: int = 3
    """Processes a model."""
    runs: int = 5
    """Timed runs a process, after warm-up."""
    batch: int = 1
    threads: int | None = None
    """Threads of a process; None: as many as this process may use."""
    loader: str = "quantale.evaluation.decode:load_pretrained"
    """"package.module:function" that makes a model of a path."""
    kernels: str = "fast"
    """"fast" or "exact": whether kernels may differ from the format's definition in rounding."""
    describe: str | None = None
    """"package.module:function" that makes {site: kernel name} of a model."""
    device: str = "cpu"
    """Where models run, as torch names it."""
    seed: int = 0

    def fingerprint(self) -> str:
        """Return what a number needs to carry; unlike ones are never ranked."""
        return (
            f"decode(prompt={self.prompt_tokens},new={self.new_tokens},batch={self.batch},"
            f"threads={self.thread_count()},rounds={self.rounds},runs={self.runs},"
            f"kernels={self.kernels},greedy,eos=no)"
        )

    def thread_count(self) -> int:
        """Return the threads a process uses."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Speed:
    """Median over runs with its interval, and p90 over timed steps."""

    median: Estimate
    p90: float
    rounds: tuple[tuple[float, ...], ...]
    """One tuple a process: the median step of each run."""


@dataclass(frozen=True)
class Latency:
    """What was measured of one model."""

    model: str
    protocol: str
    load_seconds: float
    """Median; imports are not part of it, and the file is in the page cache."""
    prefill_ms: Speed
    decode_ms_per_token: Speed
    weight_bytes: int
    """Bytes that a decoded token must read, see `roofline`."""
    bandwidth: float
    """Bytes a second at which the processes read that many, median."""
    resident_before: int
    """Bytes of the process before the load (python, torch, transformers)."""
    peak_rss: Mapping[str, int]
    """Largest resident size by phase (load, prefill, decode), bytes."""
    kernel_peak_by_phase: bool
    """Whether the kernel's peak was reset for each phase; otherwise samples alone tell them."""
    settled: bool
    """Whether the warm-up of every process ended in two runs that agree."""
    threads: int
    batch: int
    device: str
    dtype: str
    kernels: Mapping[str, str]
    device_memory: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By phase, on a CUDA device: allocated, reserved, used, process; bytes."""
    seed: int = 0

    @property
    def peak_rss_bytes(self) -> int:
        """Largest resident size over all phases."""
        return max(self.peak_rss.values())

    @property
    def roofline(self) -> float:
        """Share of the decoding time that reading the weights once would take."""
        seconds = self.decode_ms_per_token.median.value / 1000
        return self.weight_bytes / (self.bandwidth * seconds)

    @property
    def tokens_per_s(self) -> float:
        """Decoded tokens a second, all sequences of the batch together."""
        return 1000.0 * self.batch / self.decode_ms_per_token.median.value


def measure(
    models: Mapping[str, str],
    settings: LatencySettings | None = None,
    progress: Progress | None = None,
) -> list[Latency]:
    """Time every model (name to path, as the loader takes it), in the order given.

    Every model is loaded once before any is timed. Raises what a loader raises when it is an
    error of ours, EnvironmentLackingError for a process that was killed.
    """
    settings = settings or LatencySettings()
    _check(models, settings)
    jobs = {name: _job(path, settings) for name, path in models.items()}
    answers: dict[str, list[Answer]] = {name: [] for name in models}
    with server(settings.thread_count()) as running:
        for job in jobs.values():
            running.rehearse(job)
        _rounds(running, jobs, answers, settings.rounds, progress)
    return [_latency(name, found, settings) for name, found in answers.items()]


def measurements(latency: Latency) -> list[Measurement]:
    """Return the numbers of one model as records."""
    decode, prefill = latency.decode_ms_per_token, latency.prefill_ms
    found = [
        _of_speed("decode_ms_per_token", "ms/token", decode),
        _of_speed("prefill_ms", "ms", prefill),
        _of_value("load_seconds", "s", latency.load_seconds, len(decode.rounds)),
        _of_value("roofline_fraction", "share", latency.roofline, len(decode.rounds)),
        _of_value("read_bandwidth", "bytes/s", latency.bandwidth, len(decode.rounds)),
        _of_value("tokens_per_s", "tokens/s", latency.tokens_per_s, len(decode.rounds)),
        _of_value("peak_rss_bytes", "bytes", latency.peak_rss_bytes, len(decode.rounds)),
    ]
    found += [
        _of_value(f"peak_rss_bytes_{phase}", "bytes", size, len(decode.rounds))
        for phase, size in latency.peak_rss.items()
    ]
    found += [
        _of_value(f"device_{kind}_bytes_{phase}", "bytes", size, len(decode.rounds))
        for phase, kinds in latency.device_memory.items()
        for kind, size in kinds.items()
    ]
    kernel = ",".join(sorted(set(latency.kernels.values())))
    return [
        replace(
            one,
            model=latency.model,
            protocol=latency.protocol,
            kernel=kernel,
            device=latency.device,
            dtype=latency.dtype,
            seed=latency.seed,
        )
        for one in found
    ]


def _check(models: Mapping[str, str], settings: LatencySettings) -> None:
    if not models:
        raise UsageError("timing needs at least one model, none came")
    for name in ("prompt_tokens", "new_tokens", "rounds", "runs", "batch"):
        if getattr(settings, name) < 1:
            raise UsageError(f"{name} must be at least 1, {getattr(settings, name)} came")
    if settings.kernels not in KERNELS:
        raise UsageError(f"kernels must be fast or exact, {settings.kernels!r} came")


def _job(path: str, settings: LatencySettings) -> Job:
    return Job(
        path=path,
        loader=settings.loader,
        describe=settings.describe,
        prompt_tokens=settings.prompt_tokens,
        new_tokens=settings.new_tokens,
        batch=settings.batch,
        runs=settings.runs,
        threads=settings.thread_count(),
        seed=settings.seed,
        fast=settings.kernels == "fast",
        device=settings.device,
    )


def _rounds(
    running: Server,
    jobs: Mapping[str, Job],
    answers: Mapping[str, list[Answer]],
    rounds: int,
    progress: Progress | None,
) -> None:
    done = 0
    for index in range(rounds):
        names = list(jobs) if index % 2 == 0 else list(jobs)[::-1]
        for name in names:
            answers[name].append(running.measure(jobs[name]))
            done += 1
            if progress is not None:
                progress(done, rounds * len(jobs))


def _latency(name: str, answers: list[Answer], settings: LatencySettings) -> Latency:
    results = [answer.result for answer in answers]
    timings = [result[phase] for result in results for phase in ("prefill", "decode")]
    phases = [Phase(**phase) for result in results for phase in result["phases"]]
    first = results[0]
    return Latency(
        model=name,
        protocol=settings.fingerprint(),
        load_seconds=median(result["load_seconds"] for result in results),
        prefill_ms=_speed(results, "prefill", settings.seed),
        decode_ms_per_token=_speed(results, "decode", settings.seed),
        weight_bytes=first["weight_bytes"],
        bandwidth=median(result["bandwidth"] for result in results),
        resident_before=min(result["resident_before"] for result in results),
        peak_rss=peaks(answers),
        kernel_peak_by_phase=all(phase.peak_reset for phase in phases),
        settled=all(timing["settled"] for timing in timings),
        threads=first["threads"],
        batch=settings.batch,
        device=first["device"],
        dtype=first["dtype"],
        kernels=first["kernels"],
        device_memory=_device_memory(results),
        seed=settings.seed,
    )


def _speed(results: list[Mapping[str, Any]], phase: str, seed: int) -> Speed:
    """Return milliseconds a step."""
    steps = 1000.0 * np.array(
        [result[phase]["runs"] for result in results]
    )  # (rounds, runs, steps)
    medians = np.median(steps, axis=2)
    return Speed(
        median=median_of_groups(list(medians), Bootstrap(seed=seed)),
        p90=float(np.quantile(steps, 0.9)),
        rounds=tuple(tuple(row) for row in medians.tolist()),
    )


def peaks(answers: Sequence[Answer]) -> dict[str, int]:
    """Return the largest resident size of each phase over all processes, bytes."""
    found: dict[str, int] = {}
    for answer in answers:
        for content in answer.result["phases"]:
            phase = Phase(**content)
            size = phase_peak(answer.samples, phase)
            found[phase.name] = max(size, found.get(phase.name, 0))
    return found


def _device_memory(results: list[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the largest of every kind of memory of each phase over all processes."""
    found: dict[str, dict[str, int]] = {}
    for result in results:
        for phase in result["device_memory"]:
            kept = found.setdefault(phase["name"], {})
            for kind in ("allocated", "reserved", "used", "process"):
                if phase[kind] is not None:
                    kept[kind] = max(phase[kind], kept.get(kind, 0))
    return found


def _of_speed(metric: str, unit: str, speed: Speed) -> Measurement:
    estimate = speed.median
    one = _of_value(metric, unit, estimate.value, estimate.n)
    return replace(
        one,
        stderr=estimate.stderr,
        ci_low=estimate.low,
        ci_high=estimate.high,
        extra={"p90": speed.p90},
    )


def _of_value(metric: str, unit: str, value: float, n: int) -> Measurement:
    return Measurement(model="", task=TASK, protocol="", metric=metric, value=value, unit=unit, n=n)
