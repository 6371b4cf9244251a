"""One bit that still tells a story: what each way to few bits loses, and what it takes.

    python -m benchmarks.one_bit MODEL --data train.txt --test valid.txt --out runs/one-bit

Every recipe is made by the stages that `quantale` runs, into sealed folders below OUT/MODEL, and
measured on documents that no training saw, paired with the model in full precision. What is there
already is not made again. Seconds are wall time, processor seconds those of all threads: where
other programs run, only the second can be compared.
"""

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quantale.cli.progress import Lines
from quantale.core.progress import Progress
from quantale.core.recipe_training import TrainSection
from quantale.core.recipe_variants import VariantSection
from quantale.core.records import read_json, write_json
from quantale.core.registry import TUNINGS
from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.stages.calibration import CalibrationText
from quantale.stages.corpus import Corpus, first_documents
from quantale.stages.heal import QAT_MOMENTUM, Budget, taught_corpus, taught_section
from quantale.stages.paired import pair
from quantale.stages.quantize import Source, quantize_stage, source_of
from quantale.stages.tune import Tuned, tune_stage, tuning_of


@dataclass(frozen=True)
class Way:
    """One row of the table."""

    name: str
    quantized: dict[str, Any]
    """Method and bits."""
    method: str | None = None
    """Tuning method; None: nothing is trained."""
    settings: dict[str, Any] | None = None
    rate: float = 0.0
    """Peak learning rate."""
    momentum: float = 0.9


def _hqq(bits: int, group: int = 64) -> dict[str, Any]:
    return {"method": "hqq", "bits": bits, "group_size": group}


def _gptq(bits: int, group: int = 64) -> dict[str, Any]:
    settings = {"zero_dtype": "float16", "correct": 0.5}
    return {"method": "gptq", "bits": bits, "group_size": group, "settings": settings}


QAT_RATE = 3e-4
BINARY: dict[str, Any] = {"method": "binary", "group_size": 64}
FIRST_ATTENTION: dict[str, Any] = {
    "match": "**.0.*attn.*",
    "method": "rtn",
    "bits": 3,
    "group_size": 64,
}
"""Block 0's attention: a ninth of a GPT-2's block weights, and most of what one bit costs there."""
WIDE = {**BINARY, "group_size": 128, "rules": (FIRST_ATTENTION,)}
FEW_SCALES = {**BINARY, "group_size": 256}
FIRST_RANK = "**.0.*attn.*=96"
TERNARY: dict[str, Any] = {"method": "bitnet", "group_size": 64}


def _qat(name: str, quantized: dict[str, Any], **settings: Any) -> Way:
    taught = {"teacher_weight": 1.0, **settings}
    return Way(name, quantized, "qat", taught, QAT_RATE, QAT_MOMENTUM)


WAYS = (
    Way("hqq-1", _hqq(1)),
    Way("hqq-1-scales", _hqq(1), "heal", {"parts": "scales,zeros"}, 1e-2),
    Way("hqq-1-healed", _hqq(1), "heal", {}, 1e-2),
    Way("gptq-1", _gptq(1)),
    Way("gptq-1-healed", _gptq(1), "heal", {}, 1e-2),
    Way("hqq-2", _hqq(2)),
    Way("hqq-2-scales", _hqq(2), "heal", {"parts": "scales,zeros"}, 1e-2),
    Way("hqq-2-healed", _hqq(2), "heal", {}, 1e-2),
    Way("hqq-2-g16-healed", _hqq(2, 16), "heal", {}, 1e-2),
    Way("gptq-2", _gptq(2)),
    Way("gptq-2-healed", _gptq(2), "heal", {}, 1e-2),
    Way("gptq-2-g32-healed", _gptq(2, 32), "heal", {}, 1e-2),
    Way("gptq-2-g16", _gptq(2, 16)),
    Way("gptq-2-g16-healed", _gptq(2, 16), "heal", {}, 1e-2),
    Way("rtn-3", {"method": "rtn", "bits": 3, "group_size": 64}),
    Way("rtn-3-healed", {"method": "rtn", "bits": 3, "group_size": 64}, "heal", {}, 1e-2),
    _qat("binary-qat", BINARY),
    _qat("binary-qat-attn3", {**BINARY, "rules": (FIRST_ATTENTION,)}),
    _qat("binary-qat-attn3-g128", WIDE),
    _qat("binary-qat-attn3-g128-even", WIDE, equalize=True),
    _qat("binary-qat-rank16", FEW_SCALES, rank=16, rank_pattern=FIRST_RANK),
    _qat("binary-qat-rank16-even", FEW_SCALES, rank=16, rank_pattern=FIRST_RANK, equalize=True),
    _qat("ternary-qat", {"method": "bitnet"}),
    _qat("ternary-qat-g64", TERNARY),
    _qat("ternary-qat-g64-even", TERNARY, equalize=True),
)


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    base: Source
    corpus: Corpus
    test: Documents
    budget: Budget
    out: Path
    progress: Progress


