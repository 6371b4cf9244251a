"""A narrower student: its teacher at equal width, what was hidden in a wider one, and its use."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tiny_models import (
    tiny_classifier,
    tiny_family,
    tiny_gpt2,
    tiny_llama,
    tiny_nanogpt,
    windows,
)
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.narrow import Widths, narrow
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model
from quantale.tuning.loop import train
from quantale.tuning.method import Start
from quantale.tuning.methods.distill import Distill
from quantale.tuning.methods.full import Full
from quantale.tuning.settings import TrainData, TrainSettings

MODELS: Mapping[str, Callable[[], PreTrainedModel]] = {
    "gpt2": tiny_gpt2,
    "llama": tiny_llama,
    "tied llama": lambda: tiny_llama(tied=True),
    "qwen3": lambda: tiny_family("Qwen3"),
    "mistral": lambda: tiny_family("Mistral"),
    "nanogpt": tiny_nanogpt,
    "classifier": lambda: tiny_classifier("Llama"),
}


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(input_ids=windows(2), use_cache=False).logits
    return found


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("sampled", [False, True])
def test_a_student_of_equal_width_is_its_teacher_bit_for_bit(name: str, sampled: bool) -> None:
    teacher = MODELS[name]()
    student = narrow(teacher, Widths(32), windows(2) if sampled else None)
    assert torch.equal(logits(student), logits(teacher))
    own = {tensor.data_ptr() for tensor in student.parameters()}
    assert own.isdisjoint({tensor.data_ptr() for tensor in teacher.parameters()})


def llama(width: int, mlp: int, heads: int, keys: int) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=96,
            hidden_size=width,
            intermediate_size=mlp,
            num_hidden_layers=2,
            num_attention_heads=heads,
            num_key_value_heads=keys,
            head_dim=8,
            tie_word_embeddings=True,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()


def spread(small: Tensor, places: tuple[Tensor | None, ...], shape: torch.Size) -> Tensor:
    """Put a small tensor among zeros."""
    wide = torch.zeros(shape)
    index = [torch.arange(n) if p is None else p for p, n in zip(places, shape, strict=True)]
    wide[torch.meshgrid(*index, indexing="ij")] = small
    return wide


def test_what_is_hidden_in_a_wider_model_is_found() -> None:
    """Zeros give nothing out, wherever they stand; so the parts between them are what stays."""
    torch.manual_seed(0)
    small, wide = (llama(*sizes) for sizes in ((16, 20, 4, 2), (32, 44, 8, 4)))
    draw = torch.Generator().manual_seed(1)
    channels, columns = (
        torch.randperm(n, generator=draw)[:k].sort().values for n, k in ((32, 16), (44, 20))
    )
    keys = torch.tensor([1, 3])  # of four
    rows = (keys.unsqueeze(-1) * 8 + torch.arange(8)).flatten()
    heads = (keys.unsqueeze(-1) * 16 + torch.arange(16)).flatten()
    places = {
        "q_proj": (heads, channels), "k_proj": (rows, channels), "v_proj": (rows, channels),
        "o_proj": (channels, heads), "gate_proj": (columns, channels),
        "up_proj": (columns, channels), "down_proj": (channels, columns),
        "embed_tokens": (None, channels), "lm_head": (None, channels),
    }  # fmt: skip
    target = wide.state_dict()
    for name, tensor in small.state_dict().items():
        where = places.get(name.split(".")[-2], (channels,))
        target[name] = spread(tensor, where, target[name].shape)
    wide.load_state_dict(target)
    found = narrow(wide, Widths(16, heads=4, mlp=20), windows(4)).state_dict()
    assert found.keys() == small.state_dict().keys()
    assert all(torch.equal(found[name], t) for name, t in small.state_dict().items())
    first = narrow(wide, Widths(16, heads=4, mlp=20)).state_dict()
    assert not all(torch.equal(first[name], t) for name, t in small.state_dict().items())


def rule(count: int, seed: int) -> Tensor:
    """Rows that go on by one rule from where they begin."""
    draw = torch.Generator().manual_seed(seed)
    rows = [torch.randint(64, (count,), generator=draw) for _ in range(2)]
    for _ in range(22):
        rows.append((3 * rows[-1] + 5 * rows[-2] + 7) % 64)
    return torch.stack(rows, 1)


def settings(steps: int, rate: float) -> TrainSettings:
    return TrainSettings(
        steps=steps,
        learning_rate=rate,
        min_learning_rate=rate / 10,
        warmup_steps=2,
        evaluate_every=steps,
        checkpoint_every=steps,
        weight_decay=0.0,
        precision="fp32",
        cpu=True,
    )


def gpt2(width: int, heads: int) -> GPT2LMHeadModel:
    torch.manual_seed(3)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=64, n_positions=32, n_embd=width, n_layer=2, n_head=heads,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def test_a_student_of_the_teacher_learns_faster_than_a_new_one(tmp_path: Path) -> None:
    teacher = gpt2(64, 4)
    data = TrainData(lambda step: Batch.of_rows(rule(16, step)), [Batch.of_rows(rule(32, 10**6))])
    train(teacher, Full(), data, settings(200, 3e-3), tmp_path, Silent())
    teacher.requires_grad_(False)
    losses = {}
    for name, student in (
        ("taken", Distill(width=48, label_weight=0.0, temperature=1.0)),
        ("new", Distill(label_weight=0.0, temperature=1.0)),
    ):
        model = deepcopy(teacher) if name == "taken" else gpt2(48, 3)
        model.requires_grad_(True)
        work = student.begin(Start(model, teacher, sample=rule(16, 0)[:, :-1]))
        assert cast(Any, work.model).config.n_embd == 48
        done = train(work.model, work.objective, data, settings(15, 2e-3), tmp_path, Silent())
        losses[name] = done.best_loss
    assert losses["taken"] < 0.9 * losses["new"]


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        (Widths(48), "width 32; 48 cannot be kept"),
        (Widths(16, heads=3), "2 heads share their keys; 3 heads split them"),
        (Widths(16, mlp=0), "mlp 44; 0 cannot be kept"),
    ],
)
def test_sizes_that_are_not_there_are_refused(widths: Widths, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        narrow(tiny_llama(), widths)


def test_models_that_cannot_be_narrowed_are_refused() -> None:
    with pytest.raises(UsageError, match="16 times the heads; width 24"):
        narrow(tiny_gpt2(), Widths(24))
    with pytest.raises(UsageError, match=r"cannot be narrowed: self_attn.* is not known"):
        narrow(tiny_family("Phi3"), Widths(16))
    with pytest.raises(UsageError, match="cannot have these sizes"):
        narrow(tiny_nanogpt(), Widths(16, mlp=40))
    packed = tiny_gpt2()
    quantize_model(packed, Methods(Rtn(4)))
    with pytest.raises(UsageError, match="narrow the original"):
        narrow(packed, Widths(16))
