"""Make the weight files of a model directory from the files of its pieces.

A small model gets one `model.safetensors`; of a larger one each piece is a shard, which becomes
part of the directory without being copied.
"""

import json
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file

from quantale.core import files
from quantale.models.gate import read_header

WHOLE_LIMIT: Final = 256 * 2**20
"""Largest sum of weights, in bytes, that is written as one file, which needs as much memory."""


def assemble(paths: list[Path], folder: Path) -> None:
    """Write `model.safetensors`, or shards with their index, into a staging folder."""
    headers = {path: read_header(path) for path in paths}
    total = sum(entry.end - entry.start for header in headers.values() for entry in header.values())
    with files.disk_faults(folder):
        if total <= WHOLE_LIMIT:
            tensors = {n: t for path in paths for n, t in load_file(path).items()}
            save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
            return
    weight_map: dict[str, str] = {}
    for number, (path, header) in enumerate(headers.items(), start=1):
        name = f"model-{number:05d}-of-{len(paths):05d}.safetensors"
        files.place(path, folder / name)
        weight_map |= dict.fromkeys(header, name)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    text = json.dumps(index, indent=2) + "\n"
    files.write_atomic(folder / "model.safetensors.index.json", text)
