"""Healing in the loop: what moves, what stays, and that the end is what was trained."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, tiny_family, tiny_gpt2, tiny_llama, windows
from torch import Tensor
from transformers import PreTrainedModel

from quantale.core.errors import UsageError
from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.adapter_record import bare
from quantale.models.adapters import write_adapter
from quantale.models.load import load
from quantale.quant.cast import cast_rest
from quantale.quant.linear import PackedModule
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model
from quantale.tuning.loop import train
from quantale.tuning.method import Start
from quantale.tuning.methods.heal import Heal
from quantale.tuning.settings import TrainData, TrainSettings

SETTINGS = TrainSettings(
    steps=6,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=1,
    evaluate_every=3,
    checkpoint_every=6,
    precision="fp32",
    cpu=True,
)


def batch(step: int) -> Batch:
    return Batch.of_rows(windows(4, 17, seed=step))


DATA = TrainData(batch, [batch(100)])


def packed(model: PreTrainedModel, methods: Methods, dtype: torch.dtype | None = None) -> Any:
    copied = copy.deepcopy(model)
    quantize_model(copied, methods, dtype=dtype)
    return copied


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=windows(2), use_cache=False).logits
    return found


def codes(model: Any) -> list[Tensor]:
    return [m.get_buffer("weight").clone() for m in model.modules() if isinstance(m, PackedModule)]


def nbytes(model: Any) -> int:
    return sum(t.numel() * t.element_size() for t in model.state_dict().values())


METHODS = {
    "one bit": Methods(Hqq(1, 16)),
    "integer zeros": Methods(Rtn(2, 16)),
    "ternary": Methods(Bitnet()),
    "codebook, twice quantized": Methods(Nf4(16, double_quant=True)),
    "embedding and head": Methods(Hqq(3, 16), Rtn(4, 16, zero_dtype="float16"), Rtn(4, 16)),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_falls_while_codes_and_bytes_stay_and_the_end_is_what_was_trained(
    name: str, tmp_path: Path
) -> None:
    teacher = tiny_gpt2().requires_grad_(False)
    model = packed(teacher, METHODS[name])
    before, size = codes(model), nbytes(model)
    work = Heal().begin(Start(model, teacher))
    start = work.objective.loss(model, DATA.validation[0]).item()
    result = train(work.model, work.objective, DATA, SETTINGS, tmp_path, Silent())
    assert result.best_loss < 0.97 * start
    trained = logits(work.model)
    finished = work.finish()
    assert torch.equal(logits(finished), trained)
    assert all(map(torch.equal, codes(finished), before))
    assert nbytes(finished) == size
    assert not any(parameter.requires_grad for parameter in finished.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_what_is_kept_in_half_precision_is_trained_as_it_will_be_stored(
    dtype: torch.dtype, tmp_path: Path
) -> None:
    teacher = tiny_family("GPT2").requires_grad_(False)
    model = packed(teacher, Methods(Hqq(2, 16)), dtype)
    size = nbytes(model)
    cast_rest(model, torch.float32)  # as a stage loads it
    work = Heal().begin(Start(model, teacher, dtype=dtype))
    train(work.model, work.objective, DATA, SETTINGS, tmp_path, Silent())
    trained = logits(work.model)
    finished = work.finish()
    assert nbytes(finished) == size
    cast_rest(finished, torch.float32)
    assert torch.equal(logits(finished), trained)


def test_only_the_named_parts_are_trained() -> None:
    def names(parts: str) -> set[str]:
        teacher = tiny_family("GPT2")
        model = packed(teacher, Methods(Hqq(2, 16)))
        return set(Heal(parts).begin(Start(model, teacher)).objective.trainable(model))

    assert {name.rpartition(".")[2] for name in names("scales")} == {"factor"}
    assert {name.rpartition(".")[2] for name in names("zeros")} == {"shift"}
    assert all("ln_" in name for name in names("norms"))
    assert len(names("norms")) == 10
    assert all(name.endswith("bias") and "ln_" not in name for name in names("biases"))
    assert len(names("biases")) == 8
    assert len(names("scales, zeros,norms,biases")) == 8 + 8 + 10 + 8


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.* is deprecated:FutureWarning")
def test_adapters_learn_beside_a_base_that_stays_and_come_back_from_their_folder(
    tmp_path: Path,
) -> None:
    teacher = tiny_gpt2().requires_grad_(False)
    model = packed(teacher, Methods(Hqq(1, 16)))
    model.save_pretrained(tmp_path / "base")
    base = copy.deepcopy(model)
    work = Heal("adapters", rank=4).begin(Start(model, teacher, base=str(tmp_path / "base")))
    start = work.objective.loss(work.model, DATA.validation[0]).item()
    assert all("lora_" in name for name in work.objective.trainable(work.model))
    assert work.maps
    result = train(work.model, work.objective, DATA, SETTINGS, tmp_path, Silent())
    assert result.best_loss < 0.97 * start
    adapted = work.finish()
    kept = {bare(name): tensor for name, tensor in adapted.state_dict().items()}
    assert all(torch.equal(kept[name], tensor) for name, tensor in base.state_dict().items())
    write_adapter(adapted, tmp_path / "adapter")
    assert torch.equal(logits(load(tmp_path / "adapter").model), logits(adapted))


def test_adapters_need_a_base_that_was_saved() -> None:
    teacher = tiny_gpt2()
    with pytest.raises(UsageError, match="needs a base that is a saved model"):
        Heal("adapters").begin(Start(packed(teacher, Methods(Hqq(1, 16))), teacher))


def test_a_family_without_biases_has_its_norms_healed(tmp_path: Path) -> None:
    teacher = tiny_llama().requires_grad_(False)
    model = packed(teacher, Methods(Hqq(1, 16)))
    work = Heal("norms,biases").begin(Start(model, teacher))
    assert len(work.objective.trainable(model)) == 5
    with pytest.raises(UsageError, match="none of biases"):
        Heal("biases").begin(Start(packed(teacher, Methods(Hqq(1, 16))), teacher))


def test_healing_needs_a_packed_model_and_a_teacher_of_the_same_vocabulary() -> None:
    teacher = tiny_gpt2()
    with pytest.raises(UsageError, match="needs a quantized model"):
        Heal().begin(Start(tiny_gpt2(), teacher))
    with pytest.raises(UsageError, match="needs a teacher"):
        Heal().begin(Start(tiny_gpt2()))
    other = copy.deepcopy(teacher)
    other.config.vocab_size = VOCABULARY + 1
    with pytest.raises(UsageError, match=f"{VOCABULARY + 1} tokens and the model one of"):
        Heal().begin(Start(tiny_gpt2(), other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parts": "scale"}, "did you mean 'scales'"),
        ({"parts": "adapters,scales"}, "first, then adapters"),
        ({"rank": 0}, "rank is 1 or more"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"label_weight": 1.5}, r"label_weight lies in \[0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(Heal(), **change)
