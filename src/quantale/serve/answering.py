"""From streams of an engine to answers: all at once, or merged as they come.

Whoever leaves is noticed at once and all streams of the request are cancelled, so that their slots
are free within a token.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from fastapi import Request as HttpRequest

from quantale.inference.engine import Engine
from quantale.inference.request import Ending, Piece, QueueFull, Request
from quantale.inference.stream import Stream


@dataclass(frozen=True)
class Answer:
    """One finished text."""

    pieces: tuple[Piece, ...]
    ending: Ending

    @property
    def text(self) -> str:
        """The whole answer."""
        return "".join(piece.text for piece in self.pieces)


Event = tuple[int, Piece | Ending]
"""Number of the answer, and what comes next of it."""


def submit_all(engine: Engine, requests: Sequence[Request]) -> list[Stream]:
    """Hand in all requests or, where they do not all find a place, none."""
    streams: list[Stream] = []
    try:
        for request in requests:
            streams.append(engine.submit(request))  # noqa: PERF401  (a part must be cancelled)
    except QueueFull:
        cancel(streams)
        raise
    return streams


def cancel(streams: Sequence[Stream]) -> None:
    """Give all of them up."""
    for stream in streams:
        stream.cancel()


async def events(
    streams: Sequence[Stream], http: HttpRequest, ended: Callable[[Ending], None]
) -> AsyncIterator[Event]:
    """Yield pieces and endings of all streams as they come; ends early when the client leaves.

    Raises what went wrong in the engine.
    """
    wake = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is who would read
            loop.call_soon_threadsafe(wake.set)

    for stream in streams:
        stream.listen(tell)
    watcher = asyncio.ensure_future(_gone(http, wake))
    left = dict(enumerate(streams))
    try:
        while left and not watcher.done():
            await wake.wait()
            wake.clear()
            for number, stream in list(left.items()):
                is_over = stream.is_over
                for piece in stream.take():
                    yield number, piece
                if is_over:
                    del left[number]
                    stream.take()
                    ended(stream.ending)
                    yield number, stream.ending
    finally:
        cancel(streams)
        watcher.cancel()


async def collect(
    streams: Sequence[Stream], http: HttpRequest, ended: Callable[[Ending], None]
) -> list[Answer]:
    """Return all answers; fewer when the client left."""
    pieces: list[list[Piece]] = [[] for _ in streams]
    endings: dict[int, Ending] = {}
    async for number, event in events(streams, http, ended):
        if isinstance(event, Piece):
            pieces[number].append(event)
        else:
            endings[number] = event
    return [Answer(tuple(pieces[number]), endings[number]) for number in sorted(endings)]


async def _gone(http: HttpRequest, wake: asyncio.Event) -> None:
    """Return when the client has left."""
    while (await http.receive())["type"] != "http.disconnect":
        pass
    wake.set()
