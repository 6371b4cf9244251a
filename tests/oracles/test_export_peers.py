"""Our exports in the programs that they are for: llama.cpp and GPTQModel.

These run in an environment of the peers; name it by the variable PEERS, after `make peers`. For
llama.cpp that may be one with llama-cpp-python and numpy alone.
"""

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from export_cases import ALPHABET, method, source_of, wide_llama
from repository import ROOT
from shared_data import STORIES260K, TINYSTORIES, needs_shared
from tiny_models import tiny_gpt2, windows
from torch import nn

from quantale.data.tokenizers import train_bpe
from quantale.export.exporters.gguf import FILE, Gguf
from quantale.export.exporters.gptq import Gptq
from quantale.export.source import Source
from quantale.models.load import ForeignModel, load
from quantale.quant.whole import Methods, quantize_model

PEERS = Path(os.environ.get("PEERS", ROOT / ".venv-peers")) / "bin" / "python"
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PEERS.exists(), reason="no environment of the peers; `make peers`"),
]

LLAMA_CPP = """
import json, sys
import llama_cpp, numpy
asked = json.load(sys.stdin)
engine = llama_cpp.Llama(asked["path"], n_ctx=asked["context"], logits_all=True, verbose=False,
                         n_threads=1)
found = {}
if "text" in asked:
    found["tokens"] = engine.tokenize(asked["text"].encode(), add_bos=asked["bos"], special=False)
tokens = asked.get("tokens") or found["tokens"]
engine.eval(tokens)
logits = numpy.array(engine.scores[: len(tokens)], dtype=numpy.float64)
shifted = logits - logits.max(-1, keepdims=True)
logs = shifted - numpy.log(numpy.exp(shifted).sum(-1, keepdims=True))
found["nll"] = float(-logs[numpy.arange(len(tokens) - 1), tokens[1:]].mean())
greedy = []
for _ in range(asked.get("more", 0)):
    greedy.append(int(numpy.argmax(engine.scores[engine.n_tokens - 1])))
    engine.eval(greedy[-1:])
found["greedy"] = greedy
found["text"] = engine.detokenize(tokens + greedy).decode(errors="replace")
print("FOUND " + json.dumps(found))
engine.close()
"""

GPTQMODEL = """
import json, sys, torch
from gptqmodel import BACKEND, GPTQModel
asked = json.load(sys.stdin)
model = GPTQModel.load(asked["path"], backend=BACKEND.TORCH, dtype=torch.float16)
with torch.no_grad():
    logits = model.model(input_ids=torch.tensor(asked["tokens"])).logits.float()
print("FOUND " + json.dumps({"logits": logits.tolist()}))
"""


def run(program: str, **asked: Any) -> dict[str, Any]:
    """Run a program in the peers' environment and return what it found."""
    variables = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    variables |= {"GPTQMODEL_CPU_WORKERS": "2"}
    variables.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(PEERS), "-c", program],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env=variables,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("FOUND "))
    return found


@functools.cache
def has(package: str) -> bool:
    """Say whether the peers' environment can import a package."""
    return subprocess.run([str(PEERS), "-c", f"import {package}"], check=False).returncode == 0


needs_llama = pytest.mark.skipif(
    not (PEERS.exists() and has("llama_cpp")), reason="no llama_cpp among the peers"
)


@torch.no_grad()
def greedy(model: Any, tokens: list[int], more: int) -> list[int]:
    """Continue with the likeliest token each time."""
    for _ in range(more):
        logits = model(input_ids=torch.tensor([tokens])).logits
        tokens = [*tokens, int(logits[0, -1].argmax())]
    return tokens[-more:]


@torch.no_grad()
def nll(model: Any, tokens: list[int]) -> float:
    """Mean nats a token."""
    row = torch.tensor([tokens])
    logits = model(input_ids=row).logits.double()
    return float(nn.functional.cross_entropy(logits[0, :-1], row[0, 1:]))


