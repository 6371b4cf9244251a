"""Several answers to one prompt as they grow: a thread an answer, snapshots of all for a page."""

import queue
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from quantale.core.errors import QuantaleError
from quantale.stages.answering import Answering, Settings, Writer

INTERVAL = 0.1
"""Seconds between snapshots, but for the first token of an answer, which is shown at once."""
State = Literal["waiting", "writing", "done", "failed"]


@dataclass(frozen=True)
class Answer:
    """One answer so far."""

    pieces: tuple[str, ...] = ()
    """Its tokens as text."""
    state: State = "waiting"
    reason: str = ""
    """How it ended, or of a failure what happened."""
    first_token: float | None = None
    """Seconds from asking to the first token's arrival."""
    per_token: float | None = None
    """Mean seconds between later tokens."""

    @property
    def text(self) -> str:
        """What is written so far."""
        return "".join(self.pieces)

    @property
    def is_over(self) -> bool:
        """Say whether nothing more will come."""
        return self.state in ("done", "failed")


@dataclass(frozen=True)
class _News:
    """A token of an answer, or with None its end."""

    index: int
    piece: str | None
    at: float
    reason: str = ""
    per_token: float | None = None
    is_failure: bool = False


class Race:
    """All models answer the same prompt with the same settings at once."""

    def __init__(self, writers: Sequence[Writer], prompt: str, settings: Settings) -> None:
        """Ask all models; one that refuses has failed, and the others go on."""
        self._news: queue.Queue[_News] = queue.Queue()
        self._answers = [Answer()] * len(writers)
        self._streams: list[Answering] = []
        self._asked = time.perf_counter()
        for index, writer in enumerate(writers):
            try:
                stream = writer.start(prompt, settings)
            except QuantaleError as error:
                self._news.put(_failure(index, error))
                continue
            self._streams.append(stream)
            pump = threading.Thread(target=self._pump, args=(index, stream), daemon=True)
            pump.start()

    def stop(self) -> None:
        """Cancel every answer that is not over; what is written stays."""
        for stream in self._streams:
            stream.cancel()

    def snapshots(self, interval: float = INTERVAL) -> Generator[tuple[Answer, ...], None, None]:
        """Yield all answers whenever there is something new, the last time when all are over.

        Closing the iterator stops the answers.
        """
        try:
            shown = self._asked
            while not all(answer.is_over for answer in self._answers):
                is_first = self._take(self._news.get())
                until = shown + interval
                while not is_first and (left := until - time.perf_counter()) > 0:
                    if all(answer.is_over for answer in self._answers):
                        break
                    is_first = self._take_within(left)
                while not self._news.empty():
                    self._take(self._news.get_nowait())
                shown = time.perf_counter()
                yield tuple(self._answers)
        finally:
            self.stop()

    def _take_within(self, seconds: float) -> bool:
        try:
            return self._take(self._news.get(timeout=seconds))
        except queue.Empty:
            return False

    def _take(self, news: _News) -> bool:
        """Put news into its answer; return whether it is a first token."""
        old = self._answers[news.index]
        self._answers[news.index] = _after(old, news, self._asked)
        return news.piece is not None and old.first_token is None

    def _pump(self, index: int, stream: Answering) -> None:
        """Pass an answer on, in a thread of its own."""
        try:
            for piece in stream:
                self._news.put(_News(index, piece.text, time.perf_counter()))
        except QuantaleError as error:
            self._news.put(_failure(index, error))
            return
        end = stream.ending
        news = _News(index, None, time.perf_counter(), end.reason, end.seconds_per_token)
        self._news.put(news)


def in_step(answers: Sequence[Answer]) -> tuple[Answer, ...]:
    """Return answers that all show as many tokens as the slowest that still writes.

    So that which one is quicker does not tell who it is; times are left out for the same reason.
    """
    writing = [len(answer.pieces) for answer in answers if not answer.is_over]
    shown = min(writing, default=max((len(answer.pieces) for answer in answers), default=0))
    all_over = not writing
    return tuple(
        replace(
            answer,
            pieces=answer.pieces[:shown],
            state=answer.state if all_over or answer.state == "failed" else "writing",
            first_token=None,
            per_token=None,
        )
        for answer in answers
    )


def _after(answer: Answer, news: _News, asked: float) -> Answer:
    if news.is_failure:
        return replace(answer, state="failed", reason=news.reason)
    if news.piece is None:
        pace = news.per_token if news.per_token is not None else answer.per_token
        return replace(answer, state="done", reason=news.reason, per_token=pace)
    pieces = (*answer.pieces, news.piece)
    if answer.first_token is None:
        return replace(answer, pieces=pieces, state="writing", first_token=news.at - asked)
    since = news.at - asked - answer.first_token
    return replace(answer, pieces=pieces, per_token=since / (len(pieces) - 1))


def _failure(index: int, error: QuantaleError) -> _News:
    return _News(index, None, time.perf_counter(), str(error), is_failure=True)
