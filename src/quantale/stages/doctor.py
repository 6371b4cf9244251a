"""What works on this machine: versions, processor, memory, disk, packages, kernels."""

import importlib.metadata
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from packaging.requirements import Requirement

from quantale.core import provenance
from quantale.core.registry import METHODS
from quantale.quant.dispatch import kernels

EXTRAS: Final = {
    "bitsandbytes": ("bnb", "bitsandbytes NF4 and INT8"),
    "gradio": ("serve", "the side-by-side page"),
    "gguf": ("export", "GGUF files"),
    "compressed-tensors": ("export", "files for vLLM"),
    "lm-eval": ("lm-eval", "the tasks of lm-evaluation-harness"),
    "nvidia-ml-py": ("nvml", "what a process holds on a GPU"),
}
_NATIVE_BF16 = {"avx512_bf16", "amx_bf16"}
_DISK = 2 * 10**9
_MEMORY = 2 * 10**9
_PYTHON = (3, 11)


def diagnose() -> list[dict[str, Any]]:
    """Return one row a check: check, ok, required, detail, fix (None when ok)."""
    return [
        _python(),
        *_requirements(),
        *_processor(),
        _memory(),
        _disk(),
        _cuda(),
        *_extras(),
        _row("methods", bool(METHODS.names()), ", ".join(METHODS.names()), required=True),
        *_kernels(),
    ]


def _row(
    check: str, ok: bool, detail: str, fix: str | None = None, *, required: bool = False
) -> dict[str, Any]:
    return {
        "check": check,
        "ok": ok,
        "required": required,
        "detail": detail,
        "fix": None if ok else fix or "reinstall quantale",
    }


def _python() -> dict[str, Any]:
    wanted = ".".join(map(str, _PYTHON))
    found = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info >= _PYTHON
    return _row("python", ok, found, f"install Python {wanted} or later", required=True)


def _requirements() -> Iterator[dict[str, Any]]:
    """Yield a row for each package that quantale declares and does not make optional."""
    for line in importlib.metadata.requires("quantale") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        ok = found is not None and requirement.specifier.contains(found, prereleases=True)
        detail = f"{found or 'missing'} (wanted {requirement.specifier or 'any'})"
        fix = f"pip install '{requirement.name}{requirement.specifier}'"
        yield _row(requirement.name, ok, detail, fix, required=True)


def _processor() -> Iterator[dict[str, Any]]:
    machine = provenance.collect()
    flags = set(machine["cpu_flags"])
    cores = f"{machine['cpu']}, {machine['cores']} cores, {torch.get_num_threads()} threads"
    yield _row("processor", True, cores)
    yield _row(
        "bf16 training",
        bool(flags & _NATIVE_BF16),
        ", ".join(sorted(flags)) or "no flags of note",
        "this processor has no bf16 arithmetic: training runs in fp32, about 8x slower",
    )


def _memory() -> dict[str, Any]:
    free = psutil.virtual_memory().available
    detail = f"{free / 1e9:.1f} GB available"
    return _row("memory", free >= _MEMORY, detail, "close other programs: 2 GB are needed")


def _disk() -> dict[str, Any]:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / 1e9:.1f} GB free here"
    return _row("disk", free >= _DISK, detail, "free some space: 2 GB are needed")


def _cuda() -> dict[str, Any]:
    ok = torch.cuda.is_available()
    detail = torch.cuda.get_device_name(0) if ok else "no CUDA device: everything runs on the CPU"
    return _row("cuda", ok, detail, "optional: a CUDA build of torch on a machine with a GPU")


def _extras() -> Iterator[dict[str, Any]]:
    for package, (extra, purpose) in EXTRAS.items():
        found = _version(package)
        detail = f"{found or 'missing'}: {purpose}"
        yield _row(package, found is not None, detail, f"pip install 'quantale[{extra}]'")


def _kernels() -> Iterator[dict[str, Any]]:
    """Yield a row for each kernel: what it needs, and what is missing for it here."""
    for name, kernel in kernels():
        lacks = kernel.lacks()
        kind = "exact" if kernel.exact else "fast"
        fix = f"optional: it {'; it '.join(lacks)}"
        row = _row(f"kernel {name}", not lacks, f"{kind}; needs {kernel.needs}", fix)
        yield row | {"required": name == "reference"}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
