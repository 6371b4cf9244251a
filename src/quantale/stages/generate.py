"""Let a model continue a prompt."""

from typing import Any

import torch

from quantale.core.errors import DataError, ModelFileError, UsageError
from quantale.models.load import LoadedModel, load
from quantale.quant.dispatch import fast_kernels
from quantale.quant.ledger import kernel_names
from quantale.stages.draws import COLDEST


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
    free = room(network, len(tokens))
    sampling = _sampling(temperature, top_k, top_p)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        output = network.generate(
            torch.tensor([tokens]),
            attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
            max_new_tokens=min(max_new_tokens, free),
            pad_token_id=padding(tokenizer),
            **sampling,
        )
    new = output[0, len(tokens) :].tolist()
    return {
        "text": prompt + continuation(tokenizer, tokens, new),
        "prompt": prompt,
        "prompt_tokens": len(tokens),
        "new_tokens": len(new),
        "unknown": _count_unknown(tokenizer, tokens),
        "stopped": _stop_reason(new, tokenizer.eos_token_id, cut=free < max_new_tokens),
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
    context = getattr(network.config, "max_position_embeddings", None)
    if context is None:
        return 2**31
    if length >= context:
        raise DataError(f"the prompt has {length} tokens, the model's context is {context}")
    return int(context) - length


def _sampling(temperature: float, top_k: int | None, top_p: float | None) -> dict[str, Any]:
    if temperature < COLDEST:
        return {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    return {
        "do_sample": True,
        "temperature": temperature,
        "top_k": top_k if top_k is not None else 0,
        "top_p": top_p if top_p is not None else 1.0,
    }


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


def _stop_reason(new: list[int], end: int | None, *, cut: bool) -> str:
    if new and new[-1] == end:
        return "eos"
    return "context" if cut else "length"
