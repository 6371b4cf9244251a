"""A model quantized from its files, a piece at a time, is the one that is quantized in memory."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CLASSIFIERS, FAMILIES, tiny_classifier, tiny_family, tiny_llama, windows
from transformers import PreTrainedModel

from quantale.core.errors import ModelFileError, NumericalError
from quantale.models.load import load
from quantale.models.skeleton import open_model, retype
from quantale.quant import shards
from quantale.quant.calibration import LayerStats
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.hqq import Hqq
from quantale.quant.methods.rtn import Rtn
from quantale.quant.proof import logits_digest, proof_tokens
from quantale.quant.rules import Rule
from quantale.quant.save import write_model, write_pieces
from quantale.quant.sequential import Calibration, Outcome
from quantale.quant.streamed import Streamed, fits
from quantale.quant.verify import digest_in_pieces
from quantale.quant.whole import Methods, quantize_from, quantize_model

NAMES = [*FAMILIES, *(f"{name} classifier" for name in CLASSIFIERS)]
GPTQ = Methods(Gptq(3, 16, act_order=True), embedding=Rtn(8))


class CutShortError(Exception):
    """Ends a run in the middle."""


def saved(model: PreTrainedModel, folder: Path, **more: Any) -> Path:
    model.save_pretrained(folder, **more)
    return folder


def tiny(name: str) -> PreTrainedModel:
    family, _, kind = name.partition(" ")
    return tiny_classifier(family) if kind else tiny_family(family)


def streamed(
    source: Path,
    out: Path,
    methods: Methods,
    dtype: torch.dtype = torch.float32,
) -> Outcome:
    opened = open_model(source)
    model = opened.model
    assert fits(model, opened.checkpoint)
    outcome = quantize_from(
        Streamed(model, opened.checkpoint, dtype),
        model,
        methods,
        Calibration(windows(), 4),
        scratch=out / "scratch",
        proof=proof_tokens(model),
    )
    assert all(tensor.is_meta for tensor in model.parameters()), "something stayed in memory"
    retype(model, dtype)
    write_pieces(model, None, out / "scratch", out)
    return outcome


def in_memory(source: Path, out: Path, methods: Methods) -> PreTrainedModel:
    model: PreTrainedModel = load(source).model
    quantize_model(model, methods, windows(), batch_size=4)
    write_model(model, None, out)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_streaming_writes_the_bytes_of_the_model_in_memory(name: str, tmp_path: Path) -> None:
    source = saved(tiny(name), tmp_path / "source", max_shard_size="20KB")
    whole = in_memory(source, tmp_path / "whole", GPTQ)
    outcome = streamed(source, tmp_path / "streamed", GPTQ)
    assert outcome.digest == logits_digest(whole)
    for file in ("model.safetensors", "config.json", "generation_config.json"):
        paths = [tmp_path / kind / file for kind in ("whole", "streamed")]
        assert paths[0].exists() == paths[1].exists(), file
        if paths[0].exists():
            assert paths[0].read_bytes() == paths[1].read_bytes(), file


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OPT with projections that are no part of a block; the last is stored before the blocks."""
    return saved(tiny("OPT"), tmp_path_factory.mktemp("opt") / "source")


OUT = "model.decoder.project_out"
PROJECTED = Methods(Gptq(4, 16), rules=(Rule(Gptq(4, 8), role="other"), Rule(Rtn(8), "**.embed*")))


def test_projections_around_the_blocks_are_calibrated_in_the_order_of_the_model(
    projected: Path, tmp_path: Path
) -> None:
    whole = in_memory(projected, tmp_path, PROJECTED)
    expected = LayerStats(32)
    for inputs in seen_by(whole, OUT):
        expected.add(inputs)
    weight = load(projected).model.get_submodule(OUT).weight
    packed = Gptq(4, 8).quantize(weight, expected)
    assert torch.equal(whole.get_submodule(OUT).get_buffer("weight"), packed.tensors["weight"])


