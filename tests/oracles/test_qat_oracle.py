"""Training through quantization against its formulas, and against quantizing after training."""

import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from plugin_cases import drawn, method_cases
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from quantale.core.progress import Silent
from quantale.data.batch import Batch
from quantale.models.build import build_model
from quantale.models.nanogpt import NanoGPTForCausalLM
from quantale.models.nanogpt_config import NanoGPTConfig
from quantale.quant import rows, unpacked
from quantale.quant.apply import Method
from quantale.quant.methods.binary import Binary
from quantale.quant.methods.bitnet import Bitnet
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor
from quantale.quant.whole import Methods, quantize_model
from quantale.tuning.loop import train
from quantale.tuning.method import Start
from quantale.tuning.methods.full import Full
from quantale.tuning.methods.qat import Qat
from quantale.tuning.settings import Objective, TrainData, TrainSettings
from quantale.tuning.straight_through import StraightLinear, StraightTable, Strength

OUT, IN = 12, 40
CASES = [(name, method) for name, method in method_cases() if not method.needs_calibration]


def layer(method: Method, share: float = 1.0, kind: str = "Linear") -> StraightLinear:
    """A layer with the weight of `weights()`, in training."""
    module: nn.Module = Conv1D(OUT, IN) if kind == "Conv1D" else nn.Linear(IN, OUT)
    with torch.no_grad():
        weight = drawn(OUT, IN) * 0.07 + 0.01
        module.get_parameter("weight").copy_(weight.t() if kind == "Conv1D" else weight)
        module.get_parameter("bias").copy_(drawn(1, OUT)[0])
    return StraightLinear("site", module, method, Strength(share)).train()


def straight(exact: Tensor, rounded: Callable[[Tensor], Tensor], share: float = 1.0) -> Tensor:
    """w + (q(w) - w).detach(), the estimator as it is usually written."""
    return exact + share * (rounded(exact) - exact).detach()


def absmean(weight: Tensor) -> Tensor:
    """Equations 1 to 3 of arXiv 2402.17764, times the scale."""
    gamma = weight.abs().mean()
    return gamma * (weight / gamma).round().clamp(-1, 1)


def absmax(x: Tensor) -> Tensor:
    """Equations 4 and 5 of arXiv 2310.11453 with eight bits, vector by vector."""
    step = x.abs().amax(-1, keepdim=True) / 127
    return step * (x / step).round().clamp(-128, 127)


