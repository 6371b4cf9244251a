"""Let a model continue a prompt."""

from typing import Any

from quantale.core.errors import DataError, ModelFileError, UsageError
from quantale.evaluation.windows import own_context
from quantale.inference.engine import Engine
from quantale.inference.request import Request
from quantale.inference.sampling import Sampling
from quantale.models.load import LoadedModel, load
from quantale.quant.dispatch import fast_kernels
from quantale.quant.ledger import kernel_names


def generate_text(
    model: str, prompt: str, *, exact: bool = False, **sampling: Any
) -> dict[str, Any]:
    """Load a model and let it continue a prompt; `sampling` is that of `continue_prompt`.

    Fast kernels run unless `exact` is asked for; "kernels" in the result names those that ran.
    """
    loaded = load(model)
    with fast_kernels(not exact):
        made = continue_prompt(loaded, prompt, **sampling)
    return made | {"kernels": sorted(set(kernel_names(loaded.model).values()))}


def continue_prompt(
    loaded: LoadedModel,
    prompt: str,
    *,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None = None,
    seed: int,
) -> dict[str, Any]:
    """Return the text (prompt included) and how it ended: "eos", "length" or "context".

    Temperature 0 is greedy; without `top_k` and `top_p` any token can come. The same seed gives
    the same text; the global random state is left as it was. Characters that the tokenizer does
    not know are counted in "unknown".
    """
    network, tokenizer, folder = loaded
    if tokenizer is None:
        raise ModelFileError(f"{folder} holds no tokenizer; save one beside the model")
    tokens = prompt_tokens(tokenizer, prompt)
    context = len(tokens) + min(max_new_tokens, room(network, len(tokens)))
    sampling = Sampling(temperature, top_k, top_p, seed)
    request = Request(tuple(tokens), sampling, max_new_tokens)
    with Engine(loaded, slots=1, queue=0, context=context, fast=None) as engine:
        stream = engine.submit(request)
        text = "".join(piece.text for piece in stream)
    return {
        "text": prompt + text,
        "prompt": prompt,
        "prompt_tokens": len(tokens),
        "new_tokens": stream.ending.new_tokens,
        "unknown": _count_unknown(tokenizer, tokens),
        "stopped": stream.ending.reason,
        "seed": seed,
    }


def prompt_tokens(tokenizer: Any, prompt: str) -> list[int]:
    """Return the prompt behind a beginning-of-sequence token, where the tokenizer has one."""
    tokens: list[int] = tokenizer.encode(prompt, add_special_tokens=False)
    start = tokenizer.bos_token_id
    if start is not None:
        tokens = [start, *tokens]
    if not tokens:
        raise UsageError("this tokenizer has no beginning-of-sequence token: give --prompt")
    return tokens


def room(network: Any, length: int) -> int:
    """Return how many tokens still fit into the model's context."""
    context = own_context(network)
    if context is None:
        return 2**31
    if length >= context:
        raise DataError(f"the prompt has {length} tokens, the model's context is {context}")
    return context - length


def continuation(tokenizer: Any, tokens: list[int], new: list[int]) -> str:
    """Decode what is new together with the prompt, so that a space between them survives."""
    before: str = tokenizer.decode(tokens, skip_special_tokens=True)
    whole: str = tokenizer.decode(tokens + new, skip_special_tokens=True)
    if whole.startswith(before):
        return whole[len(before) :]
    return str(tokenizer.decode(new, skip_special_tokens=True))


def padding(tokenizer: Any) -> int | None:
    """Return the padding token, or the end token in its place."""
    padding: int | None = tokenizer.pad_token_id
    end: int | None = tokenizer.eos_token_id
    return end if padding is None else padding


def _count_unknown(tokenizer: Any, tokens: list[int]) -> int:
    return 0 if tokenizer.unk_token_id is None else tokens.count(tokenizer.unk_token_id)
