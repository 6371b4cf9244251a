"""Resident memory of a process: now, sampled every 10 ms from outside, and the kernel's own peak.

Linux only (`/proc`). The kernel's peak (`VmHWM`) misses nothing but covers the whole life of the
process, unless it may be reset (`/proc/self/clear_refs`, not permitted everywhere); samples tell
when, but miss what comes and goes between two of them. Both are reported. Resident pages include
the ones shared with other processes, such as mapped libraries and model files.
"""

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

INTERVAL = 0.010
"""Seconds between samples."""

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    """Resident size at one moment."""

    at: float
    """Seconds of the monotonic clock, which all processes of a machine share."""
    resident: int
    """Bytes."""


@dataclass(frozen=True)
class Phase:
    """A named stretch of a process's life."""

    name: str
    start: float
    """Seconds of the monotonic clock."""
    end: float
    kernel_peak: int
    """VmHWM at its end, bytes."""
    peak_reset: bool
    """Whether the peak is of this phase alone; otherwise it covers all phases before it too."""


class Sampler:
    """Samples another process from a thread of this one while the block lasts."""

    def __init__(self, pid: int, interval: float = INTERVAL) -> None:
        self._pid = pid
        self._interval = interval
        self._samples: list[Sample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def samples(self) -> Sequence[Sample]:
        """What was sampled until now."""
        return tuple(self._samples)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            size = resident(self._pid)
            if size == 0:
                return
            self._samples.append(Sample(time.monotonic(), size))
            self._stop.wait(self._interval)


def resident(pid: int | None = None) -> int:
    """Return the resident bytes of a process (None: this one); 0 once it has ended."""
    fields = _read(pid, "statm").split()
    return int(fields[1]) * _PAGE if fields else 0


def kernel_peak(pid: int | None = None) -> int:
    """Return the largest resident size the kernel saw (VmHWM), bytes; 0 once it has ended."""
    lines = _read(pid, "status").splitlines()
    found = [line for line in lines if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) * 1024 if found else 0


def reset_peak() -> bool:
    """Set this process's kernel peak to its present size; False where that is not permitted."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def phase_peak(samples: Sequence[Sample], phase: Phase) -> int:
    """Return the largest resident size of a phase, bytes.

    The kernel's peak counts where it was reset at the start, or where no sample fell in the phase.
    """
    seen = [one.resident for one in samples if phase.start <= one.at <= phase.end]
    if phase.peak_reset or not seen:
        seen.append(phase.kernel_peak)
    return max(seen)


@contextmanager
def measured_phase(name: str, phases: list[Phase]) -> Iterator[None]:
    """Append to `phases` what this process did in the block, its kernel peak reset before."""
    was_reset = reset_peak()
    start = time.monotonic()
    yield
    phases.append(Phase(name, start, time.monotonic(), kernel_peak(), was_reset))


def _read(pid: int | None, name: str) -> str:
    """Return a file of /proc, empty once the process has ended."""
    try:
        return Path(f"/proc/{pid or 'self'}/{name}").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""
