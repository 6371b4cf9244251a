"""Which kernel runs, what it keeps beside a weight, and PyTorch's own products."""

import copy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from packing import ENDS, pack
from tiny_models import tiny_family
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from quantale.quant import dispatch, ledger
from quantale.quant.apply import Method
from quantale.quant.dispatch import Kernel, fast_kernels, kernels, select
from quantale.quant.kernels.aten import Aten
from quantale.quant.kernels.reference import Reference
from quantale.quant.linear import QuantLinear
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.packed import PackedTensor

BFLOAT16 = 4 * 2.0**-9
"""Share of the sum of magnitudes: input, scale, offset and output are rounded to bfloat16."""


def drawn(rows: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Doubling:
    """A fast kernel that prepares the whole weight and is easy to recognise: twice the result."""

    exact = False
    rank = 99
    needs = "nothing"

    def lacks(self) -> list[str]:
        return []

    def refuses(self, x: Tensor, packed: PackedTensor) -> list[str]:
        return ["wants two rows at least"] if x.shape[0] < 2 else []

    def prepare(self, packed: PackedTensor) -> tuple[Tensor, ...]:
        return (2 * packed.dequantize(),)

    def linear(
        self, x: Tensor, packed: PackedTensor, bias: Tensor | None, prepared: tuple[Tensor, ...]
    ) -> Tensor:
        return nn.functional.linear(x, prepared[0].to(x.dtype), bias)


@pytest.fixture
def doubling(monkeypatch: pytest.MonkeyPatch) -> None:
    found: tuple[tuple[str, Kernel], ...] = (
        ("doubling", Doubling()),
        ("reference", Reference()),
    )
    monkeypatch.setattr(dispatch, "kernels", lambda: found)


def layer(seed: int = 0) -> QuantLinear:
    return QuantLinear(Rtn(4, 16).quantize(drawn(8, 32, seed)), None)


def test_kernels_that_are_not_exact_run_inside_the_block_alone(doubling: None) -> None:
    module, x = layer(), drawn(3, 32)
    exact = module(x)
    with fast_kernels():
        assert torch.equal(module(x), 2 * exact)
        assert module.runner.name == "doubling"
        with fast_kernels(False):
            assert torch.equal(module(x), exact)
        assert torch.equal(module(x), 2 * exact)
    assert torch.equal(module(x), exact)
    assert module.runner.name == "reference"


def test_the_block_ends_with_an_error_too(doubling: None) -> None:
    with pytest.raises(ZeroDivisionError), fast_kernels():
        _ = 1 / 0
    assert select(drawn(3, 32), layer().packed)[0] == "reference"


def test_what_was_prepared_is_counted_and_never_stored(doubling: None) -> None:
    module, x = layer(), drawn(3, 32)
    stored = set(module.state_dict())
    with fast_kernels():
        module(x)
        module(x[:1])  # refused: the reference prepares nothing and leaves the other's in place
    kept = {name: buffer for name, buffer in module.named_buffers() if name not in stored}
    assert {name: tuple(buffer.shape) for name, buffer in kept.items()} == {
        "prepared_doubling_0": (8, 32)
    }
    assert set(module.state_dict()) == stored


def test_it_is_prepared_once_and_anew_when_the_weight_changes(doubling: None) -> None:
    module, other, x = layer(), layer(1), drawn(3, 32)
    with fast_kernels():
        module(x)
        first = module.get_buffer("prepared_doubling_0")
        module(x)
        assert module.get_buffer("prepared_doubling_0") is first
        module.load_state_dict(other.state_dict())
        assert torch.equal(module(x), other(x))
        module.scale = other.get_buffer("scale") * 2
        assert torch.equal(module(x), 2 * other(x))


def test_a_copy_prepares_for_itself_and_a_move_drops_it(doubling: None) -> None:
    module, x = layer(), drawn(3, 32)
    with fast_kernels():
        expected = module(x)
        twin = copy.deepcopy(module)
        twin.load_state_dict(layer(1).state_dict())
        assert not torch.equal(twin(x), expected)
        assert torch.equal(module(x), expected)
        moved = module.to(torch.bfloat16)
        assert [name for name, _ in moved.named_buffers() if "prepared" in name] == []
        assert torch.equal(moved(x), expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed model of 8-bit rows and a head tied to a packed embedding, on disk."""
    folder = tmp_path_factory.mktemp("packed")
    model = tiny_family("Llama")
    pack(model, ENDS, Rtn(8, "row", symmetric=True))
    model.save_pretrained(folder)
    return folder


def test_a_model_that_ran_fast_kernels_is_saved_as_it_was(saved: Path, tmp_path: Path) -> None:
    if Aten().lacks():
        pytest.skip("; ".join(Aten().lacks()))
    model = AutoModelForCausalLM.from_pretrained(saved)
    before = ledger.inspect(model)
    tokens = torch.arange(4).view(1, 4)
    exact = model(tokens).logits
    with fast_kernels(), torch.no_grad():
        fast = model(tokens).logits
    assert "aten" in ledger.kernel_names(model).values()
    assert 0 < (fast - exact).norm() <= 0.05 * exact.norm()
    after = ledger.inspect(model)
    extra = sum(b.nbytes for n, b in model.named_buffers() if ".prepared_" in n)
    assert after.bytes_resident == before.bytes_resident + extra
    assert model.get_memory_footprint() == after.bytes_resident
    model.save_pretrained(tmp_path)
    names = ("model.safetensors", "config.json")
    assert all((tmp_path / n).read_bytes() == (saved / n).read_bytes() for n in names)
    assert torch.equal(model(tokens).logits, exact)


FITTING: dict[str, Method] = {
    "8 bits by rows": Rtn(8, "row", symmetric=True),
    "8 bits, one scale": Rtn(8, "tensor", symmetric=True),
    "8 bits, one group": Rtn(8, 64, symmetric=True, scale_dtype="float32"),
    "4 bits in 32": Rtn(4, 32),
    "4 bits in 64, symmetric": Rtn(4, 64, symmetric=True),
    "4 bits, scales quantized twice": Rtn(4, 32, double_quant=True),
    "4 bits, floating zeros": Hqq(4, 64),
}


@pytest.mark.parametrize("rows", [1, 5, 200])
@pytest.mark.parametrize("outputs", [1, 16, 33, 48])
@pytest.mark.parametrize("name", FITTING)
def test_products_of_torch_are_the_formats_to_bfloat16(name: str, outputs: int, rows: int) -> None:
    """Also where it would refuse because the reference is faster."""
    kernel = Aten()
    if kernel.lacks():
        pytest.skip("; ".join(kernel.lacks()))
    packed = FITTING[name].quantize(drawn(outputs, 64) + 0.3)
    x, bias = drawn(rows, 64, seed=1), drawn(1, outputs, seed=2)[0]
    prepared = kernel.prepare(packed)
    for dtype in (torch.float32, torch.bfloat16):
        found = kernel.linear(x.to(dtype), packed, bias.to(dtype), prepared)
        expected = x @ packed.dequantize().t() + bias
        assert found.dtype == dtype
        sizes = x.abs() @ packed.dequantize().abs().t() + bias.abs()
        assert ((found.float() - expected).abs() <= BFLOAT16 * sizes).all()


UNFIT: dict[str, Method] = {
    "axis 1": Hqq(4, 32, axis=0),
    "reads 4 and 8 bits; the weight has 3": Rtn(3, 32),
    "needs a symmetric grid": Rtn(8, "row"),
    "one scale a row; there are 2": Rtn(8, 32, symmetric=True),
    "columns, not 16": Rtn(4, 16),
    "columns, not 64": Rtn(4, 48),
    "reads the affine format": Nf4(32),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_a_weight_of_another_form_is_refused_with_the_reason(reason: str) -> None:
    width = 64 if reason != "columns, not 64" else 96
    packed = UNFIT[reason].quantize(drawn(16, width))
    wanted = reason if reason != "columns, not 64" else "columns, not 48"
    assert any(wanted in found for found in Aten().refuses(drawn(1, width), packed))


def test_a_width_that_would_be_read_past_its_end_is_refused() -> None:
    """PyTorch's 8-bit product crashes the process there."""
    packed = Rtn(8, "row", symmetric=True).quantize(drawn(16, 172))
    assert any("width that 32 divides" in r for r in Aten().refuses(drawn(1, 172), packed))
    assert any("groups of 64 divide" in r for r in Aten().refuses(
        drawn(1, 172), Rtn(4, 64).quantize(drawn(16, 172))
    ))  # fmt: skip


def test_a_product_that_asks_for_a_gradient_or_has_many_rows_is_refused() -> None:
    packed = Rtn(8, "row", symmetric=True).quantize(drawn(16, 64))
    x = drawn(1, 64).requires_grad_()
    assert any("no gradient" in reason for reason in Aten().refuses(x, packed))
    assert Aten().refuses(drawn(1000, 64), packed)
    with torch.no_grad():
        assert "no gradient" not in " ".join(Aten().refuses(x, packed))


@pytest.mark.parametrize("missing", ["_weight_int8pack_mm", "_weight_int4pack_mm_for_cpu"])
def test_a_torch_without_the_private_product_is_told(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantale.quant.kernels import aten

    monkeypatch.setattr(aten, "_OPERATORS", ("mm", f"{missing}_gone"))
    monkeypatch.setattr(aten, "_failures", aten._failures.__wrapped__)
    monkeypatch.setattr(aten, "_capability", lambda: "AVX2")
    assert Aten().lacks() == [f"this PyTorch ({torch.__version__}) has no {missing}_gone"]


def test_every_kernel_says_what_it_needs_and_the_reference_lacks_nothing() -> None:
    for name, kernel in kernels():
        assert kernel.needs
        assert all(isinstance(reason, str) for reason in kernel.lacks())
        assert name != "reference" or kernel.lacks() == []
