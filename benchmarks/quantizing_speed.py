"""Seconds and peak memory to quantize a GPT-2 of 124M parameters to 4 bits, ours and the peers'.

    python -m benchmarks.quantizing_speed --peers .venv-peers

Random weights, random tokens. Every contender runs in a fresh process, and all take turns in
every round, so that a busy machine disturbs all alike; ratios are taken round by round. Times
leave imports, loading and saving out; peaks are of the whole process.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks.making import run_variant
from benchmarks.variants import Variant, own, peer
from quantale.core.records import read_json

CONTENDERS = (
    own("gptq", "gptq", bits=4, group_size=64),
    own("gptq-plain", "gptq", bits=4, group_size=64, act_order=False, clip="none", refine=0),
    peer("gptqmodel", "gptqmodel", bits=4, group_size=64),
    own("hqq", "hqq", bits=4, group_size=64),
    peer("hqqlib", "hqq", bits=4, group_size=64),
    own("nf4", "nf4"),
    peer("bitsandbytes-nf4", "bitsandbytes"),
    own("rtn", "rtn", bits=4, group_size=64),
)
RATIOS = (
    ("gptq", "gptqmodel"),
    ("gptq-plain", "gptqmodel"),
    ("hqq", "hqqlib"),
    ("nf4", "bitsandbytes-nf4"),
)
"""Ours over theirs."""


@dataclass(frozen=True)
class Cost:
    """Of one process."""

    seconds: float
    peak: int
    """Bytes."""


def main() -> None:
    """Make the model, take turns, print."""
    asked = _arguments()
    chosen = [one for one in CONTENDERS if not asked.only or one.name in asked.only]
    with tempfile.TemporaryDirectory(prefix="speed-") as name:
        place = Path(name)
        model, windows = place / "model", place / "windows.safetensors"
        make_model(model, asked.layers)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(50257, (asked.samples, asked.length), generator=generator)
        save_file({"windows": tokens}, windows)
        peers = asked.peers / "bin" / "python"
        costs: dict[str, list[Cost]] = {one.name: [] for one in chosen}
        for turn in range(asked.rounds):
            for one in chosen:
                target = place / f"{one.name}-{turn}"
                error = run_variant(
                    one, model, target, windows, peers, "--no-model", threads=asked.threads
                )
                if error is not None:
                    raise SystemExit(f"{one.name}: {error}")
                result = read_json(target / "result.json")
                costs[one.name].append(Cost(result["seconds"], result["peak_rss_bytes"]))
                print(f"round {turn + 1} {one.name}: {result['seconds']:.2f} s", flush=True)
    layers = f"GPT-2, {asked.layers} layers of width 768"
    print(f"\n{layers}, {asked.samples} x {asked.length} tokens, {asked.threads} thread(s)\n")
    print(table(chosen, costs))


def make_model(folder: Path, layers: int) -> None:
    """Write a GPT-2 of width 768 with random weights."""
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_layer=layers)).save_pretrained(folder)


def table(chosen: Sequence[Variant], costs: dict[str, list[Cost]]) -> str:
    """Return medians of every contender and the ratios of ours to theirs, as Markdown."""
    lines = ["| contender | seconds, median (least to most) | peak MB |", "|---|---:|---:|"]
    for one in chosen:
        times = [cost.seconds for cost in costs[one.name]]
        spread = f"{statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f})"
        peak = max(cost.peak for cost in costs[one.name]) / 1e6
        name = f"**{one.name}**" if one.maker == "quantale" else one.name
        lines.append(f"| {name} | {spread} | {peak:.0f} |")
    lines += ["", "| ours over theirs | seconds | peak |", "|---|---:|---:|"]
    for ours, theirs in RATIOS:
        if ours in costs and theirs in costs:
            pairs = list(zip(costs[ours], costs[theirs], strict=True))
            seconds = statistics.median(a.seconds / b.seconds for a, b in pairs)
            peak = statistics.median(a.peak / b.peak for a, b in pairs)
            lines.append(f"| {ours} / {theirs} | {seconds:.2f} | {peak:.2f} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="their environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12, help="12: 124M parameters")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="names of contenders")
    return parser.parse_args()


if __name__ == "__main__":
    main()
