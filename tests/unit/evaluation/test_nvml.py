"""The driver's count of a process, on a driver that is made up."""

import sys
from types import ModuleType, SimpleNamespace

import pytest

from quantale.evaluation.nvml import process_bytes


class DriverError(Exception):
    """Stands for NVML's."""


def driver(monkeypatch: pytest.MonkeyPatch, *, answers: bool = True) -> None:
    """Put a driver with one GPU and three processes in the place of NVML."""

    def start() -> None:
        if not answers:
            raise DriverError("driver not loaded")

    processes = [
        SimpleNamespace(pid=7, usedGpuMemory=3 << 30),
        SimpleNamespace(pid=8, usedGpuMemory=5 << 30),
        SimpleNamespace(pid=9, usedGpuMemory=None),
    ]
    fake = ModuleType("pynvml")
    fake.__spec__ = SimpleNamespace(name="pynvml")  # type: ignore[assignment]
    fake.NVMLError = DriverError  # type: ignore[attr-defined]
    fake.nvmlInit = start  # type: ignore[attr-defined]
    fake.nvmlDeviceGetHandleByUUID = {"GPU-a": "handle"}.__getitem__  # type: ignore[attr-defined]
    fake.nvmlDeviceGetComputeRunningProcesses = {"handle": processes}.get  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", fake)


@pytest.mark.parametrize(("pid", "held"), [(7, 3 << 30), (8, 5 << 30), (9, None), (10, None)])
def test_a_process_is_told_what_it_holds_itself(
    pid: int, held: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(monkeypatch)
    assert process_bytes("GPU-a", pid) == held


def test_a_driver_that_does_not_answer_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver(monkeypatch, answers=False)
    assert process_bytes("GPU-a", 7) is None
