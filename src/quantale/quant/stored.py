"""How a quantized model describes itself in `config.json`, and the way back to formats."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quantale.core.errors import ModelFileError
from quantale.core.registry import FORMATS
from quantale.quant.packed import LAYOUT_VERSION, Format

QUANT_METHOD = "quantale"


def plugin_name(instance: object) -> str:
    """Return the plug-in name of a method or format: that of its file."""
    return type(instance).__module__.rpartition(".")[2].replace("_", "-")


def format_record(layout: Format) -> dict[str, Any]:
    """Return the name and settings of a format, JSON-able."""
    return {"name": plugin_name(layout), **layout.settings()}


def format_from(record: Mapping[str, Any]) -> Format:
    """Return the format of a record; raises ModelFileError for settings it does not know."""
    settings = {key: value for key, value in record.items() if key != "name"}
    try:
        return FORMATS.get(record["name"])(**settings)
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"the format {dict(record)} is not understood: {error}") from error


@dataclass(frozen=True)
class StoredSite:
    """One packed weight as `config.json` lists it."""

    name: str
    role: str
    method: str
    shape: tuple[int, int]
    format: Format
    bias: bool
    tied: str | None = None
    norm: float | None = None
    """Epsilon of the norm in front of it, see quant/sub_norm.py; None: there is none."""
    rank: int | None = None
    """Of the low-rank term beside it, see quant/low_rank.py; None: there is none."""

    def record(self) -> dict[str, Any]:
        """Return the JSON-able form."""
        trained = {"norm": self.norm, "rank": self.rank}
        return {
            "role": self.role,
            "method": self.method,
            "shape": list(self.shape),
            "format": format_record(self.format),
            "bias": self.bias,
            "tied": self.tied,
            **{key: value for key, value in trained.items() if value is not None},
        }


def read_sites(config: Mapping[str, Any]) -> list[StoredSite]:
    """Read the sites of a `quantization_config`; raises ModelFileError when it is not ours."""
    version = config.get("layout_version")
    if version != LAYOUT_VERSION:
        raise ModelFileError(
            f"layout version {version!r} came, this release reads {LAYOUT_VERSION}; "
            "use a matching release"
        )
    try:
        return [_site(name, record) for name, record in config["sites"].items()]
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise ModelFileError(f"quantization_config is damaged: {error!r}") from error


def _site(name: str, record: Mapping[str, Any]) -> StoredSite:
    rows, width = record["shape"]
    rank = record.get("rank")
    if rank is not None and type(rank) is not int:
        raise TypeError(f"a rank is a whole number, {rank!r} came")
    return StoredSite(
        name,
        record["role"],
        record["method"],
        (int(rows), int(width)),
        format_from(record["format"]),
        bool(record["bias"]),
        record["tied"],
        None if record.get("norm") is None else float(record["norm"]),
        rank,
    )