@needs_llama
@needs_shared
def test_llama_cpp_writes_the_same_story_from_our_float16_file(tmp_path: Path) -> None:
    loaded = load(STORIES260K)
    source = Source(loaded.model, loaded.tokenizer, torch.float32)
    Gguf().write(source, "F16", tmp_path)
    text = "Once upon a time, there was a little girl named Lily."
    ids = loaded.tokenizer(text)["input_ids"]
    found = run(LLAMA_CPP, path=str(tmp_path / FILE), context=512, text=text, bos=True, more=120)
    assert found["tokens"] == ids
    expected = greedy(loaded.model, ids, 120)
    assert found["greedy"] == expected
    story = loaded.tokenizer.decode([*ids, *expected], skip_special_tokens=True)
    assert found["text"].strip() == story.strip()


@needs_llama
@needs_shared
def test_a_q4_0_file_of_gguf_py_scores_as_llama_cpp_scores_it(tmp_path: Path) -> None:
    """To 1 %: llama.cpp also rounds activations to 8 bits."""
    loaded = load(STORIES260K)
    Gguf().write(Source(loaded.model, loaded.tokenizer, torch.float32), "Q4_0", tmp_path)
    ours = load(tmp_path / FILE)
    assert isinstance(ours, ForeignModel)
    assert "stay packed" in ours.note
    text = (TINYSTORIES / "valid.txt").read_text(encoding="utf-8").split("<|endoftext|>")[0]
    tokens = ours.tokenizer(text.strip())["input_ids"][:400]
    theirs = run(LLAMA_CPP, path=str(tmp_path / FILE), context=512, tokens=tokens)["nll"]
    assert nll(ours.model, tokens) == pytest.approx(theirs, rel=0.01)
    assert nll(loaded.model, tokens) < theirs - 0.005


@needs_llama
@pytest.mark.parametrize("family", ["llama", "gpt2", "nanogpt"])
@pytest.mark.parametrize(("packing", "kind"), [("plain", "F16"), ("rtn4", "Q4_0")])
def test_llama_cpp_computes_what_we_compute(
    family: str, packing: str, kind: str, tmp_path: Path
) -> None:
    """Random models with character tokenizers; the text has a character that none knows."""
    source = source_of(family, packing)
    Gguf().write(source, kind, tmp_path)
    text = "Say: hello\nworld, ü?"
    ids = source.tokenizer(text)["input_ids"]
    found = run(LLAMA_CPP, path=str(tmp_path / FILE), context=64, text=text, bos=False, more=20)
    assert found["tokens"] == ids
    assert found["nll"] == pytest.approx(nll(source.model, ids), rel=0.01)
    if kind == "F16":
        assert found["greedy"] == greedy(source.model, ids, 20)


@needs_llama
def test_llama_cpp_reads_our_byte_level_tokenizer(tmp_path: Path) -> None:
    tokenizer = train_bpe([ALPHABET, "hello world, hello there, it's 42 o'clock"], 300)
    model = tiny_gpt2()
    model.resize_token_embeddings(len(tokenizer))
    Gguf().write(Source(model, tokenizer, torch.float32), "F16", tmp_path)
    text = "hello there,  it's\n42 ünknown  o'clock"
    found = run(LLAMA_CPP, path=str(tmp_path / FILE), context=64, text=text, bos=False)
    assert found["tokens"] == tokenizer(text)["input_ids"]
    assert found["text"].strip() == text


@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (8, True)])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gptqmodel_computes_what_we_compute(
    family: str, bits: int, symmetric: bool, tmp_path: Path
) -> None:
    if not has("gptqmodel"):
        pytest.skip("no gptqmodel among the peers")
    model = wide_llama() if family == "llama" else tiny_gpt2()
    quantize_model(model, Methods(method("rtn", bits=bits, group_size=32, symmetric=symmetric)))
    source = Source(model, source_of("llama", "plain").tokenizer, torch.float32)
    written = Gptq().write(source, "auto", tmp_path)
    assert written.kind == ("v1" if symmetric else "v2")
    tokens = windows(2)
    theirs = torch.tensor(run(GPTQMODEL, path=str(tmp_path), tokens=tokens.tolist())["logits"])
    with torch.no_grad():
        ours = model(tokens).logits
    assert float((ours - theirs).norm() / ours.norm()) < 5e-3
