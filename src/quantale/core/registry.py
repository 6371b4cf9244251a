"""Plug-ins found by file name: `methods/gptq.py` holds `Gptq` and is called "gptq".

Listing never imports a plug-in, so that help texts and recipe checks stay free of torch.
Other distributions add theirs through an entry point whose name is the plug-in's name.
"""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
from dataclasses import dataclass
from typing import Any

from quantale.core.errors import UsageError, nearest


@dataclass(frozen=True)
class Registry:
    """All plug-ins of one kind."""

    package: str
    """Dotted name of the package whose files are the plug-ins."""
    group: str
    """Entry-point group through which other distributions add plug-ins."""

    def names(self) -> tuple[str, ...]:
        """Return the sorted plug-in names, files with "_" read as "-"."""
        return tuple(sorted({*self._files(), *self._entry_points()}))

    def get(self, name: str) -> Any:
        """Return the plug-in class; raises UsageError for an unknown name."""
        files = self._files()
        if name in files:
            module = importlib.import_module(f"{self.package}.{files[name]}")
            return getattr(module, _class_name(name))
        entries = self._entry_points()
        if name in entries:
            return entries[name].load()
        kind = self.package.rpartition(".")[2]
        known = self.names()
        raise UsageError(
            f"{name!r} is none of the {kind}: {', '.join(known)}{nearest(name, known)}"
        )

    def _files(self) -> dict[str, str]:
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.submodule_search_locations is None:
            raise UsageError(f"plug-in package {self.package} is not installed")
        found = pkgutil.iter_modules(list(spec.submodule_search_locations))
        return {m.name.replace("_", "-"): m.name for m in found}

    def _entry_points(self) -> dict[str, importlib.metadata.EntryPoint]:
        return {e.name: e for e in importlib.metadata.entry_points(group=self.group)}


def _class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


METHODS = Registry("quantale.quant.methods", "quantale.methods")
FORMATS = Registry("quantale.quant.formats", "quantale.formats")
KERNELS = Registry("quantale.quant.kernels", "quantale.kernels")
CORPORA = Registry("quantale.data.corpora", "quantale.corpora")
PROTOCOLS = Registry("quantale.evaluation.protocols", "quantale.protocols")
ROUTES = Registry("quantale.evaluation.routes", "quantale.routes")
TUNINGS = Registry("quantale.tuning.methods", "quantale.tunings")
EXPORTERS = Registry("quantale.export.exporters", "quantale.exporters")
READERS = Registry("quantale.quant.readers", "quantale.readers")
