"""What every peer is given and gives back."""

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Given:
    """What a peer works on."""

    folder: Path
    """Model directory of transformers, float32."""
    windows: Tensor | None
    """(samples, length) token ids for peers that calibrate."""
    scratch: Path
    """Empty folder that is removed afterwards."""


@dataclass(frozen=True)
class Made:
    """What a peer made of a model."""

    parameters: Mapping[str, Tensor]
    """Dequantized float32 parameters by the model's own names, in its own layout."""
    seconds: float
    """Time to quantize, without imports, loading and saving."""
    peak_rss_bytes: int
    """Of the process, when quantizing was done."""
    file_bytes: int
    """Whole files that inference needs: everything, not the quantized weights alone."""
    linear_bytes: int
    """Of that, the packed linear layers of the blocks with their scales."""
    note: str = ""
    """What a reader must know about these numbers."""


class Peer(Protocol):
    """A frozen dataclass of the settings of one library."""

    @property
    def needs_calibration(self) -> bool:
        """Whether it reads token windows."""

    @property
    def distribution(self) -> str:
        """The name by which it is installed."""

    def run(self, given: Given) -> Made:
        """Quantize; raises whatever the library raises."""


def peak_rss() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
