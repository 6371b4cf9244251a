"""What is asked of an engine, and what comes back."""

from dataclasses import dataclass
from typing import Literal

from quantale.core.errors import QuantaleError
from quantale.inference.sampling import Sampling

Reason = Literal["stop", "eos", "length", "context", "cancelled"]


@dataclass(frozen=True)
class Request:
    """One text to continue."""

    tokens: tuple[int, ...]
    """The prompt; at least one."""
    sampling: Sampling
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    """Texts that end the answer and do not belong to it."""
    logprobs: int | None = None
    """Whether pieces carry their log-probability, and those of how many likeliest tokens."""


@dataclass(frozen=True)
class Piece:
    """One token of a stream. The texts of all pieces, joined, are the answer."""

    text: str
    """Never half of a character; empty while one, or a stop text, may be beginning. The end token
    has no text of its own."""
    token: int
    logprob: float | None
    """In nats, by the model's own distribution; None where the request wants none."""
    top: tuple[tuple[int, float], ...]
    """The likeliest tokens and their log-probabilities, likeliest first."""
    seconds: float
    """Since the request was handed in."""


@dataclass(frozen=True)
class Ending:
    """How a stream ended."""

    reason: Reason
    """"context": the model's context is full."""
    prompt_tokens: int
    new_tokens: int
    """An end token counts."""
    first_token_seconds: float | None
    """From handing in to the first token, waiting included; None without a token."""
    seconds_per_token: float | None
    """Mean time between tokens after the first; None for fewer than two."""


class QueueFull(QuantaleError):  # noqa: N818  (a state, as in the standard library's queue.Full)
    """The bounded queue takes no more."""

    exit_code = 6

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"all slots are busy and the queue is full; try again in {retry_after} s")
        self.retry_after = retry_after
        """Seconds after which a place should be free; a whole number, at least 1."""
