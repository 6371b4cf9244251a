"""Finished pieces in the scratch folder: what a resumed run goes on from.

Each is a sealed folder: the tensors of the piece under the names of the final file, what became of
every site, and the hidden states of the proof behind the piece.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from quantale.core import files
from quantale.core.records import read_json, write_json
from quantale.quant.apply import SiteResult
from quantale.quant.pieces import Shelf
from quantale.quant.sites import Site
from quantale.quant.stored import format_from, format_record

TENSORS = "tensors.safetensors"
_RESULTS, _PROOF = "results.json", "proof.safetensors"


def keep(
    folder: Path,
    results: list[SiteResult],
    tensors: Mapping[str, Tensor],
    proof: Mapping[str, Tensor],
) -> None:
    """Seal a finished piece."""
    with files.sealed_folder(folder) as staged, files.disk_faults(folder):
        if tensors:
            whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
            save_file(whole, staged / TENSORS, metadata={"format": "pt"})
        if proof:
            save_file(dict(proof), staged / _PROOF)
        write_json(staged / _RESULTS, [_record(result) for result in results])


def restore(folder: Path, sites: list[Site], shelf: Shelf) -> list[SiteResult]:
    """Return what became of those sites that a finished piece holds, in the order of the work.

    Packed tensors are those that the shelf has for them.
    """
    known = {site.name: site for site in sites}
    return [
        _result(folder, known[record["site"]], record, shelf)
        for record in read_json(folder / _RESULTS)
    ]


def proof_of(folder: Path) -> dict[str, Tensor]:
    """Return the hidden states of the proof behind a finished piece."""
    path = folder / _PROOF
    return load_file(path) if path.is_file() else {}


def packed_names(result: SiteResult) -> dict[str, Tensor]:
    """Return the stored tensors of a site under their names in the model."""
    name = result.site.name
    return {f"{name}.{part}": tensor for part, tensor in result.packed.tensors.items()}


def _record(result: SiteResult) -> dict[str, Any]:
    return {
        "site": result.site.name,
        "method": result.method,
        "weight_error": result.weight_error,
        "output_error": result.output_error,
        "bias": result.bias,
        "seconds": result.seconds,
        "format": format_record(result.packed.format),
    }


def _result(folder: Path, site: Site, record: Mapping[str, Any], shelf: Shelf) -> SiteResult:
    return SiteResult(
        site,
        record["method"],
        shelf.packed(folder / TENSORS, site, format_from(record["format"])),
        record["weight_error"],
        record["output_error"],
        record["bias"],
        record["seconds"],
    )