def test_projections_around_the_blocks_are_streamed_and_resumed(
    projected: Path, tmp_path: Path
) -> None:
    whole = in_memory(projected, tmp_path / "whole", PROJECTED)
    first, again = (streamed(projected, tmp_path / "streamed", PROJECTED) for _ in range(2))
    assert first.digest == again.digest == logits_digest(whole)
    files = [tmp_path / kind / "model.safetensors" for kind in ("whole", "streamed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    names = [result.site.name for result in first.results]
    assert names == [result.site.name for result in again.results]
    assert {"model.decoder.project_in", OUT} < {
        r.site.name for r in first.results if r.output_error
    }


def seen_by(model: PreTrainedModel, name: str) -> list[torch.Tensor]:
    """Return the inputs that a module has on the calibration windows, batch by batch."""
    seen: list[torch.Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(
        lambda module, args: seen.append(args[0].detach())
    )
    with torch.no_grad():
        for batch in (windows()[:4], windows()[4:]):
            model(batch, use_cache=False)
    handle.remove()
    return seen


def test_the_rest_keeps_the_dtype_of_the_checkpoint_and_is_proven_in_float32(
    tmp_path: Path,
) -> None:
    source = saved(tiny("Llama").to(torch.bfloat16), tmp_path / "source")
    outcome = streamed(source, tmp_path / "out", GPTQ, open_model(source).dtype)
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert stored["model.norm.weight"].dtype == torch.bfloat16
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
    whole = in_memory(source, tmp_path / "whole", GPTQ)
    assert logits_digest(whole) == outcome.digest
    packed = [name for name in stored if stored[name].dtype == torch.uint8]
    other = load_file(tmp_path / "whole" / "model.safetensors")
    assert len(packed) > 10
    assert all(torch.equal(stored[name], other[name]) for name in packed)


def test_a_narrower_rest_is_rounded_before_anything_is_computed_with_it(tmp_path: Path) -> None:
    source = saved(tiny("GPT2"), tmp_path / "source")
    outcome = streamed(source, tmp_path / "out", Methods(Gptq(4, 16)), torch.float16)
    again = load(tmp_path / "out").model
    assert {p.dtype for p in load(tmp_path / "out", dtype=torch.float16).model.parameters()} == {
        torch.float16
    }
    assert logits_digest(again) == outcome.digest


def test_a_weight_that_overflows_the_asked_dtype_is_named(tmp_path: Path) -> None:
    model = tiny("Llama")
    with torch.no_grad():
        model.model.norm.weight[3] = 1e6
    source = saved(model, tmp_path / "source")
    with pytest.raises(NumericalError, match=r"model.norm.weight: .*bfloat16"):
        streamed(source, tmp_path / "out", GPTQ, torch.float16)


@pytest.mark.parametrize("methods", [Methods(Gptq(4, 16), head=Gptq(4, 16)), Methods(Hqq(4, 16))])
@pytest.mark.parametrize("done", [0, 3, 8, 13])
def test_a_run_cut_short_ends_in_the_bytes_of_a_whole_one(
    methods: Methods, done: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tiny_llama(), tmp_path / "source")
    streamed(source, tmp_path / "whole", methods)
    assert methods.linear is not None
    kind, count = type(methods.linear), 0
    original = kind.quantize

    def failing(*args: Any) -> Any:
        nonlocal count
        count += 1
        if count > done:
            raise CutShortError
        return original(*args)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "quantize", failing)
        with pytest.raises(CutShortError):
            streamed(source, tmp_path / "again", methods)
    finished = len(list((tmp_path / "again" / "scratch").glob("block-*")))
    assert finished == done // 7
    outcome = streamed(source, tmp_path / "again", methods)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert outcome.digest == logits_digest(load(tmp_path / "again").model)
    assert streamed(source, tmp_path / "again", methods).digest == outcome.digest


def test_large_models_become_shards_and_are_verified_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tiny("Llama"), tmp_path / "source")
    outcome = streamed(source, tmp_path / "one", GPTQ)
    monkeypatch.setattr(shards, "WHOLE_LIMIT", 1000)
    assert streamed(source, tmp_path / "many", GPTQ).digest == outcome.digest
    files = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert files == [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]
    one, many = (load(tmp_path / name).model.state_dict() for name in ("one", "many"))
    assert set(one) == set(many)
    assert all(torch.equal(one[name], many[name]) for name in one)
    for name in ("one", "many"):
        assert digest_in_pieces(tmp_path / name) == outcome.digest
    path = tmp_path / "many" / files[1]
    damaged = bytearray(path.read_bytes())
    damaged[-40] ^= 1
    path.write_bytes(damaged)
    assert digest_in_pieces(tmp_path / "many") != outcome.digest


def test_pieces_are_verified_only_when_every_tensor_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved(tiny("Llama"), tmp_path / "source")
    streamed(source, tmp_path / "out", GPTQ)
    path = tmp_path / "out" / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.scale"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(ModelFileError, match=r"lacks tensor model.layers.1.mlp.up_proj.scale"):
        digest_in_pieces(tmp_path / "out")


def test_a_body_alone_fits_and_other_names_do_not(tmp_path: Path) -> None:
    model = tiny("GPT2")
    saved(model, tmp_path / "source")
    path = tmp_path / "source" / "model.safetensors"
    tensors = load_file(path)
    bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(bare, path, {"format": "pt"})
    outcome = streamed(tmp_path / "source", tmp_path / "out", GPTQ)
    assert outcome.digest == logits_digest(load(tmp_path / "out").model)
    for odd in ({"h.0.extra": torch.zeros(1)}, {"wte.weight": torch.zeros(200, 32)}):
        save_file(bare | odd, path, {"format": "pt"})
        opened = open_model(tmp_path / "source")
        assert not fits(opened.model, opened.checkpoint)
