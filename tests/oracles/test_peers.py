"""What is read out of the peers' files computes what the peers compute themselves.

These run in the peers' own environment; name it by the variable PEERS, after `make peers`.
"""

import os
import subprocess
from pathlib import Path

import pytest
import torch
from repository import ROOT
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

PEERS = Path(os.environ.get("PEERS", ROOT / ".venv-peers")) / "bin" / "python"
pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not PEERS.exists(), reason="no environment of the peers; `make peers`"),
]

GPTQMODEL = """
import sys, tempfile, torch
from pathlib import Path
from safetensors.torch import load_file
from benchmarks.peers.contract import Given
from benchmarks.peers.gptqmodel import Gptqmodel
from benchmarks.peers.linears import load
folder, bits, desc_act = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
windows = load_file(folder / "windows")["windows"]
scratch = Path(tempfile.mkdtemp(dir=folder))
made = Gptqmodel(bits, 32, sym=not desc_act, desc_act=desc_act).run(Given(folder, windows, scratch))
model = load(folder)
for name, parameter in model.named_parameters():
    parameter.data = made.parameters[name]
from gptqmodel import BACKEND, GPTQModel
theirs = GPTQModel.load(str(scratch / "gptqmodel"), backend=BACKEND.TORCH, dtype=torch.float16)
with torch.no_grad():
    mine, other = model(windows).logits, theirs.model(input_ids=windows).logits.float()
print("ERROR", float((mine - other).norm() / mine.norm()))
"""

LLAMA_CPP = """
import sys, llama_cpp, numpy, torch
from pathlib import Path
from benchmarks.peers import gguf_file
from benchmarks.peers.linears import load
folder = Path(sys.argv[1])
model, path = load(folder), folder / "plain.gguf"
gguf_file.write(model, path)
back = gguf_file.read(path, model)
assert all(torch.equal(value, back[name]) for name, value in model.named_parameters())
tokens = torch.arange(40) % 64
engine = llama_cpp.Llama(str(path), n_ctx=64, logits_all=True, verbose=False, n_threads=1)
engine.eval(tokens.tolist())
theirs = torch.from_numpy(numpy.array(engine.scores[:40]))
with torch.no_grad():
    mine = model(tokens[None]).logits[0]
print("ERROR", float((mine - theirs).norm() / mine.norm()))
engine.close()
"""


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return the folder of a tiny model with large random weights, and token windows."""
    torch.manual_seed(0)
    ends = {"vocab_size": 512, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    made: GPT2LMHeadModel | LlamaForCausalLM
    if request.param == "gpt2":
        made = GPT2LMHeadModel(GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=64, **ends))
    else:
        sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
        made = LlamaForCausalLM(LlamaConfig(**sizes, **heads, max_position_embeddings=64, **ends))
    for parameter in made.parameters():
        if parameter.ndim == 2:
            parameter.data *= 4
    made.save_pretrained(tmp_path)
    words = {f"<{index}>": index for index in range(512)}
    tokenizer = Tokenizer(WordLevel(words, unk_token="<0>"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<0>", bos_token="<1>", eos_token="<2>"
    ).save_pretrained(tmp_path)
    windows = torch.randint(3, 512, (16, 64), generator=torch.Generator().manual_seed(1))
    save_file({"windows": windows}, tmp_path / "windows")
    return tmp_path


def error_of(program: str, *words: str) -> float:
    """Run a program in the peers' environment and return the relative error that it prints."""
    places = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    variables = os.environ | {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    variables |= {"OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [str(PEERS), "-c", program, *words],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
        cwd=words[0],
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("ERROR ")]
    assert found, done.stderr[-2000:]
    return float(found[-1].split()[1])


@pytest.mark.parametrize(("bits", "desc_act"), [(4, False), (3, True)])
def test_gptqmodel_files_are_dequantized_as_its_own_layer_does(
    model: Path, bits: int, desc_act: bool
) -> None:
    """Its own forward runs in float16, which alone costs about a thousandth."""
    assert error_of(GPTQMODEL, str(model), str(bits), str(desc_act)) < 3e-3


def test_llama_cpp_computes_the_same_from_our_gguf(model: Path) -> None:
    """GGUF files without quantization, so that names, transposes and rotations are tested."""
    assert error_of(LLAMA_CPP, str(model)) < 2e-3
