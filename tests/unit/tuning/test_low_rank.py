"""Low-rank terms beside weights in training: how they begin, and what is stored of them."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from packing import tiny
from tiny_models import tiny_gpt2, tiny_llama, tiny_nanogpt
from torch import Tensor
from trained_steps import logits, one_step, tokens
from transformers import PreTrainedModel, Trainer, TrainingArguments

from quantale.core.errors import ModelFileError, UsageError
from quantale.core.registry import EXPORTERS
from quantale.data.batch import Batch
from quantale.export.affine_layers import affine_layers
from quantale.export.source import Source
from quantale.models.load import load
from quantale.quant.ledger import inspect
from quantale.quant.linear import QuantLinear
from quantale.quant.lora import lora_config
from quantale.quant.merging import merged, unpacked
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.rtn import Rtn
from quantale.quant.save import write_model
from quantale.quant.sites import LINEAR_ROLES, find_sites
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.export import kind_of
from quantale.stages.requests import ExportRequest
from quantale.tuning.low_rank import Ranks, TermPlan
from quantale.tuning.method import Start
from quantale.tuning.methods.qat import Qat
from quantale.tuning.trainer import finish_qat, prepare_qat

ONE_BIT = Methods(Binary(16))
WAYS = (tiny_gpt2, tiny_llama, tiny_nanogpt)


def packed(make: Callable[[], PreTrainedModel] = tiny_gpt2, rank: int = 4) -> PreTrainedModel:
    """A model with terms that was trained for one step."""
    model = make()
    qat = Qat(rank=rank, rank_pattern="**.0.**=8")
    work = qat.begin(Start(model, methods=ONE_BIT, sample=tokens()))
    one_step(model)
    found: PreTrainedModel = work.finish()
    return found


def away(found: Tensor, exact: Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("make", WAYS)
def test_what_is_stored_computes_what_was_trained(
    make: Callable[[], PreTrainedModel], tmp_path: Path
) -> None:
    model = make()
    begun = Qat(rank=4, rank_pattern="**.0.**=8").begin(
        Start(model, methods=ONE_BIT, sample=tokens())
    )
    free = begun.objective.trainable(model)
    terms = {name for name in free if ".low_rank." in name}
    assert len(terms) == 2 * sum(site.role in LINEAR_ROLES for site in find_sites(make()))
    before = {name: free[name].detach().clone() for name in terms}
    one_step(model)
    assert all(not torch.equal(free[name], before[name]) for name in terms)
    trained = logits(model)
    found = begun.finish()
    assert torch.equal(logits(found), trained)
    found.save_pretrained(tmp_path)
    again = load(tmp_path).model
    assert torch.equal(logits(again), trained)
    layers = {n: m for n, m in again.named_modules() if isinstance(m, QuantLinear)}
    ranks = {n: 0 if m.low_rank is None else m.low_rank.rank for n, m in layers.items()}
    assert ranks == {name: 8 if ".0." in name else 4 for name in layers}


def test_dtypes_of_the_factors_never_change() -> None:
    model = packed()
    kinds = {n: t.dtype for n, t in model.named_buffers() if ".low_rank." in n}
    assert set(kinds.values()) == {torch.int8, torch.float32}
    exact = logits(model)
    model.to(torch.bfloat16)
    assert {n: t.dtype for n, t in model.named_buffers() if ".low_rank." in n} == kinds
    assert 0 < away(logits(model), exact) < 0.05
    assert torch.equal(logits(copy.deepcopy(model)), logits(model))


def test_training_begins_closer_to_the_original_than_bits_alone() -> None:
    exact = logits(tiny_gpt2())
    lost = []
    for rank in (0, 2, 8, 16):
        model = tiny_gpt2()
        Qat(rank=rank).begin(Start(model, methods=ONE_BIT, sample=tokens()))
        lost.append(away(logits(model), exact))
    assert lost == sorted(lost, reverse=True)
    assert lost[-1] < 0.6 * lost[0]


def test_without_strength_the_model_is_what_it_was() -> None:
    plain, model = tiny_gpt2(), tiny_gpt2()
    work = Qat(rank=4, warm_in=0.5).begin(Start(model, methods=ONE_BIT, sample=tokens()))
    work.objective.at(0.0)
    for one in (plain, model):
        for part in one.modules():
            if hasattr(part, "p"):
                part.p = 0.0
    expected, found = plain.train()(tokens()).logits, model.train()(tokens()).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_equal_seeds_begin_with_equal_bytes_and_the_random_state_stays() -> None:
    found = []
    for other in (1, 2):
        model = tiny_gpt2()
        torch.manual_seed(other)
        state = torch.get_rng_state()
        Qat(rank=4).begin(Start(model, methods=ONE_BIT, seed=3, sample=tokens()))
        assert torch.equal(torch.get_rng_state(), state)
        found.append({n: p.detach() for n, p in model.named_parameters()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_every_byte_is_in_the_ledger(tmp_path: Path) -> None:
    model = packed()
    write_model(model, None, tmp_path)
    ledger = inspect(load(tmp_path, dtype=None).model, tmp_path)
    assert sum(ledger.components.values()) == ledger.bytes_on_disk
    line = next(site for site in ledger.sites if site.name == "transformer.h.0.mlp.c_fc")
    rows, width = line.shape
    codes, scales = rows * width // 8, 2 * rows * width // 16
    assert line.nbytes == codes + scales + 8 * (rows + width) + 2 * 4 * 8
    assert math.isclose(line.bits_per_weight, 8 * line.nbytes / (rows * width))
    assert f"{line.nbytes:,}" in ledger.table()


def test_a_plain_model_of_it_has_the_terms_in_its_weights() -> None:
    model = packed()
    plain = unpacked(model)
    assert not any(isinstance(module, QuantLinear) for module in plain.modules())
    torch.testing.assert_close(logits(plain), logits(model), rtol=1e-4, atol=1e-4)
    source = Source(model, None, torch.float32)
    assert source.packed == {}
    torch.testing.assert_close(logits(source.plain), logits(model), rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="gptq: packed layers have low-rank terms"):
        affine_layers(source, "gptq")


@pytest.mark.parametrize("dora", [False, True])
def test_adapters_lie_beside_terms(dora: bool, tmp_path: Path) -> None:
    from quantale.models.adapters import put_on

    packed().save_pretrained(tmp_path)
    model = load(tmp_path).model
    expected = logits(model)
    put_on(model, lora_config(model, r=2, use_dora=dora, task_type="CAUSAL_LM"))
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    assert inspect(model).adapter_parameters > 0
    torch.testing.assert_close(logits(merged(model)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (None, "unknown tensor"),
        (4, "has shape"),
        (10**9, "has no rank"),
        (-1, "has no rank"),
        (math.inf, "a whole number"),
        (True, "a whole number"),
        ("8", "a whole number"),
    ],
)
def test_a_file_whose_record_says_another_rank_is_refused(
    rank: object, message: str, tmp_path: Path
) -> None:
    model = packed()
    sites = {name: dict(site) for name, site in model.config.quantization_config.sites.items()}
    changed = sites["transformer.h.0.attn.c_attn"]
    assert changed.pop("rank") == 8
    changed |= {} if rank is None else {"rank": rank}
    model.config.quantization_config.sites = sites
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path)


def test_only_a_linear_layer_has_a_term(tmp_path: Path) -> None:
    model = tiny_gpt2()
    quantize_model(model, Methods(Rtn(4, 16), Rtn(4, 16)))
    sites = {name: dict(site) for name, site in model.config.quantization_config.sites.items()}
    sites["transformer.wte"]["rank"] = 2
    model.config.quantization_config.sites = sites
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelFileError, match="only a linear layer can have a low-rank term"):
        load(tmp_path)


def test_filling_has_no_say_in_how_terms_begin() -> None:
    rows, found = tokens(), []
    filled = torch.cat([rows, torch.zeros(len(rows), 30, dtype=torch.long)], 1)
    mask = torch.arange(50).expand(len(rows), -1) < 20
    for sample, seen in ((rows, None), (filled, mask), (filled, None)):
        model = tiny_gpt2()
        start = Start(model, methods=ONE_BIT, sample=sample, sample_mask=seen)
        Qat(rank=4).begin(start)
        found.append(logits(model))
    masked, unmasked = (away(one, found[0]) for one in found[1:])
    assert masked < 0.02  # where the mask takes part, sums have another order and a code may flip
    assert unmasked > 5 * masked


def test_what_a_batch_scores_says_what_is_filling() -> None:
    inputs = torch.ones(3, 4, dtype=torch.long)
    targets = torch.tensor([[5, 5, -100, -100], [-100, -100, 5, 5], [5, -100, 5, -100]])
    expected = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]], dtype=torch.bool)
    assert torch.equal(Batch(inputs, targets).used, expected)
    assert Batch(inputs, torch.tensor([0, 1, 2])).used.all()
    assert torch.equal(Batch(inputs, torch.tensor([0, 1, 2]), expected).used, expected)


def test_a_layer_that_the_sample_does_not_reach_begins_by_its_weight() -> None:
    config = copy.deepcopy(tiny_gpt2().config)
    config.add_cross_attention = True
    model = type(tiny_gpt2())(config)
    Qat(rank=4).begin(Start(model, methods=ONE_BIT, sample=tokens()))
    assert "transformer.h.0.crossattention.c_attn.low_rank.left" in dict(model.named_parameters())
    assert torch.isfinite(logits(model)).all()


@pytest.mark.parametrize("make", [partial(tiny, "GPT2 classifier"), partial(tiny, "OPT")])
def test_other_families_have_them_too(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    model = make()
    work = Qat(rank=4).begin(Start(model, methods=ONE_BIT, sample=tokens()))
    trained = logits(model)
    found = work.finish()
    assert torch.equal(logits(found), trained)
    found.save_pretrained(tmp_path)
    assert torch.equal(logits(load(tmp_path).model), trained)


def test_an_export_knows_what_was_quantized() -> None:
    model = tiny_gpt2()
    methods = Methods(Bitnet(), Rtn(8))
    work = Qat(rank_pattern="**.0.**=4").begin(Start(model, methods=methods, sample=tokens()))
    source = Source(work.finish(), None, torch.bfloat16)
    assert source.rounds_inputs
    assert "transformer.h.0.mlp.c_fc" in source.quantized
    assert "transformer.h.0.mlp.c_fc" not in source.packed
    assert "transformer.h.1.mlp.c_fc" in source.packed
    every = Source(packed(), None, torch.bfloat16)
    assert every.packed == {}
    request = ExportRequest(model="M", format="hf")
    assert kind_of(request, EXPORTERS.get("hf")(), every) == "float32"


def test_norms_and_terms_at_once_are_refused() -> None:
    with pytest.raises(UsageError, match="leave one of them out"):
        prepare_qat(tiny_gpt2(), Binary(16), sub_norm=True, terms=TermPlan(Ranks(2)))


def test_patterns_give_ranks_of_their_own() -> None:
    names = ["h.0.attn", "h.0.mlp", "h.1.attn", "h.11.mlp"]
    ranks = Ranks(4, "**.0.attn=96, h.[1,11].{attn,mlp}=0")
    assert ranks.of(names) == {"h.0.attn": 96, "h.0.mlp": 4}
    assert Ranks(0, "**.mlp=2").of(names) == {"h.0.mlp": 2, "h.11.mlp": 2}
    assert not Ranks()
    assert not Ranks(0, "**=0")
    assert Ranks(0, "**=1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": -1}, "a rank is 0 or more"),
        ({"rank_pattern": "**.attn"}, "write PATTERN=RANK"),
        ({"rank_pattern": "**.attn=-3"}, "write PATTERN=RANK"),
        ({"rank_pattern": "=3"}, "write PATTERN=RANK"),
        ({"rank_pattern": "**.attn=3;**.mlp=2"}, "write PATTERN=RANK"),
        ({"rank_pattern": "a b=3"}, "pattern"),
        ({"rank": 2, "sub_norm": True}, "leave one of them out"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Qat(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 33}, "a weight of .* has no 33 directions"),
        ({"rank": 2, "rank_pattern": "**.nowhere=3"}, "fits no quantized linear layer"),
    ],
)
def test_ranks_that_do_not_fit_the_model_are_refused_before_it_is_changed(
    settings: dict[str, object], message: str
) -> None:
    model = tiny_gpt2()
    with pytest.raises(UsageError, match=message):
        Qat(**settings).begin(  # type: ignore[arg-type]
            Start(model, methods=ONE_BIT, sample=tokens())
        )
    assert torch.equal(logits(model), logits(tiny_gpt2()))


def test_without_a_sample_all_inputs_count_alike() -> None:
    exact, lost = logits(tiny_gpt2()), []
    for rank in (0, 16):
        model = tiny_gpt2()
        Qat(rank=rank).begin(Start(model, methods=ONE_BIT))
        lost.append(away(logits(model), exact))
    assert lost[1] < 0.7 * lost[0]


def test_a_plain_trainer_trains_them(tmp_path: Path) -> None:
    model = tiny_gpt2()
    warm_in = prepare_qat(model, Binary(16), terms=TermPlan(Ranks(4), tokens()))
    rows = [{"input_ids": row, "labels": row} for row in tokens()]
    arguments = TrainingArguments(
        str(tmp_path / "out"), max_steps=2, report_to=[], save_strategy="no", use_cpu=True
    )
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[warm_in]).train()
    trained = logits(model)
    found = finish_qat(model)
    assert torch.equal(logits(found), trained)
    found.save_pretrained(tmp_path / "packed")
    assert torch.equal(logits(load(tmp_path / "packed").model), trained)
