"""Blank packed models: the tensors of a quantized one, without a number in them."""

from pathlib import Path

import pytest
import torch
from plugin_cases import FEW_BITS, method_cases
from tiny_models import tiny_gpt2, tiny_llama, windows
from torch import nn

from quantale.core.errors import UsageError
from quantale.models.sizes import file_bytes, stored_tensors
from quantale.quant.apply import Method
from quantale.quant.blank import format_of, pack_blank
from quantale.quant.hf import mark_quantized
from quantale.quant.ledger import stored_sites
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.whole import Methods, quantize_model
from quantale.tuning.live_bytes import materialize

CASES = method_cases(FEW_BITS)


def shapes(model: nn.Module) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (t.shape, t.dtype) for name, t in stored_tensors(model).items()}


@pytest.mark.parametrize("method", [m for _, m in CASES], ids=[name for name, _ in CASES])
def test_a_method_tells_its_format_on_a_few_numbers(method: Method) -> None:
    layout = format_of(method)
    assert format_of(method) == layout
    assert layout.tensors((24, 40))["weight"][0][0] in (24, 40)


@pytest.mark.parametrize(
    "methods",
    [
        Methods(Nf4()),
        Methods(Rtn(4, 16), embedding=Rtn(8)),
        Methods(Hqq(2, 16)),
        Methods(Gptq(3, 16, zero_dtype="float16")),
    ],
    ids=["nf4", "with embedding", "hqq", "gptq"],
)
def test_a_blank_model_has_the_tensors_of_a_quantized_one(methods: Methods) -> None:
    for make in (tiny_gpt2, tiny_llama):
        real = make()
        quantize_model(real, methods, windows(4))
        with torch.device("meta"):
            blank = type(real)(make().config)
            sites = pack_blank(blank, methods)
        assert shapes(blank) == shapes(real)
        assert sites == stored_sites(real)
        assert all(t.device.type == "meta" for t in stored_tensors(blank).values())


def test_a_blank_model_computes_once_it_has_memory() -> None:
    with torch.device("meta"):
        model = type(tiny_llama())(tiny_llama().config)
        pack_blank(model, Methods(Nf4()))
    materialize(model, lambda t: torch.ones(t.shape, dtype=t.dtype))
    assert torch.isfinite(model(input_ids=windows(2)).logits).all()


def test_what_cannot_be_quantized_is_refused_as_ever() -> None:
    model = tiny_gpt2()
    pack_blank(model, Methods(Rtn(4)))
    mark_quantized(model, stored_sites(model))
    with pytest.raises(UsageError, match="quantized already"):
        pack_blank(model, Methods(Rtn(4)))


def test_the_bytes_of_a_file_are_told_without_writing_it(tmp_path: Path) -> None:
    for make in (tiny_gpt2, tiny_llama):
        model = make()
        quantize_model(model, Methods(Rtn(4, 16)))
        model.save_pretrained(tmp_path)
        size = (tmp_path / "model.safetensors").stat().st_size
        assert size == file_bytes(stored_tensors(model))
