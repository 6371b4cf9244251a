"""Speed and memory of models, each in processes of its own, into a sealed run."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from quantale.core import run as runs
from quantale.core.errors import EnvironmentLackingError, OutputExistsError
from quantale.core.progress import Progress
from quantale.core.recipe import BenchSection
from quantale.core.records import write_json, write_lines
from quantale.core.run import Run, RunKey
from quantale.evaluation import latency
from quantale.evaluation.latency import Latency, LatencySettings
from quantale.evaluation.pace import ratio
from quantale.stages.requests import BenchRequest

VERSION = 2
_DESCRIBE = "quantale.quant.ledger:kernel_names"


def bench_stage(
    folders: Mapping[str, Path],
    digests: Mapping[str, str],
    section: BenchSection,
    out: Path,
    *,
    resume: bool,
    progress: Progress,
) -> Run:
    """Time every model, or return the run that is there already."""
    threads = torch.get_num_threads()
    content = section.model_dump(mode="json") | {"threads": threads}
    key = RunKey("bench", VERSION, content, digests)
    done = runs.sealed(out, key)
    if done is not None:
        progress.note(f"{out} is there already: skipped")
        return done
    settings = LatencySettings(
        **section.model_dump(),
        threads=threads,
        describe=_DESCRIBE,
    )
    progress.stage("bench", section.rounds * len(folders))
    with runs.making(out, key, resume=resume) as folder:
        found = latency.measure(
            {name: str(path) for name, path in folders.items()},
            settings,
            lambda _done, _whole: progress.advance(),
        )
        lines = [line for one in found for line in latency.measurements(one)]
        write_lines(folder / "results.jsonl", lines)
        write_json(folder / "latency.json", {one.model: asdict(one) for one in found})
    return runs.open_run(out)


def bench_models(request: BenchRequest, out: Path | None, progress: Progress) -> dict[str, Any]:
    """Time models in every combination of the sweeps and return the `--json` fields."""
    if out is not None and out.exists():
        raise OutputExistsError(f"{out}: exists already; choose another --out or remove it")
    _check_device(request.device)
    names = _names(request.models)
    threads = request.threads or (LatencySettings().thread_count(),)
    sweep = list(itertools.product(request.prompts, request.batches, threads))
    progress.stage("bench", len(sweep) * len(names) * request.rounds)
    timings, records = [], []
    for prompt, batch, count in sweep:
        settings = LatencySettings(
            prompt_tokens=prompt,
            new_tokens=request.new_tokens,
            rounds=request.rounds,
            runs=request.runs,
            batch=batch,
            threads=count,
            kernels=request.kernels,
            describe=_DESCRIBE,
            device=request.device,
            seed=request.seed,
        )
        found = latency.measure(names, settings, lambda _done, _whole: progress.advance())
        timings += [_row(one, found[0], prompt) for one in found]
        records += [line for one in found for line in latency.measurements(one)]
    if out is not None:
        write_lines(out, records)
    return {"base": next(iter(names)), "timings": timings, "results": list(map(asdict, records))}


def _names(models: tuple[str, ...]) -> dict[str, str]:
    """Return a name for every model; one that comes twice is timed twice."""
    ends = [Path(model).name for model in set(models)]
    found: dict[str, str] = {}
    for model in models:
        name = Path(model).name if ends.count(Path(model).name) == 1 else model
        count = sum(path == model for path in found.values())
        found[f"{name} ({count + 1})" if count else name] = model
    return found


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise EnvironmentLackingError(f"no device {device!r} here: {reason}") from error


def _row(one: Latency, base: Latency, prompt: int) -> dict[str, Any]:
    """Return what the table shows of a model, times in milliseconds, sizes in bytes."""
    against = ratio(one.decode_ms_per_token.rounds, base.decode_ms_per_token.rounds)
    decode = one.decode_ms_per_token
    return {
        "model": one.model,
        "prompt": prompt,
        "batch": one.batch,
        "threads": one.threads,
        "load_s": one.load_seconds,
        "prefill_ms": one.prefill_ms.median.value,
        "ms_per_token": decode.median.value,
        "ci_low": decode.median.low,
        "ci_high": decode.median.high,
        "p90": decode.p90,
        "tokens_per_s": one.tokens_per_s,
        "roofline": one.roofline,
        "resident": one.resident_before,
        "peak": one.peak_rss_bytes,
        "peak_by_phase": dict(one.peak_rss),
        "settled": one.settled,
        "kernels": ",".join(sorted(set(one.kernels.values()))),
        "ratio": against.value,
        "ratio_low": against.low,
        "ratio_high": against.high,
        "pace": "base" if one is base else str(against.pace),
    }
