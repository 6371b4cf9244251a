"""llama.cpp's quantizer, through llama-cpp-python: a GGUF file in, a GGUF file out.

Its mixes decide by themselves which matrix gets which type, embeddings included; with
`embeddings="f16"` those and the head stay float16, as with peers that pack linear layers only.
K types need widths that are a multiple of 256 and fall back to others where they are not; an MLP
whose width is no multiple of 32 is padded with zeros, and counts as padded. With `imatrix` it
weighs errors by the mean squares of the inputs, which are gathered here from calibration windows.
The weights are dequantized by gguf-py; that llama.cpp also rounds activations to 8 bits is not in
them.
"""

import ctypes
import time
from dataclasses import dataclass
from typing import Any

import llama_cpp

from benchmarks.peers import gguf_file
from benchmarks.peers.contract import Given, Made, peak_rss
from benchmarks.peers.importance import as_array, mean_squares
from benchmarks.peers.linears import block_linears, cropped, load, padded
from quantale.models.gguf_names import layout_of

_BLOCK = 32
_F16 = 1  # of enum ggml_type


@dataclass(frozen=True)
class LlamaCpp:
    """Settings of llama.cpp's quantizer."""

    mix: str = "Q4_K_M"
    """Name of a file type, such as Q8_0 or Q4_K_M."""
    embeddings: str = "mix"
    """"mix": as the file type says; "f16": left in half precision, and so is the head."""
    imatrix: bool = False
    """Whether it is given an importance matrix."""
    threads: int = 1
    """Of the quantizer."""

    distribution = "llama-cpp-python"

    @property
    def needs_calibration(self) -> bool:
        """Only for the importance matrix."""
        return self.imatrix

    def run(self, given: Given) -> Made:
        """Write GGUF, quantize it, read it back."""
        model = load(padded(given.folder, _BLOCK, given.scratch))
        plain, packed = given.scratch / "plain.gguf", given.scratch / "packed.gguf"
        gguf_file.write(model, plain)
        llama_cpp.llama_backend_init()
        settings = self._settings()
        started = time.perf_counter()
        if self.imatrix and given.windows is not None:
            squares = mean_squares(model, given.windows)
            named = {gguf_name(name, model.config): one for name, one in squares.items()}
            settings.imatrix = as_array(named)
        failed = llama_cpp.llama_model_quantize(bytes(plain), bytes(packed), ctypes.byref(settings))
        seconds, peak = time.perf_counter() - started, peak_rss()
        if failed:
            raise RuntimeError(f"llama_model_quantize gave {failed}")
        linear = {gguf_name(name, model.config) for name in block_linears(model)}
        stored = gguf_file.tensors(packed)
        types = sorted({stored[name].tensor_type.name for name in linear})
        return Made(
            cropped(gguf_file.read(packed, model), load(given.folder)),
            seconds,
            peak,
            gguf_file.size_without_tokenizer(packed),
            sum(int(stored[name].n_bytes) for name in linear),
            f"{self.mix} uses {', '.join(types)} in the blocks",
        )

    def _settings(self) -> llama_cpp.llama_model_quantize_params:
        settings = llama_cpp.llama_model_quantize_default_params()
        settings.nthread = self.threads
        settings.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{self.mix}")
        if self.embeddings == "f16":
            settings.token_embedding_type = _F16
            settings.output_tensor_type = _F16
        return settings


def gguf_name(linear: str, config: Any) -> str:
    """Return the GGUF name of a linear layer's weight."""
    return layout_of(f"{linear}.weight", config).name
