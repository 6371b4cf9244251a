"""Quantize a model directory with one peer: `python -m benchmarks.peers MODEL OUT --peer hqq`."""

import argparse
import dataclasses
import importlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from benchmarks.peers.contract import Given, Made, Peer
from benchmarks.peers.linears import block_linears, load

TOKENIZER = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt")


def main() -> None:
    """Quantize once and write OUT; nothing is left behind when the peer fails."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    peer = make_peer(asked.peer, dict(pair.split("=", 1) for pair in asked.set))
    windows = load_file(asked.calibration)["windows"] if asked.calibration else None
    with tempfile.TemporaryDirectory(prefix="peers-", dir=asked.out.parent) as scratch:
        os.chdir(scratch)  # some write logs where they are
        made = peer.run(Given(asked.model, windows, Path(scratch)))
        staged = Path(scratch) / "out"
        write(asked.model, asked.peer, peer, made, staged, with_model=not asked.no_model)
        staged.rename(asked.out)


def make_peer(name: str, settings: dict[str, str]) -> Peer:
    """Build the peer of a file name; values take the types of the settings' defaults."""
    module = importlib.import_module(f"benchmarks.peers.{name}")
    kind: Any = getattr(module, "".join(part.capitalize() for part in name.split("_")))
    known = {field.name: field.default for field in dataclasses.fields(kind)}
    unknown = [key for key in settings if key not in known]
    if unknown:
        raise SystemExit(f"{name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    peer: Peer = kind(**{key: _value(text, known[key]) for key, text in settings.items()})
    return peer


def write(source: Path, name: str, peer: Peer, made: Made, out: Path, *, with_model: bool) -> None:
    """Write result.json and, unless it is not wanted, the dequantized model."""
    out.mkdir()
    model = load(source)
    linears = block_linears(model)
    weights = sum(module.get_parameter("weight").numel() for module in linears.values())
    result = {
        "peer": name,
        "version": importlib.metadata.version(peer.distribution),
        "setting": dataclasses.asdict(peer),  # type: ignore[call-overload]
        "seconds": made.seconds,
        "peak_rss_bytes": made.peak_rss_bytes,
        "file_bytes": made.file_bytes,
        "bits_per_weight": 8 * made.linear_bytes / weights,
        "quantized_sites": len(linears),
        "note": made.note,
    }
    (out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if with_model:
        _write_model(model, source, made, out / "model")


def _write_model(model: Any, source: Path, made: Made, out: Path) -> None:
    linear = {f"{name}.weight" for name in block_linears(model)}
    for name, parameter in model.named_parameters():
        if name not in made.parameters:
            raise SystemExit(f"the peer gave no {name}")
        if name in linear and torch.equal(parameter, made.parameters[name]):
            raise SystemExit(f"the peer left {name} as it was")
        parameter.data = made.parameters[name].reshape(parameter.shape)
    model.save_pretrained(out)
    for path in (found for pattern in TOKENIZER for found in source.glob(pattern)):
        shutil.copyfile(path, out / path.name)


def _value(text: str, default: Any) -> Any:
    if isinstance(default, bool):
        return text.lower() in ("true", "1", "yes")
    return type(default)(text)


def _absolute(text: str) -> Path:
    return Path(text).resolve()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=_absolute)
    parser.add_argument("out", type=_absolute)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--calibration", type=_absolute, help="safetensors with `windows`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-model", action="store_true", help="only the costs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
