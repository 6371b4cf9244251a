"""Quantization-aware training: what is packed at the end is what was trained, bit for bit."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from packing import tiny
from tiny_models import tiny_gpt2, tiny_llama, tiny_nanogpt
from torch import Tensor
from trained_steps import logits, one_step, tokens
from transformers import PreTrainedModel, Trainer, TrainingArguments

from quantale.core.errors import ModelFileError, NumericalError, UsageError
from quantale.data.batch import Batch
from quantale.models.load import load
from quantale.quant.apply import Method
from quantale.quant.ledger import inspect
from quantale.quant.linear import QuantLinear, TiedHead
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.rules import Rule
from quantale.quant.sites import LINEAR_ROLES, find_sites
from quantale.quant.whole import Methods
from quantale.tuning.losses import label_loss, logits_of, teacher_loss
from quantale.tuning.method import Start
from quantale.tuning.methods.qat import Qat
from quantale.tuning.trainer import finish_qat, prepare_qat
from quantale.tuning.wrapping import unwrap, wrap, wrapped

TERNARY = Methods(Bitnet(), Rtn(4, 16))
SCHEMES: dict[str, Methods] = {
    "ternary": TERNARY,
    "ternary in groups": Methods(Bitnet(16)),
    "binary": Methods(Binary(16), Binary(16)),
    "1 bit": Methods(Rtn(1, 16, symmetric=True)),
    "3 bits": Methods(Rtn(3, 16), Rtn(8)),
    "8 bits by row": Methods(Rtn(8, "row", symmetric=True)),
    "nf4 twice": Methods(Nf4(16, double_quant=True)),
    "hqq": Methods(Hqq(2, 16), Hqq(4, 16)),
    "rules": Methods(
        Bitnet(), rules=(Rule(None, match="**.0.**"), Rule(Rtn(8), role=("norm", "head")))
    ),
}
MODELS = ("GPT2", "Llama", "Gemma2", "OPT", "GPT2 classifier", "Llama classifier")


def check_packs_to_the_same_bits(model: PreTrainedModel, methods: Methods, folder: Path) -> None:
    wrap(model, methods)
    one_step(model)
    trained = logits(model)
    packed = unwrap(model)
    assert not wrapped(packed)
    assert torch.equal(logits(packed), trained)
    packed.save_pretrained(folder)
    assert torch.equal(logits(load(folder).model), trained)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_packed_model_computes_what_was_trained_in_any_format(
    scheme: str, tmp_path: Path
) -> None:
    check_packs_to_the_same_bits(tiny("GPT2"), SCHEMES[scheme], tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_the_packed_model_computes_what_was_trained_in_any_model(name: str, tmp_path: Path) -> None:
    check_packs_to_the_same_bits(tiny(name), TERNARY, tmp_path)


@pytest.mark.parametrize("make", [tiny_nanogpt, tiny_gpt2, tiny_llama])
def test_a_norm_of_the_inputs_is_trained_saved_and_loaded(
    make: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    model = make()
    wrap(model, TERNARY, sub_norm=True)
    plain = set(dict(make().named_parameters()))
    names = [name for name, _ in model.named_parameters() if name not in plain]
    assert len(names) == sum(site.role in LINEAR_ROLES for site in find_sites(make()))
    one_step(model)
    trained = logits(model)
    packed = unwrap(model)
    assert torch.equal(logits(packed), trained)
    packed.save_pretrained(tmp_path)
    again = load(tmp_path).model
    assert torch.equal(logits(again), trained)
    assert not torch.equal(again.get_parameter(names[0]), torch.ones(32))
    assert inspect(load(tmp_path, dtype=None).model, tmp_path).bytes_on_disk is not None


def test_a_file_whose_record_lacks_the_norm_is_refused(tmp_path: Path) -> None:
    model = tiny_gpt2()
    wrap(model, TERNARY, sub_norm=True)
    packed = unwrap(model)
    sites = {name: dict(site) for name, site in packed.config.quantization_config.sites.items()}
    del sites["transformer.h.0.attn.c_attn"]["norm"]
    packed.config.quantization_config.sites = sites
    packed.save_pretrained(tmp_path)
    with pytest.raises(ModelFileError, match="unknown tensor"):
        load(tmp_path)


@pytest.mark.parametrize("method", [Bitnet(), Rtn(2, 16)])
def test_a_wrapped_layer_computes_outside_autocast(method: Method) -> None:
    model = tiny_gpt2()
    wrap(model, Methods(method))
    layer, x = model.transformer.h[0].mlp.c_fc, torch.randn(5, 32)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), expected)
        model.train()(tokens(), labels=tokens()).loss.backward()
    grads = [weight.grad for weight in model.parameters()]
    assert all(g is not None and bool(torch.isfinite(g).all()) for g in grads)


def test_a_tied_head_stays_tied_through_training() -> None:
    model = tiny_gpt2()
    wrap(model, TERNARY)
    one_step(model)
    assert model.lm_head.weight is model.transformer.wte.weight
    packed = unwrap(model)
    assert isinstance(packed.lm_head, TiedHead)
    assert isinstance(packed.transformer.h[0].mlp.c_fc, QuantLinear)


def test_names_and_values_of_the_parameters_are_those_of_the_plain_model() -> None:
    plain, model = tiny_gpt2(), tiny_gpt2()
    wrap(model, TERNARY)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert list(dict(model.named_parameters())) == list(dict(plain.named_parameters()))
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))


def test_warm_in_counts_in_training_only() -> None:
    plain, model = tiny_gpt2(), tiny_gpt2()
    work = Qat(warm_in=0.5).begin(Start(model, methods=TERNARY))
    expected = logits(model)
    work.objective.at(0.0)
    assert torch.equal(logits(model), expected)
    for module in (plain, model):
        for part in module.modules():
            part.p = 0.0 if hasattr(part, "p") else None
    plain.train()
    model.train()
    torch.testing.assert_close(model(tokens()).logits, plain(tokens()).logits)
    seen = []
    for share in (0.25, 0.5, 0.9):
        work.objective.at(share)
        seen.append(model(tokens()).logits.detach())
    assert torch.equal(seen[1], expected)
    assert torch.equal(seen[2], expected)
    assert not torch.equal(seen[0], expected)


def test_the_loss_mixes_labels_and_teacher() -> None:
    teacher, batch = tiny_gpt2(), Batch.of_rows(tokens())
    both = Qat(teacher_weight=0.25, temperature=2.0)
    assert both.needs_teacher
    assert not Qat().needs_teacher
    work = both.begin(Start(tiny_gpt2(), teacher, TERNARY))
    student = logits_of(work.model.eval(), batch)
    learned = teacher_loss(student, logits_of(teacher, batch), batch, 2.0)
    expected = 0.25 * learned + 0.75 * label_loss(student, batch)
    torch.testing.assert_close(work.objective.loss(work.model, batch), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"warm_in": 1.5}, "warm_in is a share"),
        ({"teacher_weight": -0.1}, "teacher_weight lies in"),
        ({"temperature": 0.0}, "temperature is above 0"),
    ],
)
def test_settings_outside_their_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Qat(**settings)  # type: ignore[arg-type]


def test_a_method_that_calibrates_is_refused_before_anything_is_wrapped() -> None:
    model = tiny_gpt2()
    with pytest.raises(UsageError, match=r"gptq calibrates.*take a method without"):
        wrap(model, Methods(Gptq(4, 16)))
    assert not wrapped(model)
    with pytest.raises(UsageError, match="not prepared"):
        unwrap(model)


def test_a_teacher_of_another_vocabulary_is_refused() -> None:
    teacher = tiny_gpt2()
    teacher.config.vocab_size = 97
    with pytest.raises(UsageError, match="teacher predicts 97 tokens and the model 96"):
        Qat(teacher_weight=1.0).begin(Start(tiny_gpt2(), teacher, TERNARY))


def test_an_error_of_the_method_names_the_site() -> None:
    model = tiny_gpt2()
    wrap(model, Methods(Rtn(4, 16)))
    with torch.no_grad():
        model.transformer.h[1].mlp.c_fc.weight.mul_(1e9)
    with pytest.raises(NumericalError, match=r"^transformer.h.1.mlp.c_fc: a scale"):
        logits(model)


@pytest.mark.parametrize("method", [Bitnet(), Rtn(2, 16)])
def test_a_plain_trainer_trains_and_the_result_is_packed(method: Method, tmp_path: Path) -> None:
    model = tiny_nanogpt()
    warm_in = prepare_qat(model, method, warm_in=0.5)
    rows = [{"input_ids": row, "labels": row} for n in range(8) for row in _counting(n)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "trainer"),
        per_device_train_batch_size=8,
        max_steps=16,
        learning_rate=1e-2,
        logging_steps=4,
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
        report_to="none",
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[warm_in])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.7 * losses[0]
    trained = logits(model)
    packed = finish_qat(model)
    assert torch.equal(logits(packed), trained)
    packed.save_pretrained(tmp_path / "packed")
    assert torch.equal(logits(load(tmp_path / "packed").model), trained)


def _counting(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    return (torch.randint(20, (4, 1), generator=generator) + torch.arange(9)) % 20
