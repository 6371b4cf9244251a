"""A training of a model that is large enough to measure, in a process of its own.

    python training_memory.py MODEL METHOD {"rows": 2, ...}

Predicts its memory, trains two steps with a validation behind each, and prints what was predicted
and the kernel's peak, both with what the process held before. Weights are random numbers.
"""

import gc
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.evaluation.memory import kernel_peak, reset_peak, resident
from quantale.quant.blank import pack_blank
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.whole import Methods
from quantale.tuning.footprint import Step, footprint
from quantale.tuning.live_bytes import materialize
from quantale.tuning.loop import train
from quantale.tuning.method import Start, Tuning, Work
from quantale.tuning.methods.distill import Distill
from quantale.tuning.methods.full import Full
from quantale.tuning.methods.heal import Heal
from quantale.tuning.methods.lora import Lora
from quantale.tuning.methods.qat import Qat
from quantale.tuning.settings import TrainData, TrainSettings

TOKENS, WORDS = 256, 8192
METHODS: dict[str, tuple[Tuning, Any]] = {
    "full": (Full(), None),
    "lora": (Lora(), None),
    "qlora": (Lora(), Nf4()),
    "heal": (Heal(), Hqq(2)),
    "heal-adapters": (Heal("adapters"), Nf4()),
    "qat": (Qat(teacher_weight=1.0), Bitnet()),
    "distill": (Distill(layers=2), None),
}
"""What is trained, over what."""


def gpt2() -> Any:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS, n_positions=TOKENS, n_embd=768, n_layer=3, n_head=12,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def llama() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS, hidden_size=768, intermediate_size=2048, num_hidden_layers=3,
            num_attention_heads=12, num_key_value_heads=4, max_position_embeddings=TOKENS,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


MODELS: dict[str, Callable[[], Any]] = {"gpt2": gpt2, "llama": llama}


def built(model: str, method: str, make: Any = None) -> tuple[Start, Tuning]:
    """Return model and teacher on "meta", or of tensors that `make` makes."""
    tuning, through = METHODS[method]
    methods = None if through is None else Methods(through)
    with torch.device("meta"):
        found = MODELS[model]()
        teacher = MODELS[model]().eval().requires_grad_(False) if tuning.needs_teacher else None
        if methods is not None and tuning.order == "quantize-first":
            pack_blank(found, methods)
    for one in (found, teacher) if make is not None else ():
        if one is not None:
            materialize(one, make)
    within = methods if tuning.order == "within" else None
    return Start(found, teacher, within, base="somewhere"), tuning


def filled(tensor: torch.Tensor) -> torch.Tensor:
    return torch.full(tensor.shape, 0.01 if tensor.is_floating_point() else 1, dtype=tensor.dtype)


def trained(work: Work, step: Step) -> None:
    generator = torch.Generator().manual_seed(0)

    def batch(number: int) -> Batch:
        del number
        shape = (step.rows, step.tokens + 1)
        return Batch.of_rows(torch.randint(WORDS, shape, generator=generator))

    settings = TrainSettings(
        steps=2, learning_rate=1e-4, min_learning_rate=0.0, warmup_steps=0, evaluate_every=1,
        checkpoint_every=9, precision=step.precision, optimizer=step.optimizer,
        gradient_checkpointing=step.gradient_checkpointing, accumulation=step.accumulation,
        maps=work.maps, cpu=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        data = TrainData(batch, [batch(0)])
        train(work.model, work.objective, data, settings, Path(folder), Silent())


def main() -> None:
    torch.set_num_threads(1)
    model, method = sys.argv[1:3]
    step = Step(tokens=TOKENS, **json.loads(sys.argv[3]))
    start, tuning = built(model, method)
    with torch.device("meta"):
        work = tuning.begin(start)
    found = footprint(work, step, start.teacher)
    del start, work
    gc.collect()
    before = resident()
    start, tuning = built(model, method, filled)
    work = tuning.begin(start)
    reset_peak()
    trained(work, step)
    done = {"predicted": found.peak + before, "measured": kernel_peak(), "process": before}
    sys.stdout.write(json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
