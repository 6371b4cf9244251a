"""Speed and memory of models, each in processes of its own, into a sealed run."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch

from quantale.core import run as runs
from quantale.core.progress import Progress
from quantale.core.recipe import BenchSection
from quantale.core.records import write_json, write_lines
from quantale.core.run import Run, RunKey
from quantale.evaluation import latency
from quantale.evaluation.latency import LatencySettings

VERSION = 1


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
        describe="quantale.quant.ledger:kernel_names",
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
