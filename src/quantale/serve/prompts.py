"""From what was asked to the tokens that an engine reads."""

import secrets
from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from quantale.core.errors import UsageError
from quantale.inference.engine import Engine
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.serve.asked import Asked, ChatAsked, ChatMessage, CompletionAsked, Prompt
from quantale.serve.faults import Fault
from quantale.serve.limits import LIMITS
from quantale.stages.generate import prompt_tokens


def completion_requests(asked: CompletionAsked, engine: Engine) -> list[Request]:
    """Return one request for each answer: every prompt n times, in order."""
    prompts = [_tokens(engine, prompt) for prompt in asked.prompt]
    return _requests(asked, engine, prompts, asked.max_tokens, asked.logprobs)


def chat_requests(asked: ChatAsked, engine: Engine) -> list[Request]:
    """Return n requests for the chat, written out by the tokenizer's own template."""
    tokens = _chat_tokens(engine, asked.messages)
    wanted = (asked.top_logprobs or 0) if asked.logprobs else None
    return _requests(asked, engine, [tokens], asked.limit, wanted)


def prompt_text(engine: Engine, prompt: Prompt) -> str:
    """Return a prompt as text."""
    if isinstance(prompt, str):
        return prompt
    return str(engine.tokenizer.decode(list(prompt), skip_special_tokens=True))


def _requests(
    asked: Asked,
    engine: Engine,
    prompts: Sequence[tuple[int, ...]],
    limit: int,
    logprobs: int | None,
) -> list[Request]:
    seed = secrets.randbits(62) if asked.seed is None else asked.seed
    top_p = None if asked.top_p == 1.0 else asked.top_p
    for tokens in prompts:
        _check_length(engine, len(tokens))
    return [
        Request(
            tokens,
            Sampling(asked.temperature, asked.top_k, top_p, seed + draw),
            limit,
            tuple(asked.stop),
            logprobs,
        )
        for tokens in prompts
        for draw in range(asked.n)
    ]


def _tokens(engine: Engine, prompt: Prompt) -> tuple[int, ...]:
    if not isinstance(prompt, str):
        _check_length(engine, len(prompt))
        vocabulary = int(engine.model.config.get_text_config(decoder=True).vocab_size)
        wrong = next((token for token in prompt if token >= vocabulary), None)
        if wrong is not None:
            raise Fault(f"token {wrong} is not in the vocabulary of {vocabulary}", param="prompt")
        return prompt
    _check_characters(engine, prompt, "prompt")
    try:
        return tuple(prompt_tokens(engine.tokenizer, prompt))
    except UsageError:
        raise Fault("the prompt is empty, and this model has no beginning token") from None


def _chat_tokens(engine: Engine, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
    """Render the chat; transformers does it in jinja2's sandbox, without access to objects."""
    tokenizer: Any = engine.tokenizer
    if not tokenizer.chat_template:
        raise Fault(
            f"model {engine.name!r} has no chat template; use /v1/completions", param="model"
        )
    symbols = sorted(tokenizer.all_special_tokens)
    for message in messages:
        _check_characters(engine, message.text, "messages")
        spelt = next((symbol for symbol in symbols if symbol in message.text), None)
        if spelt is not None:
            raise Fault(f"a message spells the special token {spelt}", param="messages")
    turns = [{"role": message.role, "content": message.text} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except (TemplateError, TypeError, ValueError) as error:
        raise Fault(
            f"the chat template refuses these messages: {error}", param="messages"
        ) from None
    _check_characters(engine, text, "messages")
    tokens = tuple(tokenizer.encode(text, add_special_tokens=False))
    _check_length(engine, len(tokens))
    return tokens


def _check_characters(engine: Engine, text: str, param: str) -> None:
    """Refuse what cannot fit before the time is spent that reading it would take."""
    most = engine.context * LIMITS.characters_per_token
    if len(text) > most:
        raise Fault(
            f"{len(text)} characters cannot fit a context of {engine.context} tokens",
            param=param,
            code="context_length_exceeded",
        )


def _check_length(engine: Engine, count: int) -> None:
    if not 0 < count < engine.context:
        raise Fault(
            f"the prompt has {count} tokens; 1 to {engine.context - 1} fit the model's context",
            code="context_length_exceeded",
        )
