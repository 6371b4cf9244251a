"""Training through quantization in half precision, and towards a teacher's features."""

import copy
from typing import Any

import pytest
import torch
from plugin_cases import drawn
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from quantale.core.errors import UsageError
from quantale.data.batch import Batch
from quantale.quant.apply import Method
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods
from quantale.tuning.losses import feature_loss, logits_and_features, logits_of
from quantale.tuning.method import Start
from quantale.tuning.methods.qat import Qat
from quantale.tuning.straight_through import StraightLinear, Strength


@pytest.mark.parametrize("method", [Rtn(4, 16), Binary(16), Bitnet()])
def test_autocast_is_followed_in_training_and_ignored_in_evaluation(method: Method) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 48)
    site = StraightLinear("site", linear, method, Strength())
    x = drawn(5, 64, seed=3).requires_grad_()
    exact = site.eval()(x)
    wanted = torch.autograd.grad(site.train()(x).square().sum(), [x, linear.weight])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(site.eval()(x), exact)
        half = site.train()(x)
        found = torch.autograd.grad(half.float().square().sum(), [x, linear.weight])
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, rtol=0.02, atol=0.02)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.dtype == torch.float32
        assert float((ours - theirs).norm() / theirs.norm()) < 0.03


def llama(**values: Any) -> LlamaForCausalLM:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, **{**sizes, **heads, **values})).eval()


def gpt2(**values: Any) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    config = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40, **dropout, **values}
    return GPT2LMHeadModel(GPT2Config(n_positions=16, **config)).eval()


def batch(rows: int = 3, length: int = 8) -> Batch:
    tokens = torch.randint(40, (rows, length + 1), generator=torch.Generator().manual_seed(1))
    targets = tokens[:, 1:].clone()
    targets[0, 5:] = -100
    return Batch(tokens[:, :-1], targets)


@pytest.mark.parametrize("model", [gpt2(), llama()], ids=["gpt2", "llama"])
def test_features_are_the_outputs_of_the_blocks(model: Any) -> None:
    seen: list[Tensor] = []
    blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
    blocks[0].register_forward_hook(lambda _m, _i, out: seen.append(out))
    logits, features = logits_and_features(model, batch())
    assert torch.equal(logits, logits_of(model, batch()))
    assert len(features) == 2
    assert torch.equal(features[0], seen[0] if isinstance(seen[0], Tensor) else seen[0][0])
    torch.testing.assert_close(model.lm_head(features[1]), logits)


def test_the_distance_is_the_share_of_the_square_over_blocks_and_scored_targets() -> None:
    ours = [drawn(3 * 8, 4, seed=s).view(3, 8, 4) for s in (1, 2)]
    theirs = [drawn(3 * 8, 4, seed=s).view(3, 8, 4) for s in (3, 4)]
    one, total, count = batch(), 0.0, 0
    for row in range(3):
        for place in range(8):
            if int(one.targets[row, place]) >= 0:
                for mine, other in zip(ours, theirs, strict=True):
                    away = (mine[row, place] - other[row, place]).square().sum()
                    total += float(away / other[row, place].square().sum())
                    count += 1
    assert float(feature_loss(ours, theirs, one)) == pytest.approx(total / count, rel=1e-5)
    assert float(feature_loss(theirs, theirs, one)) == 0.0


def test_features_pull_the_model_to_its_teacher() -> None:
    teacher = gpt2()
    model = copy.deepcopy(teacher).train()
    methods = Methods(Binary(16))
    work = Qat(teacher_weight=1.0, feature_weight=0.5).begin(Start(model, teacher, methods))
    plain = Qat(teacher_weight=1.0).begin(Start(copy.deepcopy(teacher).train(), teacher, methods))
    features = logits_and_features(work.model, batch())[1]
    distance = feature_loss(features, logits_and_features(teacher, batch())[1], batch()).detach()
    whole = work.objective.loss(work.model, batch())
    assert float(distance) > 1e-4
    expected = plain.objective.loss(plain.model, batch()) + 0.5 * distance
    torch.testing.assert_close(whole, expected)


def test_a_teacher_of_another_shape_is_refused() -> None:
    settings = Qat(feature_weight=1.0)
    assert settings.needs_teacher
    methods = Methods(Binary(16))
    with pytest.raises(UsageError, match="3 blocks of width 32 and the model 2 blocks of width 32"):
        settings.begin(Start(gpt2(), gpt2(n_layer=3), methods))
    with pytest.raises(UsageError, match="feature_weight is 0 or above, -1"):
        Qat(feature_weight=-1.0)
