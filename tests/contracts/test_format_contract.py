"""What every storage format owes the layers and files that use it."""

import json
from pathlib import Path

import pytest
import torch
from plugin_cases import inputs, is_frozen, packed_cases
from safetensors.torch import load_file, save_file
from torch.nn import functional

from quantale.core.errors import ModelFileError
from quantale.core.registry import FORMATS
from quantale.quant.packed import PackedTensor
from quantale.quant.stored import format_from, format_record, plugin_name

CASES = packed_cases()
ROUNDED_ACTIVATIONS = 0.05
"""Relative error that a format may make by rounding its inputs; weights alone make none."""

every_packed = pytest.mark.parametrize("packed", [c[1] for c in CASES], ids=[c[0] for c in CASES])


def test_every_format_is_made_by_some_method() -> None:
    assert {plugin_name(packed.format) for _, packed in CASES} == set(FORMATS.names())


@pytest.mark.parametrize("name", FORMATS.names())
def test_it_is_a_frozen_dataclass(name: str) -> None:
    kind = FORMATS.get(name)
    assert is_frozen(kind)


@every_packed
def test_dequantized_dtypes_are_roundings_of_one_float32_weight(packed: PackedTensor) -> None:
    whole = packed.dequantize()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        found = packed.dequantize(dtype)
        assert found.dtype == dtype
        assert torch.equal(found, whole.to(dtype))


@every_packed
def test_rows_are_those_of_the_whole_weight_for_any_index(packed: PackedTensor) -> None:
    whole, last = packed.dequantize(), packed.shape[0] - 1
    indices = [[0], [last, 0, last], [[1, 2], [2, last]], []]
    for index in (torch.tensor(chosen, dtype=torch.int64) for chosen in indices):
        found = packed.format.rows(packed, index, torch.float32)
        assert found.shape == (*index.shape, packed.shape[1])
        assert torch.equal(found, whole[index])


@every_packed
def test_a_layer_multiplies_by_the_dequantized_weight_and_adds_its_bias(
    packed: PackedTensor,
) -> None:
    x = inputs(packed.shape[1], 6, seed=4)
    bias = torch.arange(packed.shape[0]) / 7
    expected = functional.linear(x, packed.dequantize())
    found = packed.format.apply(x, packed, None)
    assert (found - expected).norm() <= ROUNDED_ACTIVATIONS * expected.norm()
    torch.testing.assert_close(packed.format.apply(x, packed, bias), found + bias)


@every_packed
def test_leading_axes_and_dtype_of_the_input_are_those_of_the_output(packed: PackedTensor) -> None:
    x = inputs(packed.shape[1], 6, seed=4)
    flat = packed.format.apply(x, packed, None)
    folded = packed.format.apply(x.view(2, 3, -1), packed, None)
    assert folded.shape == (2, 3, packed.shape[0])
    torch.testing.assert_close(folded.view_as(flat), flat)
    assert packed.format.apply(x.bfloat16(), packed, None).dtype == torch.bfloat16


@every_packed
def test_its_size_is_that_of_its_tensors_and_below_full_precision(packed: PackedTensor) -> None:
    stored = sum(len(tensor.numpy().tobytes()) for tensor in packed.tensors.values())
    assert packed.nbytes == stored < 4 * packed.shape[0] * packed.shape[1]
    weights = packed.shape[0] * packed.shape[1]
    assert packed.bits_per_weight == pytest.approx(8 * stored / weights)


@every_packed
def test_settings_survive_json_and_make_an_equal_format(packed: PackedTensor) -> None:
    record = json.loads(json.dumps(format_record(packed.format), allow_nan=False))
    again = format_from(record)
    assert again == packed.format
    assert again.tensors(packed.shape) == packed.format.tensors(packed.shape)


@every_packed
def test_its_record_and_a_safetensors_file_hold_everything(
    packed: PackedTensor, tmp_path: Path
) -> None:
    save_file(dict(packed.tensors), tmp_path / "packed.safetensors")
    record = format_record(packed.format)
    tensors = load_file(tmp_path / "packed.safetensors")
    again = PackedTensor(format_from(record), packed.shape, tensors)
    assert torch.equal(again.dequantize(), packed.dequantize())


@pytest.mark.parametrize("name", FORMATS.names())
def test_a_record_with_an_unknown_setting_is_a_bad_file(name: str) -> None:
    packed = next(p for _, p in CASES if plugin_name(p.format) == name)
    with pytest.raises(ModelFileError, match="not understood"):
        format_from(format_record(packed.format) | {"colour": 3})
