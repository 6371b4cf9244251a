"""Quantize models that do not fit into the memory that the process may have.

    python -m benchmarks.scale 1b gptq --limit-gib 2 --folder /some/large/disk
    python -m benchmarks.scale 8b hqq --limit-gib 6 --folder /some/large/disk
    python -m benchmarks.scale 8b gptq --blocks 2 --limit-gib 6 --folder /some/large/disk

Makes a Llama of that geometry with random bf16 weights, a shard a block, and runs the command
`quantale quantize` on it. What the limit is: the kernel refuses the process, and the fresh process
that verifies its result, more private memory than that (RLIMIT_DATA: heap, stacks and writable
mappings, touched or not), and a watcher kills it when its resident size (private memory, mapped
files and libraries together) goes beyond. Prints one JSON line; the peaks are the kernel's own
(VmHWM), the sum over both processes is sampled.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, PreTrainedTokenizerFast

INDEX = "model.safetensors.index.json"
WORDS, DOCUMENTS, DOCUMENT_WORDS = 2048, 400, 300
SPREAD = 0.02
"""Standard deviation of the weights."""
OPTIONS = {method: ["--preset", "w4g64"] for method in ("rtn", "hqq", "gptq")}
"""Of each method, beside those of `quantizing`."""


@dataclass(frozen=True)
class Geometry:
    """The shape of a Llama."""

    hidden: int
    mlp: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool

    def config(self) -> LlamaConfig:
        """Return transformers' configuration."""
        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_value_heads,
            vocab_size=self.vocabulary,
            tie_word_embeddings=self.tied,
            max_position_embeddings=8192,
            bos_token_id=0,
            eos_token_id=0,
            dtype="bfloat16",
            architectures=["LlamaForCausalLM"],
        )


GEOMETRIES = {
    "tiny": Geometry(64, 128, 2, 4, 2, 4096, tied=True),
    "1b": Geometry(2048, 8192, 16, 32, 8, 128256, tied=True),
    "8b": Geometry(4096, 14336, 32, 32, 8, 128256, tied=False),
}


@dataclass(frozen=True)
class Peak:
    """What a run took."""

    code: int
    seconds: float
    rss_bytes: int
    """Largest resident size of the process or of the one that verifies, whichever was larger."""
    tree_bytes: int
    """Largest sampled sum over both."""
    killed: bool


