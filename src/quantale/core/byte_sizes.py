"""Bytes as people write them: 8GB, 512MiB."""

import re

from quantale.core.errors import UsageError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def parse_bytes(text: str) -> int:
    """Read "8GB" (10**9), "512MiB" (2**20) or plain bytes; raises UsageError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if found is None or found[2].upper() not in _UNITS:
        raise UsageError(f"{text!r} is no number of bytes; write 8GB, 512MiB or 40000000")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def show_bytes(number: float) -> str:
    """Return "1.23 GB"."""
    for unit in ("TB", "GB", "MB", "KB"):
        if number >= _UNITS[unit]:
            return f"{number / _UNITS[unit]:.3g} {unit}"
    return f"{number:.0f} B"
