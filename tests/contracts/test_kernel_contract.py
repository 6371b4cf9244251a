"""What every kernel owes the format whose result it computes."""

import pytest
import torch
from plugin_cases import inputs, is_frozen, packed_cases
from torch import Tensor

from quantale.core.registry import KERNELS
from quantale.quant.dispatch import Kernel, fast_kernels, kernels, select
from quantale.quant.packed import PackedTensor

PACKED = packed_cases()
INEXACT = 0.02
"""Relative error that a kernel may make that does not call itself exact."""

every_kernel = pytest.mark.parametrize("kernel", [KERNELS.get(name)() for name in KERNELS.names()])
every_packed = pytest.mark.parametrize("packed", [c[1] for c in PACKED], ids=[c[0] for c in PACKED])


def batches(width: int) -> list[Tensor]:
    """One token, a prompt, a batch, nothing at all, and a view that is not contiguous."""
    x = inputs(width, 6, seed=5)
    shapes = [x[:1], x, x.view(2, 3, width), x[:0], x.t().clone().t()]
    return [one.to(dtype) for one in shapes for dtype in (torch.float32, torch.bfloat16)]


@every_kernel
def test_it_is_a_frozen_dataclass_that_declares_exactness_rank_and_needs(kernel: Kernel) -> None:
    assert is_frozen(type(kernel))
    assert isinstance(kernel.exact, bool)
    assert isinstance(kernel.rank, int)
    assert kernel.needs
    assert all(isinstance(reason, str) and reason for reason in kernel.lacks())


@every_kernel
@every_packed
def test_it_gives_reasons_to_refuse_or_the_result_of_the_format(
    kernel: Kernel, packed: PackedTensor
) -> None:
    bias = torch.arange(packed.shape[0]) / 7
    for x in batches(packed.shape[1]):
        reasons = kernel.refuses(x, packed)
        assert isinstance(reasons, list)
        assert all(isinstance(reason, str) and reason for reason in reasons)
        if reasons:
            continue
        before, prepared = x.clone(), kernel.prepare(packed)
        for added in (None, bias.to(x.dtype)):
            found = kernel.linear(x, packed, added, prepared)
            expected = packed.format.apply(x, packed, added)
            assert found.shape == expected.shape
            assert found.dtype == expected.dtype
            if kernel.exact:
                assert torch.equal(found, expected)
            else:
                wrong = (found - expected).float().norm()
                assert wrong <= INEXACT * expected.float().norm()
        assert torch.equal(x, before)


@every_kernel
@every_packed
def test_the_same_input_gives_the_same_bits(kernel: Kernel, packed: PackedTensor) -> None:
    x = inputs(packed.shape[1], 6, seed=5)
    if not kernel.refuses(x, packed):
        first = kernel.linear(x, packed, None, kernel.prepare(packed))
        assert torch.equal(kernel.linear(x, packed, None, kernel.prepare(packed)), first)


@every_packed
def test_some_kernel_runs_every_layer_and_the_highest_rank_wins(packed: PackedTensor) -> None:
    for x in batches(packed.shape[1]):
        willing = [kernel for _, kernel in kernels() if not kernel.refuses(x, packed)]
        assert select(x, packed)[1].rank == max(k.rank for k in willing if k.exact)
        with fast_kernels():
            assert select(x, packed)[1].rank == max(k.rank for k in willing)


def test_the_reference_is_the_last_resort_and_never_refuses() -> None:
    name, last = kernels()[-1]
    assert name == "reference"
    assert last.exact
    for _, packed in PACKED:
        assert last.refuses(inputs(packed.shape[1], 2), packed) == []
