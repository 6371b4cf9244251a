"""What one request may ask for; checked before any work is done."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Caps of one server."""

    body_bytes: int = 256 << 10
    """Reading more JSON than that takes too long to say no in a tenth of a second."""
    new_tokens: int = 2048
    """The largest max_tokens."""
    texts: int = 16
    """Answers of one request: prompts times n."""
    stops: int = 4
    stop_characters: int = 256
    """Of one stop text."""
    messages: int = 256
    """Turns of a chat."""
    characters_per_token: int = 16
    """A prompt with more characters for each token of the context is refused unread."""
    logprobs: int = 20
    """The largest number of likeliest tokens."""


LIMITS = Limits()
