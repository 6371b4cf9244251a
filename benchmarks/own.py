"""Quantize a model directory with one of our methods and say what it cost.

    python -m benchmarks.own MODEL OUT --method gptq --set bits=4 --set group_size=64

Writes what `benchmarks.peers` writes for a peer: `result.json` and a model directory, here the
packed one. Everything that is not packed is rounded to float16 and counted as such.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

import quantale
from quantale.core.recipe_file import parse_assignment
from quantale.models.gate import read_header
from quantale.models.load import load
from quantale.quant.ledger import inspect
from quantale.quant.save import write_model
from quantale.quant.sites import LINEAR_ROLES
from quantale.quant.whole import Methods, quantize_model
from quantale.stages.variants import make_method


def main() -> None:
    """Quantize once and write OUT."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    settings = dict(map(parse_assignment, asked.set))
    model, tokenizer, _ = load(asked.model)
    windows = load_file(asked.calibration)["windows"] if asked.calibration else None
    rounded_rest(model)
    methods = _methods(asked.method, settings, asked.embedding_bits)
    started = time.perf_counter()
    quantize_model(model, methods, windows)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    asked.out.mkdir()
    costs = {"seconds": seconds, "peak_rss_bytes": peak, "note": ""}
    if not asked.no_model:
        folder = asked.out / "model"
        folder.mkdir()
        write_model(model, tokenizer, folder)
        costs |= {"file_bytes": file_bytes(model, folder)}
    setting = {"method": asked.method, **settings, "embedding_bits": asked.embedding_bits}
    who = {"peer": "quantale", "version": quantale.__version__, "setting": setting}
    (asked.out / "result.json").write_text(
        json.dumps(who | costs | _weights(model), indent=1) + "\n", encoding="utf-8"
    )


def rounded_rest(model: PreTrainedModel) -> None:
    """Round all parameters to float16 values, except the weights that methods quantize."""
    linear = {f"{site.name}.weight" for site in inspect(model).sites if site.role in LINEAR_ROLES}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in linear:
                parameter.copy_(parameter.to(torch.float16))


def file_bytes(model: PreTrainedModel, folder: Path) -> int:
    """Return the size of the weight files with every float32 parameter at two bytes a number."""
    found = sorted(folder.glob("*.safetensors"))
    entries = {name: entry for path in found for name, entry in read_header(path).items()}
    wide = [name for name, _ in model.named_parameters() if entries[name].dtype == "F32"]
    whole = sum(path.stat().st_size for path in found)
    return whole - 2 * sum(entries[name].elements for name in wide)


def _methods(name: str, settings: dict[str, Any], embedding_bits: int | None) -> Methods:
    linear = make_method(name, settings)
    if embedding_bits is None:
        return Methods(linear)
    group = settings.get("group_size", "row")
    ends = {"bits": embedding_bits, "group_size": group, "clip": "mse"}
    return Methods(linear, make_method("rtn", ends))


def _weights(model: PreTrainedModel) -> dict[str, Any]:
    lines = [line for line in inspect(model).sites if line.role in LINEAR_ROLES]
    elements = sum(line.shape[0] * line.shape[1] for line in lines)
    return {
        "bits_per_weight": 8 * sum(line.nbytes for line in lines) / elements,
        "quantized_sites": sum(line.method != "none" for line in lines),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--method", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--embedding-bits", type=int)
    parser.add_argument("--calibration", type=Path, help="safetensors with `windows`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-model", action="store_true", help="only the costs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
