"""From a model directory to a packed one: rules, dtypes, calibration, and what the summary says."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import VOCABULARY, tiny_gpt2, tiny_llama
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import quantale as qt
from quantale.core.errors import DataError, UsageError
from quantale.core.progress import Silent
from quantale.core.recipe_variants import RuleSection
from quantale.core.records import read_json
from quantale.data.documents import Document, Documents
from quantale.quant.methods.gptq import Gptq
from quantale.quant.methods.nf4 import Nf4
from quantale.quant.methods.rtn import Rtn
from quantale.quant.rules import Rule
from quantale.stages.calibration import CalibrationText
from quantale.stages.inspect import inspect_model
from quantale.stages.quantize import quantize_model
from quantale.stages.requests import QuantizeRequest

CONTRACT = {
    "out",
    "method",
    "bits_per_weight",
    "bytes_on_disk",
    "bytes_resident",
    "sites_quantized",
    "sites_skipped",
    "seconds",
    "peak_rss_bytes",
    "calibration",
}


@pytest.fixture(autouse=True)
def _without_fresh_processes(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take seconds each; one test keeps its own."""
    if "verified" not in request.fixturenames:
        monkeypatch.setattr("quantale.stages.quantize.verify_saves", lambda *given: None)


@pytest.fixture
def verified() -> str:
    """Ask for the proof in a fresh process; the dtype that is proven."""
    return "float16"


@dataclass
class Notes(Silent):
    texts: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "model"
    tiny_llama().save_pretrained(folder)
    words = {f"w{i}": i for i in range(VOCABULARY)}
    made = spaced(Tokenizer(models.WordLevel(words, unk_token="w1")))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="w1", bos_token="w0")
    wrapped.save_pretrained(folder)
    return folder


def rule(method: str | None, **fields: Any) -> RuleSection:
    return RuleSection(method=method, **fields)


def quantized(base: Path, out: Path, method: str | None, **fields: Any) -> dict[str, Any]:
    settings = fields.pop("settings", {})
    progress = fields.pop("progress", Silent())
    request = QuantizeRequest(str(base), method, settings, **fields)
    return quantize_model(request, out, resume=False, progress=progress)


def test_a_hybrid_of_rules_alone_is_shown_site_by_site(base: Path, tmp_path: Path) -> None:
    rules = (
        rule("hqq", match="model.layers.[0].**", bits=4, group_size=16),
        rule("nf4", match="model.layers.**", group_size=16),
        rule("rtn", role="head", bits=8),
    )
    result = quantized(base, tmp_path / "out", None, rules=rules)
    assert set(result) >= CONTRACT
    assert result["method"] == "rules"
    assert result["methods"] == {"hqq": 7, "nf4": 7, "rtn": 1}
    assert result["calibration"] is None
    assert "model.embed_tokens" in result["sites_skipped"]
    sites = {site["name"]: site for site in inspect_model(result["out"])["sites"]}
    assert sites["model.layers.0.mlp.up_proj"]["method"] == "hqq"
    assert sites["model.layers.1.mlp.up_proj"]["method"] == "nf4"
    assert sites["lm_head"]["method"] == "rtn"
    assert sites["lm_head"]["bits_per_weight"] > 8
    assert all(site["kernel"] and site["format"] for site in sites.values())


def test_a_packed_model_with_a_rest_in_half_precision_is_proven(
    base: Path, tmp_path: Path, verified: str
) -> None:
    out = tmp_path / "out"
    quantized(base, out, "nf4", dtype=verified, embedding_method="nf4")
    model = AutoModelForCausalLM.from_pretrained(out)
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    tokens = torch.arange(9)[None]
    computed = qt.load(out).model(tokens).logits
    assert computed.dtype == torch.float32
    torch.testing.assert_close(model(tokens).logits.float(), computed, rtol=0.02, atol=0.2)


def test_the_rest_in_half_precision_is_half_the_bytes(base: Path, tmp_path: Path) -> None:
    found = {}
    for dtype in (None, "float16", "bfloat16"):
        out = tmp_path / str(dtype)
        found[dtype] = quantized(base, out, "nf4", settings={"group_size": 16}, dtype=dtype)
        shown = inspect_model(str(out))
        assert shown["bytes_on_disk"] == found[dtype]["bytes_on_disk"]
        assert shown["bytes_resident"] == found[dtype]["bytes_resident"]
    plain = tiny_llama()
    linears = sum(
        p.numel() for n, p in plain.named_parameters() if ".layers." in n and p.dim() == 2
    )
    rest = sum(p.numel() for p in plain.parameters()) - linears
    saved = found[None]["bytes_resident"] - found["float16"]["bytes_resident"]
    assert saved == 2 * rest
    assert found["float16"]["bytes_resident"] == found["bfloat16"]["bytes_resident"]


