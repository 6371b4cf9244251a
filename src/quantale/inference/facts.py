"""What a model that is being served is, in numbers."""

from dataclasses import dataclass
from typing import Any

from quantale.models import gate
from quantale.quant.ledger import inspect, kernel_names


@dataclass(frozen=True)
class Facts:
    """The numbers beside an answer."""

    context: int
    """Tokens of prompt and answer together."""
    bytes_on_disk: int | None
    """Weight files; None for a model that is only in memory."""
    bits_per_weight: float
    """Over the quantized weights; over all where none is quantized."""
    kernels: tuple[str, ...]
    """Those that ran last."""
    weight_memory: int
    """Bytes of parameters and buffers."""
    cache_memory: int
    """Bytes of the static cache when it is full."""


def collect_facts(loaded: Any, context: int, cache_memory: int) -> Facts:
    """Return the facts of a loaded model: a tuple of model, tokenizer and folder."""
    model, _, folder = loaded
    on_disk = folder is not None and _has_weights(folder)
    ledger = inspect(model, folder if on_disk else None)
    return Facts(
        context=context,
        bytes_on_disk=ledger.bytes_on_disk,
        bits_per_weight=ledger.bits_per_weight,
        kernels=tuple(sorted(set(kernel_names(model).values()))),
        weight_memory=ledger.bytes_resident,
        cache_memory=cache_memory,
    )


def _has_weights(folder: Any) -> bool:
    return (folder / gate.ADAPTER_CONFIG).is_file() or any(folder.glob("*.safetensors"))
