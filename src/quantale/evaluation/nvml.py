"""What NVML, the driver's library, says a process holds on a GPU: contexts and libraries included.

It needs the extra `nvml` (nvidia-ml-py). A driver that does not tell, as in some containers, where
process numbers differ, gives None.
"""

import importlib
from importlib.util import find_spec


def process_bytes(uuid: str, pid: int) -> int | None:
    """Return the bytes that a process holds on the GPU with this UUID, None where nothing tells."""
    if find_spec("pynvml") is None:
        return None
    nvml = importlib.import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None
    held = [one.usedGpuMemory for one in processes if one.pid == pid]
    return int(held[0]) if held and held[0] is not None else None
