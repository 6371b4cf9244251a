"""What the command line asks of a stage, as plain values; importing this costs nothing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class QuantizeRequest:
    """One model to quantize."""

    model: str
    """Directory or Hub name."""
    method: str
    """Plug-in name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The method's fields: bits, group_size, symmetric and its own."""
    embedding_bits: int | None = None
    """None leaves embeddings in full precision."""
    head_bits: int | None = None
    """None leaves an untied head in full precision."""
    calibration: str | None = None
    """What calibrates, in the grammar of `--data`."""
    samples: int = 64
    """Calibration windows."""
    length: int | None = None
    """Tokens a window; None for the model's context."""
    seed: int = 0
    """Which windows are drawn."""


@dataclass(frozen=True)
class EvaluateRequest:
    """Models to score on the same text."""

    models: tuple[str, ...]
    """Directories or Hub names."""
    data: str
    """In the grammar of `--data`."""
    base: str | None = None
    """Model that the others are measured against."""
    protocol: str = "document"
    """How text becomes scored tokens."""
    limit: int | None = None
    """First documents only."""
    batch_size: int = 16
    """Windows a forward pass; does not change results."""
    seed: int = 0
    """Of generated corpora and the bootstrap."""
