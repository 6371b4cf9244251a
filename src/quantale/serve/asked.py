"""Requests in the shape of OpenAI's API: strict, since a typing error should not go unnoticed.

What a client may send and this server cannot do is refused, unless it has the value that means
nothing. Shapes of lists are checked by hand in front of pydantic, which would name every wrong
entry of a long list, one by one.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from quantale.serve.limits import LIMITS

_KEYS = 64
_TEXT_SCHEMA: dict[str, Any] = {"type": "string"}
_TOKENS_SCHEMA: dict[str, Any] = {"type": "array", "items": {"type": "integer", "minimum": 0}}

Prompt = str | tuple[int, ...]


def _prompts(value: Any) -> list[Prompt]:
    """Return a text, tokens, or a list of either as a list."""
    if isinstance(value, str):
        return [_sound(value)]
    if not isinstance(value, list) or not value:
        raise ValueError("a text, a list of tokens, or a list of these was expected")
    if _are_tokens(value):
        return [tuple(value)]
    if len(value) > LIMITS.texts:
        raise ValueError(f"at most {LIMITS.texts} prompts; {len(value)} came")
    if all(isinstance(item, str) for item in value):
        return [_sound(item) for item in value]
    if all(isinstance(item, list) and item and _are_tokens(item) for item in value):
        return [tuple(item) for item in value]
    raise ValueError("prompts are all texts or all lists of tokens")


def _sound(text: str) -> str:
    """Refuse halves of characters, which JSON can spell and no tokenizer reads."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the text holds half of a character") from None
    return text


def _are_tokens(value: list[Any]) -> bool:
    return all(type(item) is int and 0 <= item < 2**31 for item in value)


def _stops(value: Any) -> list[str]:
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or len(texts) > LIMITS.stops:
        raise ValueError(f"a text, or a list of at most {LIMITS.stops}, was expected")
    if not all(isinstance(text, str) and 0 < len(text) <= LIMITS.stop_characters for text in texts):
        raise ValueError(f"stop texts have 1 to {LIMITS.stop_characters} characters")
    return [_sound(text) for text in texts]


def _neutral(value: Any) -> None:
    """Refuse what would change the answer and is not there."""
    if value:
        raise ValueError("is not supported here; leave it out")


Sound = Annotated[str, AfterValidator(_sound)]
Prompts = Annotated[
    list[Any],
    BeforeValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                _TEXT_SCHEMA,
                _TOKENS_SCHEMA,
                {"type": "array", "items": _TEXT_SCHEMA},
                {"type": "array", "items": _TOKENS_SCHEMA},
            ]
        }
    ),
]
Stops = Annotated[
    list[str],
    BeforeValidator(_stops),
    WithJsonSchema({"anyOf": [_TEXT_SCHEMA, {"type": "array", "items": _TEXT_SCHEMA}]}),
]
Unsupported = Annotated[None, BeforeValidator(_neutral), WithJsonSchema({"type": "null"})]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _few_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError("a JSON object was expected")
        if len(data) > _KEYS:
            raise ValueError(f"{len(data)} fields came, at most {_KEYS} are read")
        return data


class StreamOptions(_Strict):
    """Options of a streamed answer."""

    include_usage: bool = False
    """Send a last chunk with the counts of tokens."""
    include_obfuscation: bool = False
    """Known to clients; nothing is obfuscated here."""


class Asked(_Strict):
    """What both kinds of request share."""

    model: str = Field(min_length=1, max_length=256)
    temperature: float = Field(default=1.0, ge=0.0, le=2.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int | None = Field(default=None, ge=1, le=2**31)
    """Not OpenAI's: draw from the likeliest K."""
    n: int = Field(default=1, ge=1, le=LIMITS.texts)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    stop: Stops = []
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(default=None, max_length=256)
    presence_penalty: Unsupported = None
    frequency_penalty: Unsupported = None
    logit_bias: Unsupported = None

    @model_validator(mode="after")
    def _options_belong_to_streams(self) -> "Asked":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options goes with stream=true")
        return self


class CompletionAsked(Asked):
    """A request to continue texts."""

    prompt: Prompts
    max_tokens: int = Field(default=16, ge=1, le=LIMITS.new_tokens)
    logprobs: int | None = Field(default=None, ge=0, le=LIMITS.logprobs)
    echo: bool = False
    """Put the prompt in front of the answer."""
    best_of: int | None = None
    suffix: Unsupported = None

    @model_validator(mode="after")
    def _fits(self) -> "CompletionAsked":
        if self.best_of not in (None, self.n):
            raise ValueError("best_of other than n is not supported here")
        if self.echo and self.logprobs is not None:
            raise ValueError("echo does not go with logprobs: those of a prompt are not computed")
        if len(self.prompt) * self.n > LIMITS.texts:
            raise ValueError(f"prompts times n is at most {LIMITS.texts}")
        return self


class TextPart(_Strict):
    """A part of a message."""

    type: Literal["text"]
    text: Sound


class ChatMessage(_Strict):
    """A turn of a chat."""

    role: str = Field(min_length=1, max_length=32, pattern=r"^[a-z_]+$")
    content: Sound | Annotated[list[TextPart], Field(min_length=1, max_length=LIMITS.messages)]
    name: str | None = Field(default=None, max_length=64)

    @property
    def text(self) -> str:
        """The whole text of the turn."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content)


class TextFormat(_Strict):
    """The only format of an answer."""

    type: Literal["text"]


class ChatAsked(Asked):
    """A request to answer in a chat."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=LIMITS.messages)]
    max_tokens: int | None = Field(default=None, ge=1, le=LIMITS.new_tokens)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=LIMITS.new_tokens)
    logprobs: bool = False
    top_logprobs: int | None = Field(default=None, ge=0, le=LIMITS.logprobs)
    response_format: TextFormat | None = None
    tools: Unsupported = None
    tool_choice: Unsupported = None

    @model_validator(mode="after")
    def _fits(self) -> "ChatAsked":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs goes with logprobs=true")
        return self

    @property
    def limit(self) -> int:
        """The most tokens that the answer may have."""
        return self.max_completion_tokens or self.max_tokens or LIMITS.new_tokens
