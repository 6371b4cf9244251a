"""The byte ledger of a model directory."""

from typing import Any

from quantale.models.load import ForeignModel, load
from quantale.quant.ledger import inspect, refusals


def inspect_model(model: str) -> dict[str, Any]:
    """Return the `--json` fields of `quantale inspect`."""
    loaded = load(model, dtype=None)  # resident as it would be in its own dtype
    found = inspect(loaded.model, loaded.path).record() | {"refusals": refusals(loaded.model)}
    return found | ({"note": loaded.note} if isinstance(loaded, ForeignModel) else {})
