"""What a training took: time, tokens, memory, and energy where the machine tells it.

Energy is that of the processor packages as the Linux powercap interface counts it (Intel and AMD
RAPL, microjoules since some start, wrapping at a stated maximum). It holds whatever else ran
meanwhile. Most virtual machines and unprivileged users see none; then there is no number.
"""

import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from quantale.evaluation.memory import reset_peak

_POWERCAP = Path("/sys/class/powercap")
_MICRO = 1e-6


@dataclass(frozen=True)
class TrainCost:
    """Of all processes that worked on a training."""

    seconds: float = 0.0
    tokens: int = 0
    """Positions that a loss was computed for or could have been: batch rows times their length."""
    peak_rss_bytes: int = 0
    """Largest resident size of any of the processes, by the kernel."""
    device_peak_bytes: int | None = None
    """Largest sum of live tensors on a CUDA device; None on a CPU."""
    joules: float | None = 0.0
    """Of the processor packages; None where any of the processes could not read it."""

    @property
    def tokens_per_second(self) -> float:
        """Over the whole time, validation and checkpoints included."""
        return self.tokens / max(self.seconds, 1e-9)


@dataclass
class EnergyMeter:
    """Adds up the packages' energy; call `read` more often than a counter wraps (minutes)."""

    root: Path = _POWERCAP
    _last: dict[Path, int] = field(default_factory=dict)
    _total: int = 0

    def __post_init__(self) -> None:
        self._last = self._counters()

    def read(self) -> float | None:
        """Return joules since the meter was made; None where nothing can be read."""
        now = self._counters()
        if not self._last or now.keys() != self._last.keys():
            return None
        for folder, value in now.items():
            step = value - self._last[folder]
            wrapped = step < 0
            self._total += step + (_number(folder / "max_energy_range_uj") or 0) * wrapped
        self._last = now
        return self._total * _MICRO

    def _counters(self) -> dict[Path, int]:
        """Return microjoules by package; parts of a package are left out."""
        found = {}
        for folder in sorted(self.root.glob("*-rapl:*")):
            value = _number(folder / "energy_uj")
            if folder.name.count(":") == 1 and value is not None:
                found[folder] = value
        return found


class CostMeter:
    """Measures this process from now on, on top of what earlier ones took."""

    def __init__(self, before: TrainCost, energy: EnergyMeter | None = None) -> None:
        self._before, self._tokens = before, 0
        reset_peak()
        self._energy = energy or EnergyMeter()
        self._start = time.monotonic()

    @property
    def own_seconds(self) -> float:
        """Since the start of this process's part."""
        return time.monotonic() - self._start

    @property
    def own_tokens_per_second(self) -> float:
        """Of this process."""
        return self._tokens / max(self.own_seconds, 1e-9)

    def count(self, tokens: int) -> None:
        """Add the tokens of a step."""
        self._tokens += tokens

    def cost(self) -> TrainCost:
        """Return what all processes took until now."""
        joules = self._energy.read()
        known = joules is not None and self._before.joules is not None
        peaks = [_device_peak(), self._before.device_peak_bytes]
        return TrainCost(
            self._before.seconds + self.own_seconds,
            self._before.tokens + self._tokens,
            max(self._before.peak_rss_bytes, _peak_rss()),
            max((peak for peak in peaks if peak is not None), default=None),
            (joules or 0.0) + (self._before.joules or 0.0) if known else None,
        )


def _peak_rss() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device_peak() -> int | None:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