def main() -> int:
    """Make the model, quantize it under the limit and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("geometry", choices=GEOMETRIES)
    parser.add_argument("method", choices=OPTIONS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--limit-gib", type=float, required=True)
    parser.add_argument("--blocks", type=int, help="fewer blocks than the geometry has")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave model and result there; a later run takes the model",
    )
    parser.add_argument("options", nargs="*", help="after --, passed to quantale quantize")
    given = parser.parse_args()
    geometry = GEOMETRIES[given.geometry]
    if given.blocks is not None:
        geometry = Geometry(**asdict(geometry) | {"layers": given.blocks})
    place = given.folder / f"scale-{given.geometry}-{geometry.layers}"
    try:
        found = measured(geometry, given, place)
    finally:
        if not given.keep:
            shutil.rmtree(place, ignore_errors=True)
    print(json.dumps(found))
    return int(found["code"])


def measured(geometry: Geometry, given: argparse.Namespace, place: Path) -> dict[str, Any]:
    """Return the figures of one run in a folder."""
    model, text = place / "model", place / "text.txt"
    place.mkdir(parents=True, exist_ok=True)
    if not (model / INDEX).is_file():
        make_model(geometry, model)
    make_text(text)
    command = quantizing(place, given.method, given.samples, given.length) + given.options
    out = place / f"out-{given.method}"
    shutil.rmtree(out, ignore_errors=True)
    limit = int(given.limit_gib * 2**30)
    peak = run_under(limit, command)
    figures = {"geometry": given.geometry, "blocks": geometry.layers, "method": given.method}
    sizes = {"model_bytes": folder_bytes(model), "result_bytes": folder_bytes(out)}
    return figures | asdict(peak) | {"limit_bytes": limit} | sizes | {"command": command[1:]}


def quantizing(place: Path, method: str, samples: int, length: int) -> list[str]:
    """Return the command that quantizes the model of a folder."""
    out, text = place / f"out-{method}", place / "text.txt"
    command = [sys.executable, "-m", "quantale.cli", "quantize", str(place / "model")]
    command += ["--method", method, *OPTIONS[method], "--out", str(out), "--json"]
    if method == "gptq":
        command += ["--calibration", str(text)]
        command += ["--nsamples", str(samples), "--seqlen", str(length)]
    return command


def make_model(geometry: Geometry, folder: Path) -> None:
    """Write a random model, a shard a block, with only one shard in memory."""
    folder.mkdir(exist_ok=True)
    geometry.config().save_pretrained(folder)
    shards = list(_shards(geometry))
    weight_map: dict[str, str] = {}
    total = 0
    for index, shapes in enumerate(shards):
        name = f"model-{index + 1:05d}-of-{len(shards):05d}.safetensors"
        generator = torch.Generator().manual_seed(index)
        tensors = {key: _drawn(shape, generator) for key, shape in shapes.items()}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
        total += sum(tensor.nbytes for tensor in tensors.values())
    vocabulary = {f"w{index}": index for index in range(WORDS)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="w1", bos_token="w0", eos_token="w0"
    ).save_pretrained(folder)
    index_text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map})
    (folder / INDEX).write_text(index_text)


def _shards(geometry: Geometry) -> Iterator[dict[str, tuple[int, ...]]]:
    """Yield the shapes of the tensors of each shard, norms as vectors."""
    width, mlp = geometry.hidden, geometry.mlp
    narrow = width // geometry.heads * geometry.key_value_heads
    yield {"model.embed_tokens.weight": (geometry.vocabulary, width), "model.norm.weight": (width,)}
    for layer in range(geometry.layers):
        names = {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (narrow, width),
            "self_attn.v_proj": (narrow, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (mlp, width),
            "mlp.up_proj": (mlp, width),
            "mlp.down_proj": (width, mlp),
            "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }
        yield {f"model.layers.{layer}.{name}.weight": shape for name, shape in names.items()}
    if not geometry.tied:
        yield {"lm_head.weight": (geometry.vocabulary, width)}


def _drawn(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draw a matrix row by row in bf16; a norm is ones."""
    tensor = torch.ones(shape, dtype=torch.bfloat16)
    if len(shape) > 1:
        for start in range(0, shape[0], 1024):
            rows = tensor[start : start + 1024]
            rows.copy_(torch.randn(rows.shape, generator=generator) * SPREAD)
    return tensor


def make_text(path: Path) -> None:
    """Write documents of random words."""
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(2, WORDS, (DOCUMENTS, DOCUMENT_WORDS), generator=generator).tolist()
    path.write_text("\n\n".join(" ".join(f"w{word}" for word in words) for words in draws))


def run_under(limit: int, command: list[str]) -> Peak:
    """Run a command under the limit; see the top of this file."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    watcher = _Watcher(process, limit)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)  # its own usage, not that of all children so far
    process.returncode = os.waitstatus_to_exitcode(status)
    watcher.ended.set()
    watcher.join()
    seconds = time.perf_counter() - started
    peak = usage.ru_maxrss * 1024
    return Peak(process.returncode, seconds, peak, watcher.largest, watcher.killed)


class _Watcher(threading.Thread):
    """Samples resident sizes and kills the process when one goes beyond the limit."""

    def __init__(self, process: "subprocess.Popen[bytes]", limit: int) -> None:
        super().__init__(daemon=True)
        self._process, self._limit = process, limit
        self.largest, self.killed, self.ended = 0, False, threading.Event()

    def run(self) -> None:
        """Sample fifty times a second until told to end."""
        while not self.ended.wait(0.02):
            sizes = list(_resident(self._process.pid))
            self.largest = max(self.largest, sum(sizes))
            if max(sizes, default=0) > self._limit:
                self.killed = True
                self._process.kill()


def _resident(pid: int) -> Iterator[int]:
    """Yield the resident bytes of a process and of its children; nothing once it has ended."""
    place = Path("/proc") / str(pid)
    try:
        pages = int((place / "statm").read_text().split()[1])
        children = (place / "task" / str(pid) / "children").read_text().split()
    except (OSError, IndexError):
        return
    yield pages * resource.getpagesize()
    for child in children:
        yield from _resident(int(child))


def folder_bytes(folder: Path) -> int:
    """Return the bytes of the weight files of a folder."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


if __name__ == "__main__":
    sys.exit(main())