def test_without_data_the_model_writes_its_own_and_says_so(base: Path, tmp_path: Path) -> None:
    notes = Notes()
    fields = {"settings": {"bits": 3, "group_size": 16}, "samples": 4, "length": 24, "seed": 7}
    first = quantized(base, tmp_path / "a", "gptq", progress=notes, **fields)
    assert first["calibration"] == {
        "source": "generated by the model",
        "samples": 4,
        "length": 24,
        "tokens": 96,
        "seed": 7,
    }
    assert any("the model itself writes 4 x 24 = 96 tokens" in text for text in notes.texts)
    quantized(base, tmp_path / "b", "gptq", **fields)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    quantized(base, tmp_path / "c", "gptq", **{**fields, "seed": 8})
    assert weights(tmp_path / "a") != weights(tmp_path / "c")
    settings = read_json(tmp_path / "a" / "run.json")["settings"]
    assert settings["calibration"]["source"] == "generated by the model"


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def test_windows_are_no_longer_than_asked_or_2048_tokens() -> None:
    documents = Documents.collect((Document("w1 " * 12_000, "0", {}),), "long", "train")
    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=spaced(Tokenizer(models.WordLevel(words, unk_token="w1"))), bos_token="w0"
    )
    network = tiny_llama()
    for context, asked, length in ((64, None, 64), (8192, None, 2048), (8192, 4096, 4096)):
        network.config.max_position_embeddings = context
        text = CalibrationText(documents, 1, asked, 0)
        assert text.windows(network, tokenizer).shape == (1, length)


def spaced(tokenizer: Tokenizer) -> Tokenizer:
    """Let a tokenizer split at spaces."""
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def test_calibration_text_is_named_with_its_tokens(base: Path, tmp_path: Path) -> None:
    text = tmp_path / "words.txt"
    text.write_text(" ".join(f"w{i % VOCABULARY}" for i in range(400)), encoding="utf-8")
    fields = {"settings": {"bits": 4, "group_size": 16}, "calibration": str(text)}
    result = quantized(base, tmp_path / "out", "gptq", samples=3, length=16, **fields)
    assert result["calibration"] == {
        "source": str(text),
        "samples": 3,
        "length": 16,
        "tokens": 48,
        "seed": 0,
    }
    with pytest.raises(DataError, match=r"needs 64 x 16 = 1024 tokens, there are 401"):
        quantized(base, tmp_path / "short", "gptq", samples=64, length=16, **fields)


@pytest.mark.parametrize(
    ("method", "fields", "message"),
    [
        ("rtn", {"settings": {"bits": 4, "scale_type": 3}}, "did you mean 'scale_dtype'?"),
        (None, {"settings": {"bits": 4}, "rules": (rule("nf4", role="mlp"),)}, "needs a method"),
        ("nf4", {"rules": (rule("nf4", match="modl.**"),)}, "'modl.**' matches no site; the model"),
        ("nf4", {"rules": (rule("nf4", match="model.layers.**"),)}, "decides no site"),
        ("nf4", {"rules": (rule("gptq", role="embedding", bits=4),)}, "gptq calibrates on the in"),
        ("nf4", {"rules": (rule("nf4", role="position"),)}, "for role position matches no site"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    base: Path, tmp_path: Path, method: str | None, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        quantized(base, tmp_path / "out", method, samples=2, length=8, **fields)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_library_takes_rules_and_calibrates_without_data(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = tiny_gpt2()
    rules = [Rule(Gptq(3, 16), "**.h.0.**"), Rule(Nf4(16), role="embedding")]
    with caplog.at_level(logging.WARNING):
        one, tokenizer = qt.quantize((model, None), rules, samples=4, length=16)
    assert "the model itself writes 4 x 16 = 64 tokens" in caplog.text
    assert tokenizer is None
    two, _ = qt.quantize((model, None), rules, samples=4, length=16)
    other, _ = qt.quantize((model, None), rules, samples=4, length=16, seed=1)
    tokens = torch.arange(20)[None]
    assert torch.equal(one(tokens).logits, two(tokens).logits)
    assert not torch.equal(one(tokens).logits, other(tokens).logits)
    found = {line.name: line.method for line in qt.inspect(one).sites}
    assert found["transformer.h.0.mlp.c_fc"] == "gptq"
    assert (found["transformer.h.1.mlp.c_fc"], found["transformer.wte"]) == ("none", "nf4")
    assert qt.quantize((model, None), Rtn(8))[0] is not model
