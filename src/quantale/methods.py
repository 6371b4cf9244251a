"""Every quantization method by its class name: `quantale.methods.Gptq(bits=4)`."""

from typing import Any

from quantale.core.registry import METHODS


def __getattr__(name: str) -> Any:
    """Return a method's class; raises AttributeError for a name that no plug-in has."""
    known = {"".join(p.capitalize() for p in n.split("-")): n for n in METHODS.names()}
    if name not in known:
        raise AttributeError(f"no quantization method {name!r}; there are {', '.join(known)}")
    return METHODS.get(known[name])


def __dir__() -> list[str]:
    return ["".join(p.capitalize() for p in n.split("-")) for n in METHODS.names()]
