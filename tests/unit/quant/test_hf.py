"""Saved models load through transformers alone after `import quantale`, bit for bit, or fail."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import tiny_gpt2, tiny_llama, tiny_nanogpt, windows
from transformers import AutoModelForCausalLM, PreTrainedModel

import quantale
from quantale.core.errors import ModelFileError, OutputExistsError
from quantale.quant.ledger import inspect
from quantale.quant.methods.rtn import Rtn
from quantale.quant.proof import logits_digest
from quantale.quant.save import verify_saves, write_model
from quantale.quant.whole import Methods, quantize_model


def packed(make: Callable[[], PreTrainedModel], embedding: int | None = None) -> PreTrainedModel:
    model = make()
    ends = None if embedding is None else Rtn(embedding, 16)
    quantize_model(model, Methods(Rtn(4, 16), embedding=ends))
    return model


CASES = [
    (tiny_gpt2, None),
    (tiny_gpt2, 8),
    (tiny_llama, None),
    (tiny_llama, 4),
    (lambda: tiny_llama(tied=True), 8),
    (tiny_nanogpt, None),
    (tiny_nanogpt, 8),
]


@pytest.mark.parametrize(("make", "embedding"), CASES)
def test_a_saved_model_comes_back_bit_for_bit(
    make: Callable[[], PreTrainedModel], embedding: int | None, tmp_path: Path
) -> None:
    model = packed(make, embedding)
    write_model(model, None, tmp_path / "a")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "a")
    assert logits_digest(again) == logits_digest(model)
    again.save_pretrained(tmp_path / "b")
    first, second = (tmp_path / n / "model.safetensors" for n in "ab")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("make", "embedding"), CASES)
def test_the_ledger_adds_up_to_the_file_and_to_the_memory(
    make: Callable[[], PreTrainedModel], embedding: int | None, tmp_path: Path
) -> None:
    model = packed(make, embedding)
    write_model(model, None, tmp_path)
    ledger = inspect(AutoModelForCausalLM.from_pretrained(tmp_path), tmp_path)
    assert ledger.bytes_on_disk == (tmp_path / "model.safetensors").stat().st_size
    assert sum(ledger.components.values()) == ledger.bytes_on_disk
    assert ledger.bytes_resident == model.get_memory_footprint()
    plain = make()
    assert ledger.parameters == sum(p.numel() for p in plain.parameters())
    assert sum(inspect(model).components.values()) == ledger.bytes_resident


def test_a_fresh_process_computes_the_same_bits_and_generates(tmp_path: Path) -> None:
    folders = {}
    for name, (make, embedding) in {"gpt2": CASES[1], "llama": CASES[4]}.items():
        model = packed(make, embedding)
        write_model(model, None, tmp_path / name)
        folders[tmp_path / name] = logits_digest(model)
    verify_saves(folders)
    with pytest.raises(ModelFileError, match="other logits"):
        verify_saves({tmp_path / "gpt2": "0" * 64})


def test_a_process_without_quantale_gets_an_error_and_never_random_weights(tmp_path: Path) -> None:
    cases: list[tuple[Callable[[], PreTrainedModel], int, int | str]] = [
        (tiny_gpt2, 4, 16),
        (tiny_gpt2, 8, "row"),
        (tiny_llama, 4, 16),
        (tiny_llama, 8, "row"),
    ]
    for index, (make, bits, group) in enumerate(cases):
        model = make()
        quantize_model(model, Methods(Rtn(bits, group)))  # 8 bits a row has the bytes of the shape
        write_model(model, None, tmp_path / str(index))
    code = f"""
import sys, transformers
for index in range({len(cases)}):
    try:
        transformers.AutoModelForCausalLM.from_pretrained({str(tmp_path)!r} + "/" + str(index))
    except RuntimeError as error:
        print("refused", "mismatch" in str(error))
assert "quantale" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["refused True"] * len(cases), done.stderr


def test_missing_extra_and_misshapen_tensors_are_errors(tmp_path: Path) -> None:
    model = packed(tiny_gpt2)
    write_model(model, None, tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    name = "transformer.h.0.mlp.c_fc.scale"

    save_file({k: v for k, v in whole.items() if k != name}, file, {"format": "pt"})
    with pytest.raises(ModelFileError, match=f"lacks tensor {name}"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    save_file({**whole, "more": torch.zeros(2)}, file, {"format": "pt"})
    with pytest.raises(ModelFileError, match="unknown tensor more"):
        AutoModelForCausalLM.from_pretrained(tmp_path)
    save_file({**whole, name: whole[name][:, :1].contiguous()}, file, {"format": "pt"})
    with pytest.raises(ModelFileError, match="shape"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_a_damaged_quantization_config_is_an_error(tmp_path: Path) -> None:
    model = packed(tiny_gpt2)
    write_model(model, None, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    changes: list[dict[str, object]] = [
        {"layout_version": 99},
        {"sites": {"nowhere": {}}},
        {"sites": 3},
    ]
    for change in changes:
        broken = config | {"quantization_config": config["quantization_config"] | change}
        path.write_text(json.dumps(broken))
        with pytest.raises(ModelFileError):
            AutoModelForCausalLM.from_pretrained(tmp_path)


def test_the_public_save_is_sealed_verified_and_never_overwrites(tmp_path: Path) -> None:
    model = packed(tiny_gpt2, 8)
    folder = quantale.save((model, None), tmp_path / "out")
    assert (folder / "MANIFEST.json").is_file()
    with pytest.raises(OutputExistsError, match="exists already"):
        quantale.save((model, None), tmp_path / "out")
    tokens = windows(1, 4)
    again = AutoModelForCausalLM.from_pretrained(folder)
    out = again.generate(tokens, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert torch.equal(
        out, model.generate(tokens, max_new_tokens=5, do_sample=False, pad_token_id=0)
    )


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import quantale, sys; assert 'torch' not in sys.modules, 'torch'; print(dir(quantale))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "quantize" in done.stdout


def test_registration_works_whichever_is_imported_first(tmp_path: Path) -> None:
    """The formats are first imported while transformers builds on the meta device."""
    model = tiny_nanogpt()
    quantize_model(model, Methods(Rtn(3, 16)))
    write_model(model, None, tmp_path)
    load = f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path)!r})"
    run = "import torch\nassert torch.isfinite(model(torch.tensor([[1, 2]])).logits).all()"
    for code in (
        f"import quantale\nfrom transformers import AutoModelForCausalLM\n{load}\n{run}",
        f"from transformers import AutoModelForCausalLM\nimport quantale\n{load}\n{run}",
    ):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
