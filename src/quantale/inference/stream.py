"""The way from the decoding thread to whoever reads: pieces, an ending or an error."""

import threading
from collections import deque
from collections.abc import Callable, Iterator

from quantale.core.errors import QuantaleError
from quantale.inference.request import Ending, Piece


class Stream:
    """The answer to one request. Iterate over it once; it may be cancelled from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._pieces: deque[Piece] = deque()
        self._ending: Ending | None = None
        self._error: QuantaleError | None = None
        self._cancelled = False
        self._listener: Callable[[], None] | None = None

    def __iter__(self) -> Iterator[Piece]:
        """Yield pieces as they come; raises what went wrong in the engine."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pieces or self.is_over)
            found = self.take()
            if not found:
                return
            yield from found

    def take(self) -> list[Piece]:
        """Return what has come since the last call, without waiting; raises as iterating does."""
        with self._changed:
            found = list(self._pieces)
            self._pieces.clear()
            if not found and self._error is not None:
                raise self._error
            return found

    def cancel(self) -> None:
        """Let the engine stop within a token; what came before can still be read."""
        self._cancelled = True

    @property
    def is_cancelled(self) -> bool:
        """Say whether nobody waits for more."""
        return self._cancelled

    @property
    def is_over(self) -> bool:
        """Say whether no more pieces will come."""
        return self._ending is not None or self._error is not None

    @property
    def ending(self) -> Ending:
        """How it ended; only after the last piece."""
        assert self._ending is not None, "the stream has not ended"
        return self._ending

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener`, from the engine's thread, whenever there is something to take."""
        with self._changed:
            self._listener = listener
        listener()

    def put(self, piece: Piece) -> None:
        """Add a piece; for the engine."""
        with self._changed:
            self._pieces.append(piece)
            self._tell()

    def end(self, ending: Ending) -> None:
        """Close it in order; for the engine."""
        with self._changed:
            self._ending = ending
            self._tell()

    def fail(self, error: QuantaleError) -> None:
        """Close it with an error; for the engine."""
        with self._changed:
            self._error = error
            self._tell()

    def _tell(self) -> None:
        self._changed.notify_all()
        if self._listener is not None:
            self._listener()