def gradients(out: Tensor, of: list[Tensor]) -> list[Tensor]:
    pull = drawn(out.numel(), 1, seed=9).view(out.shape)
    return list(torch.autograd.grad((out * pull).sum(), of))


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_bitnet_is_the_papers_layer_and_its_gradient(kind: str, share: float) -> None:
    found = layer(Bitnet(), share, kind)
    x = drawn(6, IN, seed=2).view(2, 3, IN).requires_grad_()
    weight, bias = found.get_parameter("weight"), found.get_parameter("bias")
    plain = weight.t() if kind == "Conv1D" else weight
    expected = functional.linear(straight(x, absmax, share), straight(plain, absmean, share), bias)
    out = found(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    of = [x, weight, bias]
    for ours, theirs in zip(gradients(out, of), gradients(expected, of), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["Linear", "Conv1D"])
@pytest.mark.parametrize("method", [Rtn(2, 16), Rtn(8), Rtn(3, 16, True), Nf4(16), Binary(16)])
def test_the_gradient_is_that_of_the_estimator_written_out(method: Method, kind: str) -> None:
    found = layer(method, kind=kind)
    x = drawn(6, IN, seed=2).requires_grad_()
    weight, bias = found.get_parameter("weight"), found.get_parameter("bias")
    plain = weight.t() if kind == "Conv1D" else weight
    rounded = straight(plain, lambda w: method.quantize(w).dequantize())
    expected, out = functional.linear(x, rounded, bias), found(x)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    of = [x, weight, bias]
    for ours, theirs in zip(gradients(out, of), gradients(expected, of), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_an_embedding_and_a_norm_pass_their_gradients_too(share: float) -> None:
    method, strength = Rtn(3, 8), Strength(share)
    table, norm = nn.Embedding(9, 16), nn.LayerNorm(16)
    norm.weight.data.copy_(drawn(1, 16)[0])
    index, x = torch.tensor([[1, 4, 4]]), drawn(5, 16, seed=3)
    rounded = straight(table.weight, lambda w: method.quantize(w).dequantize(), share)
    ours = StraightTable("t", table, method, strength).train()(index)
    torch.testing.assert_close(ours, rounded[index])
    pairs = [(ours, rounded[index], table.weight)]
    scale = straight(norm.weight, lambda w: method.quantize(w.unsqueeze(0)).dequantize()[0], share)
    expected = functional.layer_norm(x, (16,), scale, norm.bias)
    pairs.append((StraightTable("n", norm, method, strength).train()(x), expected, norm.weight))
    for out, written, weight in pairs:
        torch.testing.assert_close(gradients(out, [weight]), gradients(written, [weight]))


@pytest.mark.parametrize("method", [c[1] for c in CASES], ids=[c[0] for c in CASES])
def test_leaving_the_packing_out_changes_no_bit(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = drawn(5, 39, seed=4)
    for limit in (rows.CHUNK, 39 * 4):  # 4: worked on in parts
        monkeypatch.setattr(rows, "CHUNK", limit)
        for shape in ((24, 39), (7, 13)):
            weight, bias = drawn(*shape), drawn(1, shape[0])[0]
            stored = method.quantize(weight)
            with unpacked.codes():
                loose = method.quantize(weight)
                assert_equal_layers(loose, stored, x[:, : shape[1]], bias)


def assert_equal_layers(loose: PackedTensor, stored: PackedTensor, x: Tensor, bias: Tensor) -> None:
    apply = stored.format.apply
    assert torch.equal(apply(x, loose, bias), apply(x, stored, bias))
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(loose.dequantize(dtype), stored.dequantize(dtype))


def test_what_is_made_for_training_is_not_what_is_stored() -> None:
    """Or the test above would compare packed codes with themselves."""
    with unpacked.codes():
        loose = Rtn(4, 16).quantize(drawn(8, 32))
    assert loose.tensors["weight"].dtype == torch.float32
    assert Rtn(4, 16).quantize(drawn(8, 32)).tensors["weight"].dtype == torch.uint8


VOCABULARY, LENGTH = 24, 16
SETTINGS = TrainSettings(
    steps=120,
    learning_rate=1e-2,
    min_learning_rate=1e-3,
    warmup_steps=5,
    evaluate_every=40,
    checkpoint_every=1000,
    precision="fp32",
    cpu=True,
)


def chain_batch(number: int) -> Batch:
    """Rows of a Markov chain in which each token has two likely successors."""
    generator = torch.Generator().manual_seed(number)
    rows_ = [torch.randint(VOCABULARY, (16,), generator=generator)]
    for _ in range(LENGTH):
        step = torch.where(torch.rand(16, generator=generator) < 0.7, 5, 11)
        rows_.append((rows_[-1] * 3 + step) % VOCABULARY)
    return Batch.of_rows(torch.stack(rows_, 1))


DATA = TrainData(chain_batch, [chain_batch(10_000), chain_batch(10_001)])


def loss_of(model: nn.Module) -> float:
    with torch.no_grad():
        return sum(float(Full().loss(model.eval(), b)) for b in DATA.validation) / 2


def run(model: nn.Module, objective: Objective, folder: Path) -> None:
    folder.mkdir()
    train(model, objective, DATA, SETTINGS, folder, Silent())


def new_model() -> NanoGPTForCausalLM:
    shape = {"vocab_size": VOCABULARY, "n_positions": LENGTH, "n_embd": 32, "n_layer": 2}
    return build_model(NanoGPTConfig(**shape, n_head=2, dropout=0.0), seed=0)


def test_two_bits_learned_beat_two_bits_rounded_afterwards(tmp_path: Path) -> None:
    """Both spend 240 steps: all in full precision, or the second half through quantization."""
    methods = Methods(Rtn(2, 16), Rtn(2, 16))
    half = new_model()
    run(half, Full(), tmp_path / "half")
    after = copy.deepcopy(half)
    run(after, Full(), tmp_path / "after")
    exact = loss_of(after)
    quantize_model(after, methods)
    work = Qat(warm_in=0.2).begin(Start(half, methods=methods))
    run(work.model, work.objective, tmp_path / "within")
    rounded, learned = loss_of(after), loss_of(work.finish())
    assert exact < 0.5 * math.log(VOCABULARY)
    assert learned - exact < 0.5 * (rounded - exact)
