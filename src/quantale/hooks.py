"""Registration with transformers that waits until transformers is loaded.

`import quantale` must stay cheap and yet be all that `from_pretrained` needs. So it leaves a
finder in front of the import system that runs our registration right after the transformers
module which holds the list in question.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Final

_REGISTER_AFTER: Final = {
    "transformers.quantizers.auto": "quantale.quant.hf",
    "transformers.models.auto.configuration_auto": "quantale.models.nanogpt_config",
    "transformers.models.auto.modeling_auto": "quantale.models.nanogpt",
}


class _Loader(importlib.abc.Loader):
    """Runs the original loader, then our registration."""

    def __init__(self, original: importlib.abc.Loader, ours: str) -> None:
        self._original, self._ours = original, ours

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Create the module as its own loader does."""
        return self._original.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module and register."""
        self._original.exec_module(module)
        _register(self._ours)


class _Finder(importlib.abc.MetaPathFinder):
    """Hands out our loader for the modules in the table and nothing else."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Find the module as Python would, and wrap its loader."""
        del target
        if fullname not in _REGISTER_AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _REGISTER_AFTER[fullname])
        return spec


def install() -> None:
    """Register now what is loaded already, and the rest when it gets loaded."""
    if any(isinstance(finder, _Finder) for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder())
    for theirs, ours in _REGISTER_AFTER.items():
        if theirs in sys.modules:
            _register(ours)


def _register(ours: str) -> None:
    """Call the module's `register`; a module that is being imported just now does so itself."""
    register = getattr(importlib.import_module(ours), "register", None)
    if register is not None:
        register()
