"""The bitsandbytes library, which is optional: imported when something needs it.

Its layers are not used, only its functions: its layout of 4-bit weights for AVX512 overwrites
what it reads (its issue 2078).
"""

import functools
import importlib
import importlib.util
from types import ModuleType

from quantale.core.errors import EnvironmentLackingError

FIX = "pip install 'quantale[bnb]'"


def require(owner: str) -> None:
    """Raise EnvironmentLackingError, naming the owner, when the package is not installed."""
    if importlib.util.find_spec("bitsandbytes") is None:
        raise EnvironmentLackingError(f"{owner} needs the package bitsandbytes: {FIX}")


@functools.cache
def functions() -> ModuleType:
    """Return `bitsandbytes.functional`; raises EnvironmentLackingError when it cannot load."""
    require("this")
    try:
        return importlib.import_module("bitsandbytes.functional")
    except (ImportError, OSError) as error:
        raise EnvironmentLackingError(f"bitsandbytes does not load: {error}; {FIX}") from error
