"""Steps of full and of quantization-aware training, in turns: benchmarks.qat_speed MODEL

Processor seconds are counted, not those of the clock, so that a busy machine does not decide. One
thread; random tokens; forward, backward and AdamW. The last column is the ratio to full training.
"""

import argparse
import copy
import statistics
import time
from typing import Any

import torch

from quantale.data.batch import Batch
from quantale.models.load import load
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods
from quantale.tuning.method import Start, Work
from quantale.tuning.methods.full import Full
from quantale.tuning.methods.qat import Qat

METHODS: dict[str, Methods | None] = {
    "full": None,
    "bitnet": Methods(Bitnet()),
    "binary": Methods(Binary()),
    "rtn 4 bits": Methods(Rtn(4, 64)),
    "nf4": Methods(Nf4()),
}


def main() -> None:
    """Print a line a method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    base = load(asked.model).model
    shape = (asked.rows, asked.tokens + 1)
    batch = Batch.of_rows(torch.randint(base.config.vocab_size, shape))
    works = {name: _work(base, methods) for name, methods in METHODS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(1 + asked.rounds):
        for name, (work, optimizer) in works.items():
            seconds[name].append(_step(work, optimizer, batch))
    middle = {name: statistics.median(found[1:]) for name, found in seconds.items()}
    for name, found in middle.items():
        rate, ratio = batch.positions / found, middle["full"] / found
        print(f"{name:12} {found:7.3f} s a step {rate:9.0f} tokens/s {ratio:6.2f}")


def _work(base: Any, methods: Methods | None) -> tuple[Work, torch.optim.Optimizer]:
    tuning = Full() if methods is None else Qat()
    work = tuning.begin(Start(copy.deepcopy(base).train(), methods=methods))
    weights = list(work.objective.trainable(work.model).values())
    return work, torch.optim.AdamW(weights, lr=1e-5, fused=True)


def _step(work: Work, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    started = time.process_time()
    work.objective.loss(work.model, batch).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.process_time() - started


if __name__ == "__main__":
    main()
