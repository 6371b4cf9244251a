"""`quantale bench`: time models beside one another, each in fresh processes."""

from pathlib import Path
from typing import Annotated

import typer

from quantale.cli.arguments import check_models
from quantale.cli.options import Debug, Json, Seed
from quantale.cli.terminal import Terminal, table
from quantale.core.errors import UsageError
from quantale.stages.requests import BenchRequest

_COLUMNS = {
    "model": "model",
    "prompt": "prompt",
    "batch": "batch",
    "threads": "threads",
    "load_s": "load s",
    "prefill_ms": "prefill ms",
    "ms_per_token": "ms/token",
    "ci_low": "from",
    "ci_high": "to",
    "p90": "p90",
    "tokens_per_s": "tokens/s",
    "roofline": "of roofline",
    "peak": "peak bytes",
    "kernels": "kernels",
    "ratio": "ratio",
    "ratio_low": "from ",
    "ratio_high": "to ",
    "pace": "against the first",
}


def bench(
    models: Annotated[list[str], typer.Argument(help="Model directories or Hub names.")],
    batch: Annotated[
        str, typer.Option("--batch", metavar="N,...", help="Sequences together; a sweep.")
    ] = "1",
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N,...", help="Of a process; a sweep.")
    ] = None,
    prompt: Annotated[
        str, typer.Option("--prompt", metavar="N,...", help="Tokens of the prompt; a sweep.")
    ] = "16",
    new_tokens: Annotated[
        int, typer.Option("--new", min=1, help="Tokens decoded.")
    ] = BenchRequest.new_tokens,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Processes a model; six tell a difference.")
    ] = BenchRequest.rounds,
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="Timed runs a process.")
    ] = BenchRequest.runs,
    kernels: Annotated[
        str, typer.Option("--kernels", help="fast, or exact: as the format defines.")
    ] = BenchRequest.kernels,
    device: Annotated[
        str, typer.Option("--device", help="cpu, cuda, cuda:1.")
    ] = BenchRequest.device,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Write the records here.")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure load, prefill and decode times and memory of models, interleaved."""
    check_models(models)
    request = BenchRequest(
        tuple(models),
        batches=_counts("--batch", batch),
        threads=() if threads is None else _counts("--threads", threads),
        prompts=_counts("--prompt", prompt),
        new_tokens=new_tokens,
        rounds=rounds,
        runs=runs,
        kernels=kernels,
        device=device,
        seed=seed,
    )
    terminal = Terminal(as_json, debug)
    from quantale.stages.bench import bench_models

    with terminal.progress() as progress:
        found = bench_models(request, out, progress)
    rows = [{_COLUMNS[key]: row[key] for key in _COLUMNS} for row in found["timings"]]
    text = table(rows, list(_COLUMNS.values()))
    unsettled = {row["model"] for row in found["timings"] if not row["settled"]}
    if unsettled:
        text += f"\nnot settled (warm-up runs differ by over 5 %): {', '.join(sorted(unsettled))}"
    terminal.result(found, text)


def _counts(option: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of "1,4,16"; raises UsageError for anything else."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{option} takes whole numbers above 0, as 1,4,16; {text!r} came")
    return tuple(dict.fromkeys(map(int, words)))
