"""One model, one decoding thread, a small batch that requests join and leave between tokens.

A request waits in a bounded line, is read alone beside the slots (a long prompt in parts, between
which the others go on), and is then written a token at a time with all the others. Whoever ends or
is cancelled leaves before the next token; the last row moves into the gap, so that the rows in use
are always the first ones. Prompts are read alone and steps have a number of rows that gives the
same bits (see `widths`), so a text does not depend on its neighbours.
"""

import contextvars
import logging
import threading
import time
from contextlib import nullcontext
from typing import Any

import torch

from quantale.core.errors import DataError, ModelFileError, QuantaleError, UsageError
from quantale.inference.decoder import Decoder, PlainDecoder, Tally, accept
from quantale.inference.facts import Facts, collect_facts
from quantale.inference.request import Request
from quantale.inference.row import Row
from quantale.inference.speculative import Draft, SpeculativeDecoder
from quantale.inference.stream import Stream
from quantale.inference.waiting import Line
from quantale.inference.whole import WholeDecoder
from quantale.models.load import LoadedModel
from quantale.quant.dispatch import fast_kernels

LONGEST_CONTEXT = 4096
"""Where no context is asked for, no more of a model's own is used: the cache takes memory by it."""
_PART = 256
"""Prompt tokens that are read between two steps of the others."""

_LOG = logging.getLogger(__name__)


