"""Make every variant of a model, each in a process of its own, once."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.variants import Variant

ROOT = Path(__file__).parents[1]
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
}


def make(
    variants: Sequence[Variant], model: Path, calibration: Path, peers: Path, out: Path
) -> None:
    """Make the folder OUT/NAME of every variant that is not done; `peers` is their interpreter.

    A variant that fails leaves its last line of output in OUT/NAME/error.txt. One that a signal
    ended says nothing about its maker: that stops everything, and a later call makes it again.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, variant in enumerate(variants, start=1):
        target = out / variant.name
        if any((target / name).exists() for name in ("result.json", "error.txt")):
            continue
        shutil.rmtree(target, ignore_errors=True)
        started = time.perf_counter()
        error = run_variant(variant, model, target, calibration, peers)
        seconds = time.perf_counter() - started
        if error is not None:
            target.mkdir(exist_ok=True)
            (target / "error.txt").write_text(error + "\n", encoding="utf-8")
        print(f"{number}/{len(variants)} {variant.name}: {error or f'{seconds:.0f} s'}", flush=True)


def run_variant(
    variant: Variant,
    model: Path,
    target: Path,
    calibration: Path,
    peers: Path,
    *options: str,
    threads: int = 1,
) -> str | None:
    """Run one variant in a fresh process; returns the last line of output when it fails.

    Raises SystemExit when a signal ended it.
    """
    ours = variant.maker == "quantale"
    command = [
        sys.executable if ours else str(peers),
        "-m",
        "benchmarks.own" if ours else "benchmarks.peers",
        str(model.resolve()),
        str(target.resolve()),
        "--calibration",
        str(calibration.resolve()),
        "--threads",
        str(threads),
        *variant.words,
        *options,
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(threads), capture_output=True, text=True, check=False
    )
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        raise SystemExit(f"{variant.name}: ended by signal {-done.returncode}; start again")
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit {done.returncode}"


def environment(threads: int = 1) -> Mapping[str, str]:
    """Return the variables that every process of a comparison gets."""
    return {**os.environ, **_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
