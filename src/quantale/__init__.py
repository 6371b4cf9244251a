"""Quantale: make language models small and prove what it cost."""

import importlib
from typing import TYPE_CHECKING, Any

from quantale import hooks

if TYPE_CHECKING:
    from quantale import methods as methods
    from quantale.models.load import load as load
    from quantale.quant.ledger import inspect as inspect
    from quantale.quant.save import save as save
    from quantale.stages.quantize import quantize as quantize

__version__ = "0.1.0"
__all__ = ["__version__", "inspect", "load", "methods", "quantize", "save"]

_LAZY = {
    "load": ("quantale.models.load", "load"),
    "quantize": ("quantale.stages.quantize", "quantize"),
    "inspect": ("quantale.quant.ledger", "inspect"),
    "save": ("quantale.quant.save", "save"),
    "methods": ("quantale.methods", None),
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used, so that importing the package stays cheap."""
    if name not in _LAZY:
        raise AttributeError(f"module 'quantale' has no attribute {name!r}")
    module, attribute = _LAZY[name]
    loaded = importlib.import_module(module)
    return loaded if attribute is None else getattr(loaded, attribute)


def __dir__() -> list[str]:
    return sorted(__all__)


hooks.install()