def main() -> None:
    """Make and measure what is asked for, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", help="directory of a model in full precision")
    parser.add_argument("--data", required=True, help="what is trained on")
    parser.add_argument("--test", required=True, help="what is measured on")
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--only", help="names of rows, with commas between")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/one-bit"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    bench = Bench(
        source_of(asked.model),
        taught_corpus(asked.data, 0),
        first_documents(load_documents(asked.test, split="test"), asked.documents),
        Budget(asked.steps, asked.batch_size),
        asked.out,
        Lines(sys.stderr),
    )
    names = asked.only.split(",") if asked.only else [way.name for way in WAYS]
    ways = [way for way in WAYS if way.name in names and _is_there(way)]
    print(table([row(bench, way) for way in ways]))


def _is_there(way: Way) -> bool:
    return way.method is None or way.method in TUNINGS.names()


def row(bench: Bench, way: Way) -> dict[str, Any]:
    """Return the row of a way, made now or read from OUT/rows/NAME.json."""
    path = bench.out / "rows" / f"{way.name}.json"
    if path.exists():
        found: dict[str, Any] = read_json(path)
        return found
    wall, processor = time.perf_counter(), time.process_time()
    folder, summary = make(bench, way)
    spent = {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
    }
    lost = pair(bench.base.folder, folder, bench.test, 0, bench.progress).record()
    sizes = {key: summary[key] for key in ("bytes_on_disk", "bits_per_weight")}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"name": way.name, **lost, **sizes, **spent})
    return row(bench, way)


def make(bench: Bench, way: Way) -> tuple[Path, dict[str, Any]]:
    """Return the model folder of a way and what its run says of it."""
    variant = VariantSection(name=way.name, **way.quantized)
    section = _section(bench, way)
    is_within = section is not None and tuning_of(section).order == "within"
    source = bench.base
    if not is_within:
        run = quantize_stage(
            source,
            variant,
            CalibrationText(bench.corpus.train, 64, None, 0),
            bench.out / "quantized" / way.name,
            resume=True,
            progress=bench.progress,
            verify=False,
        )
        if section is None:
            return run.path, read_json(run.path / "summary.json")
        source = Source(run.path, run.digest)
    plan = Tuned(
        section=section,  # type: ignore[arg-type]
        source=source,
        teacher=bench.base,
        corpus=bench.corpus,
        seed=0,
        quantized=variant if is_within else None,
    )
    run = tune_stage(plan, bench.out / "tuned" / way.name, resume=True, progress=bench.progress)
    return run.path / "model", read_json(run.path / "summary.json")


def _section(bench: Bench, way: Way) -> TrainSection | None:
    if way.method is None:
        return None
    return taught_section(way.method, way.settings or {}, way.rate, bench.budget, way.momentum)


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| way | bits a weight | bytes | perplexity | 95 % interval | KL | s | processor s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one['name']} | {one['bits_per_weight']:.2f} | {one['bytes_on_disk']:,} "
        f"| {one['rise']:+.1%} | {one['rise_low']:+.1%} to {one['rise_high']:+.1%} "
        f"| {one['kl']:.3f} | {one['seconds']:.0f} | {one['processor_seconds']:.0f} |"
        for one in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
