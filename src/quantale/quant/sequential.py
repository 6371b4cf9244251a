"""Quantize the blocks one after another, each on what its quantized predecessors give it.

The state on disk is the scratch folder: two files of hidden states, used in turn (two more for
the model in full precision, where a method wants its inputs too), and one sealed
folder of packed tensors for every finished block. A run that was killed starts again at the first
block without one, and ends in the same bytes.
"""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core import files
from quantale.core.records import read_json, write_json
from quantale.models.blocks import find_blocks
from quantale.quant.apply import Method, Report, SiteResult, install, quantize_site
from quantale.quant.calibration import (
    BlockCall,
    HiddenStates,
    Inputs,
    LayerStats,
    first_input,
    gather,
    input_groups,
    record_calls,
    reserve,
)
from quantale.quant.packed import PackedTensor
from quantale.quant.sites import Site
from quantale.quant.stored import format_from, format_record


@dataclass(frozen=True)
class Calibration:
    """Token windows and where their hidden states may be kept."""

    windows: Tensor
    """(samples, length) token ids."""
    batch_size: int
    """Samples that are in memory at a time."""
    scratch: Path
    """Folder for hidden states and finished blocks; the state of a resumed run."""
    reference: bool = False
    """Whether the hidden states of the model in full precision are kept beside."""

    def picks(self) -> list[slice]:
        """Return the samples of every batch."""
        count = self.windows.shape[0]
        return [slice(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size)]


def quantize_blocks(
    model: PreTrainedModel,
    methods: Mapping[str, Method],
    sites: list[Site],
    calibration: Calibration,
    report: Report,
) -> None:
    """Quantize all sites inside blocks that `methods` names, in place."""
    prefix, blocks = find_blocks(model)
    job = _Job(model, blocks, calibration)
    for index, block in enumerate(blocks):
        inside = f"{prefix}.{index}."
        mine = [site for site in sites if site.name.startswith(inside) and site.name in methods]
        done = calibration.scratch / f"block-{index:04d}"
        if files.is_sealed(done):
            _restore(model, mine, done, report)
            continue
        results = job.quantize(index, block, mine, methods)
        _keep(results, done)
        for result in results:
            report(result)


