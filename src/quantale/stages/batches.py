"""Let a model continue many prompts, a batch at a time."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import LogitsProcessorList

from quantale.core.errors import DataError, ModelFileError
from quantale.models.load import LoadedModel
from quantale.stages.draws import Sampling, SeededDraws
from quantale.stages.generate import continuation, padding, prompt_tokens, room

LEAST = 8
"""New tokens that the longest prompt must leave room for."""


@dataclass(frozen=True)
class Request:
    """One text to continue."""

    prompt: str
    key: str
    """What its random numbers hang on, besides the seed: the prompt's id and the draw."""


@dataclass(frozen=True)
class Written:
    """One continuation."""

    text: str
    """Without the prompt."""
    tokens: int
    """New tokens, an end token included."""
    ended: bool
    """Whether it ends with the end token."""


@dataclass(frozen=True)
class BatchSettings:
    """How a batch is written."""

    new_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    batch_size: int = 16
    """Rows at once; changes speed, and results by float rounding only."""
    seed: int = 0


def budget(loaded: LoadedModel, prompts: Sequence[str], new_tokens: int) -> int:
    """Return how many new tokens fit behind the longest prompt, `new_tokens` at most.

    The same number for all prompts, so that none may write more than another. Raises DataError
    when fewer than `LEAST` fit.
    """
    longest = max(len(prompt_tokens(loaded.tokenizer, prompt)) for prompt in prompts)
    free = room(loaded.model, longest)
    if free < min(LEAST, new_tokens):
        raise DataError(
            f"the longest prompt has {longest} tokens and leaves room for {free}; give less of a "
            "beginning, or other prompts"
        )
    return min(new_tokens, free)


def continue_prompts(
    loaded: LoadedModel,
    requests: Sequence[Request],
    settings: BatchSettings,
    done: Callable[[int], None] | None = None,
) -> list[Written]:
    """Continue every prompt; `done` is told how many more are finished.

    Prompts of like length share a batch and are padded on the left. Each row is drawn with a seed
    made from the settings' seed and its key. The global random state is left as it was.
    """
    if loaded.tokenizer is None:
        raise ModelFileError(f"{loaded.path} holds no tokenizer; save one beside the model")
    tokens = [prompt_tokens(loaded.tokenizer, request.prompt) for request in requests]
    found: dict[int, Written] = {}
    order = sorted(range(len(requests)), key=lambda i: len(tokens[i]))
    for start in range(0, len(order), settings.batch_size):
        chosen = order[start : start + settings.batch_size]
        seeds = [_seed(settings.seed, requests[i].key) for i in chosen]
        rows = _write(loaded, [tokens[i] for i in chosen], seeds, settings)
        found |= zip(chosen, rows, strict=True)
        if done is not None:
            done(len(chosen))
    return [found[i] for i in range(len(requests))]


def _write(
    loaded: LoadedModel, tokens: Sequence[list[int]], seeds: list[int], settings: BatchSettings
) -> Iterator[Written]:
    network, tokenizer = loaded.model, loaded.tokenizer
    longest = max(map(len, tokens))
    filler = padding(tokenizer) or 0
    ids = [[filler] * (longest - len(row)) + row for row in tokens]
    mask = [[0] * (longest - len(row)) + [1] * len(row) for row in tokens]
    sampling = settings.sampling
    draws = [] if sampling.is_greedy else [SeededDraws(sampling, seeds)]
    with torch.inference_mode():
        output = network.generate(
            torch.tensor(ids, device=network.device),
            attention_mask=torch.tensor(mask, device=network.device),
            max_new_tokens=settings.new_tokens,
            pad_token_id=filler,
            eos_token_id=tokenizer.eos_token_id,
            logits_processor=LogitsProcessorList(draws),
            do_sample=False,
            temperature=None,
            top_k=None,
            top_p=None,
        )
    for row, prompt in zip(output[:, longest:].tolist(), tokens, strict=True):
        yield _written(tokenizer, prompt, row)


def _written(tokenizer: Any, prompt: list[int], row: list[int]) -> Written:
    end = tokenizer.eos_token_id
    ended = end is not None and end in row
    new = row[: row.index(end) + 1] if ended else row
    text = continuation(tokenizer, prompt, new[:-1] if ended else new)
    return Written(text, len(new), ended)


def _seed(seed: int, key: str) -> int:
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    return int.from_bytes(digest[:7], "little")
