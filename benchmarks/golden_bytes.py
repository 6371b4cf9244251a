"""Published sizes, packed for real: `python -m benchmarks.golden_bytes`.

Models of the published geometry get random weights, are quantized and saved, and their files and
resident bytes are compared with arithmetic done here from shapes alone. Prints a table; exits with
1 when a file is further from the arithmetic than its header.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, PreTrainedModel

from quantale.quant.ledger import Ledger, inspect
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.rules import Rule
from quantale.quant.save import write_model
from quantale.quant.whole import quantize_model

HEADER = 64 * 1024
"""Largest safetensors header that counts as header bytes; a tensor takes about 100 of them."""
LINEARS = ("attention", "mlp")
EMBEDDINGS = ("embedding", "position")

_DISTIL_LINEAR = 6 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072)
_DISTIL_EMBEDDING = (50257 + 1024) * 768
_DISTIL_REST = 6 * (2304 + 768 + 3072 + 768 + 4 * 768) + 2 * 768  # biases and norms


@dataclass(frozen=True)
class Case:
    """One published size."""

    name: str
    published: str
    arithmetic: int
    """Bytes of all tensors."""
    make: Callable[[], PreTrainedModel]
    """Quantized model."""


def main() -> None:
    """Measure every case."""
    torch.manual_seed(0)
    print("| model | published | arithmetic | on disk | resident |\n|---|---|--:|--:|--:|")
    wrong = []
    for case in CASES:
        ledger = measure(case)
        disk = ledger.bytes_on_disk or 0
        row = f"{case.arithmetic:,} | {disk:,} | {ledger.bytes_resident:,}"
        print(f"| {case.name} | {case.published} | {row} |", flush=True)
        if ledger.bytes_resident != case.arithmetic or not 0 < disk - case.arithmetic < HEADER:
            wrong.append(case.name)
    if wrong:
        raise SystemExit(f"further from the arithmetic than a header: {', '.join(wrong)}")


def measure(case: Case) -> Ledger:
    """Quantize, save, and read the ledger of the files."""
    model = case.make()
    with tempfile.TemporaryDirectory() as folder:
        write_model(model, None, Path(folder))
        return inspect(model, Path(folder))


def distil(*rules: Rule) -> Callable[[], PreTrainedModel]:
    """Return what makes a quantized DistilGPT2 whose rest is float16."""

    def make() -> PreTrainedModel:
        model = GPT2LMHeadModel(GPT2Config(n_layer=6)).half()
        quantize_model(model, list(rules))
        return model

    return make


def classifier() -> PreTrainedModel:
    """Return GPT-2 with a head of four classes, every weight in int8 with one scale a tensor."""
    model = GPT2ForSequenceClassification(GPT2Config(num_labels=4, pad_token_id=50256))
    whole = Rtn(bits=8, group_size="tensor", symmetric=True, scale_dtype="float32")
    quantize_model(model, [Rule(whole, role=("norm", "head")), Rule(whole)])
    return model


def grouped(weights: int, bits: int, metadata_bits: int) -> int:
    """Return the bytes of weights in groups of 64."""
    return weights * bits // 8 + weights // 64 * metadata_bits // 8


def _double(weights_a_block: list[int]) -> int:
    """Return the bytes of double-quantized scales, matrix by matrix: codes, absmax and mean."""
    scales = [weights // 64 for weights in weights_a_block]
    return sum(count + 4 * -(-count // 256) + 4 for count in scales)


def _classifier_bytes() -> int:
    weights = 12 * (768 * 2304 + 768 * 768 + 2 * 768 * 3072 + 2 * 768)
    weights += (50257 + 1024) * 768 + 768 + 4 * 768
    biases = 12 * (2304 + 768 + 3072 + 768 + 2 * 768) + 768
    tensors = 12 * 6 + 4
    return weights + 4 * biases + 4 * tensors


_MATRICES = [768 * 2304, 768 * 768, 768 * 3072, 768 * 3072] * 6
_NF4 = Rule(Nf4(), role=LINEARS)
_NF4_DOUBLE = Rule(Nf4(double_quant=True), role=LINEARS)
_ONE_BIT = Rule(Hqq(1, iterations=1), role=LINEARS)
_HALF = 2 * (_DISTIL_EMBEDDING + _DISTIL_REST)


def _packed_ends(bits: int) -> Rule:
    return Rule(Rtn(bits, 64), role=EMBEDDINGS)


def _ends_bytes(bits: int) -> int:
    rows = 50257 + 1024
    return grouped(_DISTIL_EMBEDDING, bits, 16) + rows * -(-12 * bits // 8) + 2 * _DISTIL_REST


CASES = (
    Case(
        "GPT-2, 4 classes, int8 a tensor, norms included",
        "118.971 MiB",
        _classifier_bytes(),
        classifier,
    ),
    Case(
        "DistilGPT2, NF4 block 64, rest fp16",
        "102.8 MB",
        grouped(_DISTIL_LINEAR, 4, 32) + _HALF,
        distil(_NF4),
    ),
    Case(
        "same, double-quantized",
        "100.8 MB",
        _DISTIL_LINEAR // 2 + _double(_MATRICES) + _HALF,
        distil(_NF4_DOUBLE),
    ),
    Case(
        "DistilGPT2, 1 bit group 64, rest fp16",
        "86.9 MB",
        grouped(_DISTIL_LINEAR, 1, 32) + _HALF,
        distil(_ONE_BIT),
    ),
    Case(
        "same, embeddings of 8 bits",
        "under 50 MB",
        grouped(_DISTIL_LINEAR, 1, 32) + _ends_bytes(8),
        distil(_ONE_BIT, _packed_ends(8)),
    ),
    Case(
        "same, embeddings of 4 bits",
        "under 40 MB",
        grouped(_DISTIL_LINEAR, 1, 32) + _ends_bytes(4),
        distil(_ONE_BIT, _packed_ends(4)),
    ),
)

if __name__ == "__main__":
    main()