class _Job:
    """One pass over the blocks with the hidden states at their borders."""

    def __init__(
        self, model: PreTrainedModel, blocks: nn.ModuleList, calibration: Calibration
    ) -> None:
        self._model, self._blocks, self._calibration = model, blocks, calibration
        self._picks = calibration.picks()
        self._calls: dict[int, list[BlockCall]] = {}
        self._borders: dict[str, _Border] = {}

    def quantize(
        self, index: int, block: nn.Module, sites: list[Site], methods: Mapping[str, Method]
    ) -> list[SiteResult]:
        """Quantize one block and write the hidden states behind it."""
        if not self._calls:
            self._open()
        full = copy.deepcopy(block) if self._calibration.reference else None
        border = self._border("states")
        run = self._runner(index, block, border)
        first = border.source(index)[self._picks[0]]
        call = self._calls[first.shape[0]][index]
        results = []
        for group in self._groups(block, sites, call, first):
            stats = self._stats(index, group, run, full)
            results += [quantize_site(self._model, s, methods[s.name], stats) for s in group]
        self._pass_on(index, border, run)
        if full is not None:
            behind = self._border("full")
            self._pass_on(index, behind, self._runner(index, full, behind))
        return results

    def _runner(self, index: int, block: nn.Module, border: "_Border") -> Callable[[slice], Tensor]:
        source = border.source(index)

        def run(pick: slice) -> Tensor:
            hidden = source[pick]
            return self._calls[hidden.shape[0]][index].run(block, hidden)

        return run

    def _pass_on(self, index: int, border: "_Border", run: Callable[[slice], Tensor]) -> None:
        target = border.target(index)
        with torch.no_grad():
            for pick in self._picks:
                target[pick] = run(pick)
        target.sync()

    def _groups(
        self, block: nn.Module, sites: list[Site], call: BlockCall, first: Tensor
    ) -> list[list[Site]]:
        names = {id(module): name for name, module in block.named_modules()}
        local = {names[id(self._model.get_submodule(s.name))]: s for s in sites}
        groups = input_groups(block, list(local), call, first) if local else []
        return [[local[name] for name in group] for group in groups]

    def _stats(
        self,
        index: int,
        group: list[Site],
        run: Callable[[slice], Tensor],
        full: nn.Module | None,
    ) -> LayerStats:
        name, width = group[0].name, group[0].shape[1]
        inputs = Inputs(self._model.get_submodule(name), run)
        if full is None:
            return gather(name, width, inputs, self._picks)
        inside = name.split(".")[len(find_blocks(self._model)[0].split(".")) + 1 :]
        twin = self._runner(index, full, self._border("full"))
        reference = Inputs(full.get_submodule(".".join(inside)), twin)
        return gather(name, width, inputs, self._picks, reference)

    def _border(self, name: str) -> "_Border":
        return self._borders[name]

    def _open(self) -> None:
        """Open the hidden states, and write the first block's inputs when they are not there."""
        scratch, windows = self._calibration.scratch, self._calibration.windows
        sizes = {pick.stop - pick.start: pick for pick in self._picks}
        self._calls = {
            size: record_calls(self._model, self._blocks, windows[pick])
            for size, pick in sizes.items()
        }
        probe = first_input(self._model, self._blocks[0], windows[self._picks[0]])
        shape = (windows.shape[0], *probe.shape[1:])
        names = ("states", "full") if self._calibration.reference else ("states",)
        paths = {name: [scratch / f"{name}-{turn}.bin" for turn in (0, 1)] for name in names}
        reserve([p for pair in paths.values() for p in pair], math.prod(shape) * probe.itemsize)
        for name, pair in paths.items():
            first, second = (HiddenStates(path, shape, probe.dtype) for path in pair)
            self._borders[name] = _Border(first, second)
        ready = scratch / "inputs.json"
        if not ready.exists():
            self._write_first()
            write_json(ready, {"shape": list(shape)})

    def _write_first(self) -> None:
        targets = [border.source(0) for border in self._borders.values()]
        for pick in self._picks:
            hidden = first_input(self._model, self._blocks[0], self._calibration.windows[pick])
            for target in targets:
                target[pick] = hidden
        for target in targets:
            target.sync()


@dataclass(frozen=True)
class _Border:
    """Two files of hidden states: what enters a block, and what leaves it."""

    even: HiddenStates
    odd: HiddenStates

    def source(self, index: int) -> HiddenStates:
        """Return what enters block `index`."""
        return self.odd if index % 2 else self.even

    def target(self, index: int) -> HiddenStates:
        """Return what leaves block `index`."""
        return self.source(index + 1)


def _keep(results: list[SiteResult], folder: Path) -> None:
    """Seal the packed tensors of a finished block."""
    with files.sealed_folder(folder) as staged:
        tensors = {
            f"{result.site.name}.{name}": tensor.contiguous()
            for result in results
            for name, tensor in result.packed.tensors.items()
        }
        with files.disk_faults(folder):
            save_file(tensors, staged / "packed.safetensors")
        write_json(staged / "results.json", {r.site.name: _record(r) for r in results})


def _record(result: SiteResult) -> dict[str, Any]:
    return {
        "method": result.method,
        "weight_error": result.weight_error,
        "output_error": result.output_error,
        "bias": result.bias,
        "seconds": result.seconds,
        "format": format_record(result.packed.format),
    }


def _restore(model: PreTrainedModel, sites: list[Site], folder: Path, report: Report) -> None:
    """Install the packed tensors of a block that an earlier process finished."""
    files.verify(folder, full=True)
    tensors = load_file(folder / "packed.safetensors")
    records = read_json(folder / "results.json")
    for site in sites:
        record = records[site.name]
        layout = format_from(record["format"])
        names = layout.tensors(site.shape)
        packed = PackedTensor(layout, site.shape, {n: tensors[f"{site.name}.{n}"] for n in names})
        install(model, site, packed)
        report(
            SiteResult(
                site,
                record["method"],
                packed,
                record["weight_error"],
                record["output_error"],
                record["bias"],
                record["seconds"],
            )
        )
