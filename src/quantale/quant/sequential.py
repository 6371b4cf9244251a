"""Quantize a model piece by piece, each block on what its quantized predecessors give it.

The state on disk is the scratch folder: two files of hidden states, used in turn (two more for
the model in full precision, where a method wants its inputs too), and one sealed folder for every
finished piece (quant/kept.py). A run that was killed starts again at the first piece without one,
and ends in the same bytes.

Where the weights of a piece come from is the shelf's affair (quant/pieces.py): with the one of
quant/streamed.py memory holds one piece at a time.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from quantale.core import files
from quantale.core.records import read_json, write_json
from quantale.quant import kept
from quantale.quant.apply import Method, Report, SiteResult, install, quantize_site
from quantale.quant.borders import Border, open_borders
from quantale.quant.calibration import (
    Inputs,
    LayerStats,
    check_stats,
    gather,
    input_groups,
)
from quantale.quant.linear import TiedHead
from quantale.quant.pieces import Piece, Shelf, cut
from quantale.quant.proof import digest_of_logits
from quantale.quant.relay import Relay
from quantale.quant.sites import Site

_INPUTS = "inputs.json"
_BATCH, _BATCH_TOKENS = 8, 2048


def batch_of(length: int) -> int:
    """Return how many windows of this length are in memory at a time."""
    return max(1, min(_BATCH, _BATCH_TOKENS // length))


@dataclass(frozen=True)
class Calibration:
    """Token windows that calibrate."""

    windows: Tensor
    """(samples, length) token ids."""
    batch_size: int
    """Samples that are in memory at a time."""
    reference: bool = False
    """Whether the hidden states of the model in full precision are kept beside."""

    def picks(self) -> list[slice]:
        """Return the samples of every batch."""
        count = self.windows.shape[0]
        return [slice(i, min(i + self.batch_size, count)) for i in range(0, count, self.batch_size)]

    def batches(self) -> list[Tensor]:
        """Return the token ids of every batch."""
        return [self.windows[pick] for pick in self.picks()]


@dataclass(frozen=True)
class Task:
    """What is to be done to a model."""

    methods: Mapping[str, Method]
    """By name of the site; the others stay in full precision."""
    sites: list[Site]
    """All sites of the model."""
    calibration: Calibration | None = None
    """Needed when a method wants it."""
    proof: Tensor | None = None
    """Token ids (n, length) that are carried through the packed model, for their logits."""
    scratch: Path | None = None
    """Folder of the hidden states and finished pieces; None: nothing is kept."""

    def sites_of(self, piece: Piece) -> list[Site]:
        """Return the sites of a piece that get a method."""
        return [s for s in self.sites if s.name in self.methods and piece.holds(s.name)]


@dataclass(frozen=True)
class Outcome:
    """What became of a model."""

    results: list[SiteResult]
    digest: str | None
    """sha256 of the proof's logits."""


def quantize_pieces(
    model: PreTrainedModel, task: Task, shelf: Shelf, report: Report | None = None
) -> Outcome:
    """Quantize all sites that the task names, in place.

    A task without methods only carries its proof through.
    """
    walk = _Walk(model, task, shelf, report)
    results = walk.front()
    for index in range(len(walk.pieces.blocks)):
        results += walk.block(index)
    results += walk.head()
    shelf.release(walk.pieces.outer)
    return Outcome(results, walk.digest)


