"""Time and memory on a CUDA device: events on its stream, its allocator, the driver's count.

A call returns before the device is done, so the host's clock alone would time the asking. The
allocator knows what tensors take and what it holds; the driver knows what the device holds with
contexts and libraries, and of all processes.
"""

import os
import time
from dataclasses import dataclass

import torch

from quantale.evaluation.nvml import process_bytes


@dataclass(frozen=True)
class DeviceMemory:
    """Of one phase, bytes."""

    name: str
    allocated: int
    """Largest sum of live tensors."""
    reserved: int
    """Largest sum held by the allocator."""
    used: int
    """What the driver says is in use on the device at the end, by all processes."""
    process: int | None = None
    """What NVML says this process holds at the end; None where it does not tell."""


class Stopwatch:
    """Times work on a device, seconds."""

    def __init__(self, device: torch.device) -> None:
        self._events = [_event(), _event()] if device.type == "cuda" else []
        self._device = device
        self._started = 0.0

    def start(self) -> None:
        """Begin."""
        if self._events:
            self._events[0].record()
        self._started = time.perf_counter()

    def stop(self) -> float:
        """Wait for the work since the start, and return how long it took."""
        if self._events:
            self._events[1].record()
            self._events[1].synchronize()
            return float(self._events[0].elapsed_time(self._events[1])) / 1000
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)
        return time.perf_counter() - self._started


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def begin_phase(device: torch.device) -> None:
    """Forget the peaks of the phases before."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def end_phase(name: str, device: torch.device) -> DeviceMemory | None:
    """Return what a phase took on the device; None on a CPU."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return DeviceMemory(
        name,
        torch.cuda.max_memory_allocated(device),
        torch.cuda.max_memory_reserved(device),
        total - free,
        process_bytes(f"GPU-{torch.cuda.get_device_properties(device).uuid}", os.getpid()),
    )
