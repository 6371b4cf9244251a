"""Resident memory of a process: now, sampled every 10 ms from outside, and the kernel's own peak.

Linux only (`/proc`). The kernel's peak (`VmHWM`) misses nothing but covers the whole life of the
process, unless it may be reset (`/proc/self/clear_refs`, not permitted everywhere); samples tell
when, but miss what comes and goes between two of them. Both are reported. Resident pages include
the ones shared with other processes, such as mapped libraries and model files.

`python -m quantale.evaluation.memory PID` samples until its standard input closes, then writes
the largest value in bytes: a sampler in a process of its own, which a busy interpreter cannot
starve.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from quantale.core.errors import EnvironmentLackingError

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


@dataclass
class Peak:
    """Filled in when the block of `watching` ends."""

    resident: int = 0
    """Largest sampled resident size, bytes."""


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


@contextmanager
def watching(pid: int | None = None) -> Iterator[Peak]:
    """Sample a process (None: this one) from a process of its own while the block lasts.

    Raises EnvironmentLackingError where the sampler cannot read the process.
    """
    peak = Peak()
    command = [sys.executable, "-P", "-m", "quantale.evaluation.memory", str(pid or os.getpid())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as sampler:  # type: ignore[call-overload]
        first = sampler.stdout.readline()
        try:
            yield peak
        finally:
            last = sampler.communicate()[0]
    if not first or not last:
        raise EnvironmentLackingError(f"the memory sampler cannot read /proc of {command[-1]}")
    peak.resident = int(last)
    if peak.resident == 0:
        raise EnvironmentLackingError(f"process {command[-1]} cannot be read: it has ended")


def _read(pid: int | None, name: str) -> str:
    """Return a file of /proc, empty once the process has ended."""
    try:
        return Path(f"/proc/{pid or 'self'}/{name}").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _sample_until_closed(pid: int) -> None:
    with Sampler(pid) as sampler:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()
    largest = max([resident(pid), *(one.resident for one in sampler.samples)])
    sys.stdout.write(f"{largest}\n")


if __name__ == "__main__":
    _sample_until_closed(int(sys.argv[1]))
