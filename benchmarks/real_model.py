"""Quality of RTN and GPTQ on any local model directory, all variants on the same tokens.

    python benchmarks/real_model.py MODEL --calibration stories.txt --data "other.txt[:100]"

Prints one line a variant: bytes of the quantized weights, perplexity, mean KL to fp32 with its
95 % interval, top-1 agreement, seconds to quantize.
"""

import argparse
import time

from quantale import load, quantize
from quantale.data.load import load_documents
from quantale.evaluation.language import LanguageSettings, score
from quantale.evaluation.summary import measurements
from quantale.quant.ledger import inspect
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.rtn import Rtn


def main() -> None:
    """Quantize, score and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--data", required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--group-size", type=int, default=32)
    parser.add_argument("--cut", type=int, default=None)
    given = parser.parse_args()
    base = load(given.model)
    models, seconds = {"fp32": base.model}, {"fp32": 0.0}
    for bits in (8, 4, 3):
        for kind in (Rtn, Gptq):
            name = f"{kind.__name__.lower()}-{bits}bit"
            started = time.perf_counter()
            made = quantize(
                (base.model, base.tokenizer),
                kind(bits, given.group_size),
                data=given.calibration,
                samples=given.samples,
                length=given.length,
            )
            seconds[name] = time.perf_counter() - started
            models[name] = made[0]
    settings = LanguageSettings(cut=given.cut)
    found = score(models, base.tokenizer, load_documents(given.data), settings, "fp32")
    numbers = {(m.model, m.metric): m for m in measurements(found.documents, found.protocol)}
    print(f"{given.model}, {given.data}, {found.protocol}, group {given.group_size}")
    print(f"{'variant':12} {'linear bytes':>12} {'perplexity':>10} {'KL':>9} {'95 %':>19} "
          f"{'top-1':>7} {'s':>6}")  # fmt: skip
    for name, model in models.items():
        kl, top = numbers[name, "kl_mean"], numbers[name, "top1_agreement"]
        ledger = inspect(model)
        size = sum(s.nbytes for s in ledger.sites if s.role in ("attention", "mlp"))
        print(
            f"{name:12} {size:12,} {numbers[name, 'perplexity'].value:10.4f} {kl.value:9.5f} "
            f"{kl.ci_low or 0:9.5f}-{kl.ci_high or 0:9.5f} {top.value:7.2%} {seconds[name]:6.1f}"
        )


if __name__ == "__main__":
    main()