class Engine:
    """Writes what is asked of one model; safe to use from many threads."""

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        slots: int = 4,
        queue: int = 16,
        context: int | None = None,
        fast: bool | None = True,
        name: str | None = None,
        draft: Draft | None = None,
    ) -> None:
        """slots: requests written at once; queue: requests that may wait; fast: kernels that need
        not be exact may run; None: where the caller lets them.

        A model that no static cache fits is decoded without one. Raises ModelFileError for a model
        without tokenizer, UsageError for a context or a draft that does not fit the model.
        """
        self.model, self.tokenizer, folder = loaded
        if self.tokenizer is None:
            raise ModelFileError(f"{folder} holds no tokenizer; save one beside the model")
        models = [self.model] if draft is None else [self.model, draft.loaded.model]
        self.context = min(_context(model, context) for model in models)
        self.name = name or str(folder)
        self._loaded, self._draft = loaded, draft
        self._slots, self._fast = slots, fast
        self._ends = _end_tokens(self.model, self.tokenizer)
        self._decoder: Decoder = WholeDecoder(self.model)
        self._line = Line(queue, slots)
        self._rows: list[Row] = []
        self._reading: Row | None = None
        self._failure: QuantaleError | None = None
        self._ready = threading.Event()
        within = contextvars.copy_context()
        self._thread = threading.Thread(
            target=within.run, args=(self._run,), name=f"engine {self.name}", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def submit(self, request: Request) -> Stream:
        """Hand a request in; raises QueueFull, and DataError for a prompt that does not fit."""
        count = len(request.tokens)
        if not count:
            raise DataError("the prompt has no tokens")
        if count >= self.context:
            raise DataError(f"the prompt has {count} tokens, the model's context is {self.context}")
        row = Row(request, self.tokenizer, self.context, self._ends)
        self._line.join(row)
        return row.stream

    def close(self) -> None:
        """Stop after the token in work; streams that are open end as cancelled."""
        self._line.close()
        self._thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def facts(self) -> Facts:
        """What the model is, in numbers."""
        return collect_facts(self._loaded, self.context, self._decoder.nbytes)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._line)

    @property
    def busy(self) -> int:
        """How many requests are being read or written."""
        return self._line.busy

    @property
    def is_alive(self) -> bool:
        """Say whether requests are answered."""
        return self._thread.is_alive()

    @property
    def tally(self) -> Tally | None:
        """What speculation came to; None without a draft."""
        return self._decoder.tally

    def _run(self) -> None:
        chosen = nullcontext() if self._fast is None else fast_kernels(self._fast)
        with torch.inference_mode(), chosen:
            try:
                self._try_out()
                self._ready.set()
                while not self._line.is_closed:
                    if not self._rows and self._reading is None:
                        self._line.wait()
                    self._turn()
            finally:
                self._stop()

    def _try_out(self) -> None:
        """Check the decoder; one that needs no cache takes its place where the cache fails."""
        try:
            self._decoder = _decoder(self._loaded, self._draft, self._slots, self.context)
            self._decoder.try_out()
        except ModelFileError as error:
            _LOG.warning("%s is decoded without a cache: %s", self.name, error)
            self._decoder = WholeDecoder(self.model)
        except QuantaleError as error:
            self._failure = error
            self._line.close()

    def _stop(self) -> None:
        """Leave no reader waiting, whatever happened."""
        self._line.close()
        reading = [] if self._reading is None else [self._reading]
        for row in [*self._rows, *reading, *self._line.empty()]:
            if row.is_open:
                row.close("cancelled")
        self._ready.set()

    def _turn(self) -> None:
        """Let rows leave, read of the first in line, and write a token for each of the others."""
        try:
            self._dismiss()
            self._admit()
            self._dismiss()
            if self._rows:
                self._decoder.step(self._rows)
        except RuntimeError as error:
            self._fail(QuantaleError(f"{self.name}: decoding failed: {error}"))

    def _dismiss(self) -> None:
        """Take out rows that are over or that nobody waits for; close gaps from behind."""
        for slot in reversed(range(len(self._rows))):
            row = self._rows[slot]
            if not self._is_done(row):
                continue
            last = self._rows.pop()
            if last is not row:
                self._rows[slot] = last
                self._decoder.move(len(self._rows), slot, len(last.tokens))

    def _admit(self) -> None:
        """Read prompts while there are slots, but no more than a part of tokens."""
        budget = _PART
        while budget > 0 and len(self._rows) < self._slots:
            row = self._reading = self._reading or self._next()
            if row is None:
                return
            if self._is_done(row):
                self._reading = None
                continue
            part = row.request.tokens[row.read : row.read + budget]
            logits = self._decoder.read(part, row.read)
            row.read += len(part)
            budget -= len(part)
            if row.read == len(row.request.tokens):
                self._decoder.place(len(self._rows), row.read)
                self._rows.append(row)
                self._reading = None
                accept(row, logits)

    def _next(self) -> Row | None:
        row = self._line.next()
        if row is not None:
            row.begun = time.perf_counter()
        return row

    def _is_done(self, row: Row) -> bool:
        if row.is_open and not row.stream.is_cancelled:
            return False
        if row.is_open:
            row.close("cancelled")
        self._line.leave(time.perf_counter() - row.begun)
        return True

    def _fail(self, error: QuantaleError) -> None:
        """End every row with the error and begin anew."""
        for row in [*self._rows, *([] if self._reading is None else [self._reading])]:
            if row.is_open:
                row.stream.fail(error)
            self._line.leave(time.perf_counter() - row.begun)
        self._rows, self._reading = [], None
        self._decoder.clear()


def _decoder(loaded: LoadedModel, draft: Draft | None, slots: int, context: int) -> Decoder:
    if draft is None:
        return PlainDecoder(loaded.model, slots, context)
    own, other = loaded.tokenizer.get_vocab(), draft.loaded.tokenizer
    if other is None or other.get_vocab() != own:
        raise UsageError(f"{draft.loaded.path}: a draft needs the tokenizer of its model")
    return SpeculativeDecoder(loaded.model, draft, slots, context)


def _context(model: Any, wanted: int | None) -> int:
    """Return how many tokens a row may have; raises UsageError for more than the model knows."""
    own = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if wanted is None:
        return LONGEST_CONTEXT if own is None else min(int(own), LONGEST_CONTEXT)
    if wanted < 2 or (own is not None and wanted > own):
        raise UsageError(f"a context from 2 to {own} was expected, {wanted} came")
    return wanted


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's, and those of the generation config."""
    named = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    several = named if isinstance(named, list) else [named]
    return frozenset(int(t) for t in [*several, tokenizer.eos_token_id] if t is not None)
