"""QLoRA at the geometry of large Llamas: predicted peak memory against the measured one.

    python -m benchmarks.qlora_scale 1b --length 256 --steps 2
    python -m benchmarks.qlora_scale 8b --plan

Makes a Llama of that geometry whose linear layers are NF4 with random codes (nothing is quantized:
memory and time do not depend on the numbers), puts adapters of rank 16 on q, k, v and o, and trains
some steps on random tokens. Blocks of a MiB and more are mapped, because glibc's heap keeps holes
between activations and the parts of dequantized weights. Prints one JSON line. `--plan` prints the
arithmetic alone. Where there is a GPU the model goes there and torch's own peak is what counts.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from typing import Any

import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from benchmarks.scale import GEOMETRIES
from quantale.core import heap
from quantale.data.batch import Batch
from quantale.evaluation.memory import watching
from quantale.quant.formats.codebook import Codebook
from quantale.quant.hf import mark_quantized, swap
from quantale.quant.linear import PackedModule, parameters
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.sites import LINEAR_ROLES, list_sites
from quantale.quant.stored import StoredSite
from quantale.tuning.memory import Predicted, Trained, geometry_of, predict, resident_bytes
from quantale.tuning.method import Start
from quantale.tuning.methods.lora import Lora

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
    parser.add_argument("--plan", action="store_true", help="print the arithmetic alone")
    given = parser.parse_args()
    heap.map_blocks(2**20)
    with torch.device("meta"):
        model = LlamaForCausalLM(GEOMETRIES[given.geometry].config())
    pack_empty(model.to(getattr(torch, given.dtype)))
    lora = Lora(rank=given.rank, alpha=32.0, dropout=given.dropout, targets=TARGETS)
    device = "cuda" if torch.cuda.is_available() and not given.plan else "cpu"
    if not given.plan:
        fill(model, device)
    work = lora.begin(Start(model, base="random weights"))
    trainable = sum(p.numel() for p in work.objective.trainable(model).values())
    predicted = prediction(model, trainable, given)
    found: dict[str, Any] = {
        "geometry": given.geometry,
        "parameters": parameters(model),
        "trainable": trainable,
        "batch": given.batch,
        "length": given.length,
        "predicted": asdict(predicted),
    }
    if given.plan:
        print(json.dumps(found | {"predicted_peak_bytes": predicted.peak}))
        return 0
    if given.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    measured, seconds, losses = trained(work, given, device)
    expected = predicted.peak - (predicted.process if device == "cuda" else 0)
    found |= {
        "device": device,
        "predicted_peak_bytes": expected,
        "measured_peak_bytes": measured,
        "measured_over_predicted": measured / expected,
        "seconds_a_step": seconds / given.steps,
        "losses": losses,
    }
    print(json.dumps(found))
    return int(abs(measured / expected - 1) > 0.15)


def prediction(model: PreTrainedModel, trainable: int, given: argparse.Namespace) -> Predicted:
    """Return the arithmetic for a model that is there, on "meta" or in memory."""
    itemsize = model.dtype.itemsize
    packed = [m.shape for m in model.modules() if isinstance(m, PackedModule)]
    how = Trained(
        batch=given.batch,
        length=given.length,
        trainable=trainable,
        rank=given.rank,
        dropout=given.dropout > 0,
        checkpointing=given.checkpointing,
        itemsize=itemsize,
    )
    largest = max((rows * width for rows, width in packed), default=0) * itemsize
    return predict(geometry_of(model.config), resident_bytes(model), largest, how)


def pack_empty(model: PreTrainedModel) -> None:
    """Put empty NF4 layers where the linear layers of the blocks are."""
    layout = Nf4(group_size=64).quantize(torch.zeros(1, 64)).format
    assert isinstance(layout, Codebook)
    sites = [
        StoredSite(site.name, site.role, "nf4", site.shape, layout, bias=False)
        for site in list_sites(model)
        if site.role in LINEAR_ROLES
    ]
    for site in sites:
        swap(model, site)
    mark_quantized(model, sites)


def fill(model: PreTrainedModel, device: str) -> None:
    """Give everything memory: random codes and weights, equal scales."""
    generator = torch.Generator().manual_seed(0)
    rotary = type(model.model.rotary_emb)(model.config)
    model.to_empty(device=device)
    model.model.rotary_emb = rotary.to(device)
    model.tie_weights()
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.dtype == torch.uint8:
                tensor.copy_(torch.randint(256, tensor.shape, generator=generator).to(torch.uint8))
            elif name.endswith(".scale"):
                tensor.fill_(SCALE)
            elif "norm" in name:
                tensor.fill_(1.0)
            elif "rotary" not in name:
                for rows in tensor.split(4096):
                    rows.copy_(torch.randn(rows.shape, generator=generator) * SCALE)


def trained(work: Any, given: argparse.Namespace, device: str) -> tuple[int, float, list[float]]:
    """Train some steps; returns peak bytes, seconds and the losses."""
    model = work.model.train()
    weights = list(work.objective.trainable(model).values())
    optimizer = torch.optim.AdamW(weights, lr=2e-4, fused=True)
    generator = torch.Generator().manual_seed(1)
    losses = []
    started = time.perf_counter()
    with watching() as peak:
        for _ in range(given.steps):
            shape = (given.batch, given.length + 1)
            rows = torch.randint(model.config.vocab_size, shape, generator=generator)
            loss = work.objective.loss(model, Batch.of_rows(rows).to(torch.device(device)))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(float(loss.detach()))
            print(f"loss {losses[-1]:.4f}", file=sys.stderr, flush=True)
    seconds = time.perf_counter() - started
    resident = torch.cuda.max_memory_allocated() if device == "cuda" else peak.resident
    return resident, seconds, losses


if __name__ == "__main__":
    sys.exit(main())