class _Walk:
    """One pass over the pieces with the hidden states at their borders."""

    def __init__(
        self, model: PreTrainedModel, task: Task, shelf: Shelf, report: Report | None
    ) -> None:
        self._model, self._task, self._shelf, self._report = model, task, shelf, report
        self.pieces = cut(model)
        self.digest: str | None = None
        self._relay = Relay(model)
        self._runs = task.calibration is not None or task.proof is not None
        self._proof: Tensor | None = None
        self._borders: dict[str, Border] = {}

    def front(self) -> list[SiteResult]:
        """Quantize embeddings and what else is not in a block, and look up the first inputs."""
        done = self._restored(self.pieces.front)
        if done is not None:
            self._postpone({result.site.name for result in done})
            self._shelf.fetch(self.pieces.outer)
            return done
        self._shelf.fetch(self.pieces.front)
        calibrated = self._calibrates(self.pieces.front)
        sites = [s for s in self._task.sites_of(self.pieces.front) if s not in calibrated]
        results = [self._quantize(site, None) for site in sites]
        for site in calibrated:
            stats = self._early_stats(site)
            results += [] if stats is None else [self._quantize(site, stats)]
        self._postpone({result.site.name for result in results})
        if self._runs:
            self._write_first()
        self._shelf.release(self.pieces.embedding)
        return self._finished(self.pieces.front, results, release=False)

    def _calibrates(self, piece: Piece) -> list[Site]:
        sites = self._task.sites_of(piece)
        return [site for site in sites if self._task.methods[site.name].needs_calibration]

    def _postpone(self, done: set[str]) -> None:
        """Let calibrated sites that come behind the blocks be done and stored with the head."""
        late = [s.name for s in self._calibrates(self.pieces.front) if s.name not in done]
        self.pieces = self.pieces.later(late)

    def _early_stats(self, site: Site) -> LayerStats | None:
        """Sum up the inputs of a module before the blocks; None when it comes behind them."""
        stats, module = LayerStats(site.shape[1]), self._model.get_submodule(site.name)
        for tokens in self._needed().batches():
            seen = self._relay.early(module, tokens)
            if seen is None:
                return None
            stats.add(seen)
        check_stats(site.name, stats)
        return stats

    def block(self, index: int) -> list[SiteResult]:
        """Quantize one block and write the hidden states behind it."""
        piece = self.pieces.blocks[index]
        done = self._restored(piece)
        if done is None or index == 0:
            self._shelf.fetch(piece)
        if index == 0 and self._runs:
            self._record()
        if done is not None:
            self._shelf.release(piece)
            return done
        block = self._model.get_submodule(piece.inside[0])
        sites = self._task.sites_of(piece)
        if self._task.calibration is None:
            results = [self._quantize(site, None) for site in sites]
        else:
            results = self._calibrated(index, block, sites)
        if self._proof is not None and self._task.proof is not None:
            call = self._relay.call(index, self._task.proof)
            with torch.no_grad():
                self._proof = call.run(block, self._proof)
        return self._finished(piece, results)

    def head(self) -> list[SiteResult]:
        """Quantize what follows the body, and compute the logits of the proof."""
        piece = self.pieces.head
        done = self._restored(piece)
        self._shelf.fetch(piece)
        tied = isinstance(self._model.get_output_embeddings(), TiedHead)
        if tied:
            self._shelf.fetch(self.pieces.embedding)
        results = done
        if results is None:
            results = [self._quantize(s, self._head_stats(s)) for s in self._task.sites_of(piece)]
        if self._proof is not None and self._task.proof is not None:
            self.digest = digest_of_logits(self._relay.tail(self._task.proof, self._proof))
        if tied:
            self._shelf.release(self.pieces.embedding)
        if done is not None:
            self._shelf.release(piece)
            return done
        return self._finished(piece, results)

    def _quantize(self, site: Site, stats: LayerStats | None) -> SiteResult:
        return quantize_site(self._model, site, self._task.methods[site.name], stats)

    def _calibrated(self, index: int, block: nn.Module, sites: list[Site]) -> list[SiteResult]:
        calibration = self._needed()
        full = copy.deepcopy(block) if calibration.reference else None
        border = self._border("states")
        run = self._runner(index, block, border)
        results = []
        for group in self._groups(index, block, sites):
            stats = self._stats(index, group, run, full)
            results += [self._quantize(site, stats) for site in group]
        self._pass_on(index, border, run)
        if full is not None:
            behind = self._border("full")
            self._pass_on(index, behind, self._runner(index, full, behind))
        return results

    def _runner(self, index: int, block: nn.Module, border: Border) -> Callable[[slice], Tensor]:
        source, windows = border.source(index), self._needed().windows

        def run(pick: slice) -> Tensor:
            return self._relay.call(index, windows[pick]).run(block, source[pick])

        return run

    def _pass_on(self, index: int, border: Border, run: Callable[[slice], Tensor]) -> None:
        target = border.target(index)
        with torch.no_grad():
            for pick in self._needed().picks():
                target[pick] = run(pick)
        target.sync()

    def _groups(self, index: int, block: nn.Module, sites: list[Site]) -> list[list[Site]]:
        calibration = self._needed()
        pick = calibration.picks()[0]
        first = self._border("states").source(index)[pick]
        call = self._relay.call(index, calibration.windows[pick])
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
        name, width, picks = group[0].name, group[0].shape[1], self._needed().picks()
        inputs = Inputs(self._model.get_submodule(name), run)
        if full is None:
            return gather(name, width, inputs, picks)
        inside = name.removeprefix(f"{self.pieces.blocks[index].inside[0]}.")
        twin = self._runner(index, full, self._border("full"))
        return gather(name, width, inputs, picks, Inputs(full.get_submodule(inside), twin))

    def _head_stats(self, site: Site) -> LayerStats | None:
        """Sum up the inputs that the quantized blocks give a module behind them."""
        if not self._task.methods[site.name].needs_calibration:
            return None
        calibration, stats = self._needed(), LayerStats(site.shape[1])
        last = self._border("states").source(len(self.pieces.blocks))
        module = self._model.get_submodule(site.name)
        for pick in calibration.picks():
            stats.add(self._relay.before(module, calibration.windows[pick], last[pick]))
        check_stats(site.name, stats)
        return stats

    def _scratch(self) -> Path:
        assert self._task.scratch is not None
        return self._task.scratch

    def _needed(self) -> Calibration:
        assert self._task.calibration is not None
        return self._task.calibration

    def _border(self, name: str) -> Border:
        if not self._borders:  # a resumed run
            self._open(read_json(self._scratch() / _INPUTS)["shape"])
        return self._borders[name]

    def _open(self, shape: Sequence[int]) -> None:
        """Open the files of hidden states."""
        names = ("states", "full") if self._needed().reference else ("states",)
        samples, length, width = shape
        dtype = self._model.dtype
        self._borders = open_borders(self._scratch(), names, (samples, length, width), dtype)

    def _write_first(self) -> None:
        """Look up what enters the first block: for the proof, and for calibration."""
        if self._task.proof is not None:
            self._proof = self._relay.first(self._task.proof)
        if self._task.calibration is None:
            return
        calibration = self._needed()
        for pick in calibration.picks():
            hidden = self._relay.first(calibration.windows[pick])
            if not self._borders:
                shape = [calibration.windows.shape[0], *hidden.shape[1:]]
                self._open(shape)
                write_json(self._scratch() / _INPUTS, {"shape": shape})
            for border in self._borders.values():
                border.source(0)[pick] = hidden
        for border in self._borders.values():
            border.source(0).sync()

    def _record(self) -> None:
        """Learn how the model calls its blocks, for every shape of batch that there is."""
        batches = [] if self._task.calibration is None else self._task.calibration.batches()
        batches += [] if self._task.proof is None else [self._task.proof]
        for tokens in {tuple(tokens.shape): tokens for tokens in batches}.values():
            self._relay.record(tokens)

    def _folder(self, piece: Piece) -> Path | None:
        return None if self._task.scratch is None else self._task.scratch / piece.name

    def _restored(self, piece: Piece) -> list[SiteResult] | None:
        """Install what an earlier process made of a piece; None when it is not finished."""
        folder = self._folder(piece)
        if folder is None or not files.is_sealed(folder):
            return None
        files.verify(folder, full=True)
        results = kept.restore(folder, self._task.sites_of(piece), self._shelf)
        for result in results:
            install(self._model, result.site, result.packed)
        self._shelf.kept(piece, folder / kept.TENSORS)
        self._proof = kept.proof_of(folder).get("hidden", self._proof)
        self._tell(results)
        return results

    def _finished(
        self, piece: Piece, results: list[SiteResult], *, release: bool = True
    ) -> list[SiteResult]:
        """Keep a piece, take it out of memory and report what became of it."""
        folder = self._folder(piece)
        if folder is not None:
            tensors = self._shelf.rest(piece)
            for result in results:
                tensors |= kept.packed_names(result)
            names = self._shelf.names(list(tensors))
            proof = {} if self._proof is None else {"hidden": self._proof}
            kept.keep(folder, results, {names[n]: t for n, t in tensors.items()}, proof)
            self._shelf.kept(piece, folder / kept.TENSORS)
        if release:
            self._shelf.release(piece)
        self._tell(results)
        return [replace(r, packed=self._shelf.settled(r.packed)) for r in results]

    def _tell(self, results: list[SiteResult]) -> None:
        if self._report is not None:
            for result in results:
                self._report(result)
