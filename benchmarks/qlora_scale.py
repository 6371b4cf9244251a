"""QLoRA at the geometry of large Llamas: predicted peak memory against the measured one.

    python -m benchmarks.qlora_scale 1b --length 256 --steps 2
    python -m benchmarks.qlora_scale 8b --plan

Makes a Llama of that geometry whose linear layers are NF4 with random codes (nothing is quantized:
memory and time do not depend on the numbers), puts adapters of rank 16 on q, k, v and o, and trains
some steps on random tokens in the project's own loop. The prediction is that of `quantale plan`:
one step on tensors without data. Blocks of a MiB and more are mapped, as in every training over
packed weights. Prints one JSON line. `--plan` predicts alone. The peak is the kernel's own, reset
when the model is there and read when the loop has ended; where there is a GPU the model goes there,
and torch's own peak is held against what of the prediction lies there.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from benchmarks.scale import GEOMETRIES
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.evaluation.memory import kernel_peak, reset_peak, resident
from quantale.quant.blank import pack_blank
from quantale.quant.linear import parameters
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.whole import Methods
from quantale.tuning.footprint import Footprint, Step, footprint
from quantale.tuning.loop import train
from quantale.tuning.method import Start, Work
from quantale.tuning.methods.lora import Lora
from quantale.tuning.settings import TrainData, TrainResult, TrainSettings

SCALE = 0.02
TARGETS = "q_proj,k_proj,v_proj,o_proj"


def main() -> int:
    """Make the model, predict, train and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("geometry", choices=GEOMETRIES)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--plan", action="store_true", help="predict alone")
    given = parser.parse_args()
    found: dict[str, Any] = {
        "geometry": given.geometry,
        "parameters": parameters(packed(given)),
        "batch": given.batch,
        "length": given.length,
        **prediction(given),
    }
    if given.plan:
        print(json.dumps(found))
        return 0
    ratio = compare(found, given)
    print(json.dumps(found))
    return int(abs(ratio - 1) > 0.15)


def packed(given: argparse.Namespace) -> PreTrainedModel:
    """Return the model on "meta", its linear layers packed."""
    with torch.device("meta"):
        model = LlamaForCausalLM(GEOMETRIES[given.geometry].config())
        pack_blank(model.to(getattr(torch, given.dtype)), Methods(Nf4(group_size=64)))
    return model


def adapted(model: PreTrainedModel, given: argparse.Namespace) -> Work:
    """Put the adapters on."""
    lora = Lora(rank=given.rank, alpha=32.0, dropout=given.dropout, targets=TARGETS)
    return lora.begin(Start(model, base="random weights"))


def prediction(given: argparse.Namespace) -> dict[str, Any]:
    """Return what `quantale plan` says of it, on the CPU with the process."""
    with torch.device("meta"):
        work = adapted(packed(given), given)
    found: Footprint = footprint(
        work,
        Step(
            given.batch,
            given.length,
            precision="fp32",
            gradient_checkpointing=given.checkpointing,
        ),
    )
    process = 0 if torch.cuda.is_available() else resident()
    if torch.cuda.is_available():
        found = found.on_gpu()
    return {"predicted": asdict(found), "predicted_peak_bytes": found.peak + process}


def compare(found: dict[str, Any], given: argparse.Namespace) -> float:
    """Train, add what was measured, and return measured over predicted."""
    model = packed(given)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fill(model, device)
    result, peak = trained(adapted(model, given), given)
    if device == "cuda":
        peak = result.cost.device_peak_bytes or 0
    ratio = peak / found["predicted_peak_bytes"]
    found |= {
        "device": device,
        "measured_peak_bytes": peak,
        "measured_over_predicted": ratio,
        "seconds_a_step": result.cost.seconds / given.steps,
        "validation_loss": result.best_loss,
    }
    return ratio


def fill(model: PreTrainedModel, device: str) -> None:
    """Give everything memory: random codes and weights, equal scales."""
    generator = torch.Generator(device).manual_seed(0)
    random: dict[str, Any] = {"generator": generator, "device": device}
    rotary = type(model.model.rotary_emb)(model.config)
    model.to_empty(device=device)
    model.model.rotary_emb = rotary.to(device)
    model.tie_weights()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.dtype == torch.uint8:
                tensor.copy_(torch.randint(256, tensor.shape, dtype=torch.uint8, **random))
            elif name.endswith(".scale"):
                tensor.fill_(SCALE)
            elif "norm" in name:
                tensor.fill_(1.0)
            elif "rotary" not in name:
                for rows in tensor.split(4096):
                    rows.copy_(torch.randn(rows.shape, **random) * SCALE)


def trained(work: Work, given: argparse.Namespace) -> tuple[TrainResult, int]:
    """Train some steps with a validation behind them; returns the kernel's peak too."""
    generator = torch.Generator().manual_seed(1)
    vocabulary = GEOMETRIES[given.geometry].vocabulary

    def batch(number: int) -> Batch:
        del number
        shape = (given.batch, given.length + 1)
        return Batch.of_rows(torch.randint(vocabulary, shape, generator=generator))

    settings = TrainSettings(
        steps=given.steps,
        learning_rate=2e-4,
        min_learning_rate=0.0,
        warmup_steps=0,
        evaluate_every=given.steps,
        checkpoint_every=given.steps,
        precision="fp32",
        gradient_checkpointing=given.checkpointing,
        maps=work.maps,
    )
    reset_peak()
    with tempfile.TemporaryDirectory() as folder:
        data = TrainData(batch, [batch(0)])
        result = train(work.model, work.objective, data, settings, Path(folder), Silent())
    return result, kernel_peak()


if __name__ == "__main__":
    sys.exit(main())
