"""Calibration text that a model writes itself, for want of any data.

Liu et al., "LLM-QAT: Data-Free Quantization Aware Training for Large Language Models", arXiv
2305.17888, section 3.1: tokens are drawn from the model's own distribution. Differences: from the
first token on (the paper takes the likeliest one for the first three to five), and behind the
beginning-of-sequence token where the model has one; the paper begins with a random token, as is
done here without one. A document that ends is followed by the next, as in training text.
"""

import math
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from quantale.core.errors import NumericalError, UsageError

_CACHE_BYTES = 512 * 2**20
"""How large the keys and values of the windows written together may become."""


@torch.no_grad()
def generate_windows(model: PreTrainedModel, samples: int, length: int, seed: int) -> Tensor:
    """Sample windows at temperature 1, (samples, length) int64 on the CPU.

    They depend on model, samples, length and seed alone, and the global random state is left as it
    was. Raises UsageError for a model that cannot continue a text.
    """
    if model.get_output_embeddings() is None:
        raise UsageError("a model without a language head writes no text: give calibration data")
    generator = torch.Generator(device=model.device).manual_seed(seed)
    first = _first_tokens(model, samples, generator)
    was_training = model.training
    model.eval()
    parts = math.ceil(samples * length * _cache_bytes(model, first) / _CACHE_BYTES)
    written = [
        _write(model, part, length, generator)
        for part in torch.tensor_split(first, min(parts, samples))
    ]
    model.train(was_training)
    return torch.cat(written).cpu()


def _first_tokens(model: PreTrainedModel, samples: int, generator: torch.Generator) -> Tensor:
    """Return (samples, 1) beginnings: the BOS token, or drawn from the whole vocabulary."""
    size, begin = (samples, 1), _begin(model)
    if begin is not None:
        return torch.full(size, begin, device=model.device)
    entries = model.config.get_text_config().vocab_size
    return torch.randint(entries, size, generator=generator, device=model.device)


def _begin(model: PreTrainedModel) -> int | None:
    """Return the BOS token; some small models keep the number of a larger vocabulary."""
    config = model.config.get_text_config()
    begin: int | None = config.bos_token_id
    return begin if begin is not None and 0 <= begin < config.vocab_size else None


def _cache_bytes(model: PreTrainedModel, first: Tensor) -> int:
    """Return the bytes of keys and values that one token of one window adds."""
    cache = model(input_ids=first[:1], use_cache=True).past_key_values
    if cache is None:
        raise UsageError(
            f"{type(model).__name__} keeps no keys and values, so that it writes too slowly: "
            "give calibration data"
        )
    tensors = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _write(
    model: PreTrainedModel, tokens: Tensor, length: int, generator: torch.Generator
) -> Tensor:
    """Continue (rows, 1) tokens to (rows, length)."""
    begin = _begin(model)
    ends = _ends(model.config.get_text_config().eos_token_id, begin, tokens)
    cache, parts = _cache(model, length), [tokens]
    for _ in range(length - 1):
        out = model(input_ids=parts[-1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        chances = out.logits[:, -1].to(torch.float32).softmax(-1)
        if not torch.isfinite(chances).all():
            raise NumericalError("the model's logits are not finite; give calibration data")
        drawn = _draw(chances, generator)
        if begin is not None:
            drawn = torch.where(torch.isin(parts[-1], ends), begin, drawn)
        parts.append(drawn)
    return torch.cat(parts, 1)


def _draw(chances: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a column (rows, 1) from (rows, entries): where a uniform number falls in the sums.

    torch.multinomial draws a number for every entry, which takes a fifth of the time.
    """
    sums = chances.cumsum(-1, dtype=torch.float64)
    shape, device = (chances.shape[0], 1), chances.device
    point = torch.rand(shape, generator=generator, dtype=torch.float64, device=device)
    found = torch.searchsorted(sums, point * sums[:, -1:], right=True)
    return found.clamp(max=chances.shape[1] - 1)  # of rounding up to the very end


def _ends(eos: int | list[int] | None, begin: int | None, like: Tensor) -> Tensor:
    """Return the tokens that end a document without beginning the next."""
    listed = [] if eos is None else eos if isinstance(eos, list) else [eos]
    ends = [token for token in listed if token != begin]
    return torch.tensor(ends, dtype=like.dtype, device=like.device)


def _cache(model: PreTrainedModel, length: int) -> Cache:
    """Return the model's usual cache, with room for `length` tokens where it grows by copying."""
    cache = DynamicCache(config=model.config)
    cache.layers = [
        _Roomy(length) if type(layer) is DynamicLayer else layer for layer in cache.layers
    ]
    return cache


class _Roomy(DynamicLayer):  # type: ignore[misc]
    """Keys and values in a tensor that is large enough from the start."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length
        self._room: tuple[Tensor, ...] = ()

    def update(self, keys: Tensor, values: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        """Append (rows, heads, new, width) and return all that there is."""
        del args, kwargs
        start = self.get_seq_length()
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            self._room = tuple(
                new.new_empty(*new.shape[:2], self._length, new.shape[3]) for new in (keys, values)
            )
        end = start + keys.shape[2]
        for room, new in zip(self._room, (keys, values), strict=True):
            room[:, :, start:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values
