"""A real pretrained Llama, quantized by both methods at 8, 4 and 3 bits.

Its MLP is 172 wide, no multiple of the group, and its heads share keys and values.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from torch import Tensor

from quantale.core.files import sealed_folder
from quantale.data.load import load_documents
from quantale.data.windows import calibration_windows, encode_documents
from quantale.models.load import load
from quantale.quant.proof import logits_digest
from quantale.quant.save import verify_saves, write_model
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.variants import make_method

pytestmark = needs_shared

BITS = (8, 4, 3)
SETTINGS = {"group_size": 64}


@dataclass(frozen=True)
class Variant:
    """One quantized copy, measured and saved."""

    folder: Path
    digest: str
    divergence: float
    """KL from the base in nats a token on stories that did not calibrate."""


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Variant]:
    calibrating, tested = windows("train.txt", 32), windows("valid.txt", 8)
    with torch.no_grad():
        base = load(STORIES260K).model(tested).logits.log_softmax(-1)
    place = tmp_path_factory.mktemp("llama")
    made = {}
    for name in ("rtn", "gptq"):
        for bits in BITS:
            model, tokenizer, _ = load(STORIES260K)
            method = make_method(name, {"bits": bits, **SETTINGS})
            results = quantize_model(model, Methods(method), calibrating, batch_size=16)
            assert len(results) == 5 * 7
            with torch.no_grad():
                other = model(tested).logits.log_softmax(-1)
            divergence = float((base.exp() * (base - other)).sum(-1).mean())
            folder = place / f"{name}-{bits}"
            with sealed_folder(folder) as staged:
                write_model(model, tokenizer, staged)
            made[name, bits] = Variant(folder, logits_digest(model), divergence)
    return made


def windows(file: str, samples: int) -> Tensor:
    """Return windows (samples, 256) of the first 200 real stories."""
    documents = load_documents(f"{TINYSTORIES / file}[:200]")
    stream = encode_documents(load(STORIES260K).tokenizer, documents.texts)
    return calibration_windows(stream, samples, 256, seed=0)


def test_every_save_is_bit_equal_in_a_fresh_process(
    variants: dict[tuple[str, int], Variant],
) -> None:
    assert len({variant.digest for variant in variants.values()}) == 2 * len(BITS)
    verify_saves({variant.folder: variant.digest for variant in variants.values()})


@pytest.mark.parametrize("name", ["rtn", "gptq"])
def test_fewer_bits_diverge_more(name: str, variants: dict[tuple[str, int], Variant]) -> None:
    eight, four, three = (variants[name, bits].divergence for bits in BITS)
    assert 0 < eight < 0.001
    assert 4 * eight < four
    assert 2 * four < three < 1


def test_gptq_stays_nearer_to_the_base_than_rounding(
    variants: dict[tuple[str, int], Variant],
) -> None:
    assert variants["gptq", 3].divergence < 0.7 * variants["rtn", 3].divergence
    assert variants["gptq", 4].divergence < 0.9 * variants["rtn", 4].divergence
