"""What one classifier says of one document, as kept in `documents.jsonl`; free of torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantale.core.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """One document of one model; label and classes by name."""

    model: str
    document: str
    label: str
    """What the document is."""
    probabilities: Mapping[str, float]
    """Of every class, in the order of the classes; they sum to 1."""

    @property
    def predicted(self) -> str:
        """The likeliest class, of equals the first."""
        return max(self.probabilities, key=lambda name: self.probabilities[name])

    def record(self) -> dict[str, Any]:
        """Return the JSON line of `documents.jsonl`."""
        return {
            "model": self.model,
            "document": self.document,
            "label": self.label,
            "predicted": self.predicted,
            "probabilities": dict(self.probabilities),
        }


def calibration_error(predictions: Sequence[Prediction], bins: int = 15) -> float:
    """Return the expected calibration error of the likeliest class (Guo et al. 2017, eq. 3).

    Confidences fall into `bins` intervals (k/bins, (k+1)/bins] of equal width. The error is the
    mean over documents of |share right - mean confidence| of the document's bin: 0 to 1.
    """
    confidence = np.array([one.probabilities[one.predicted] for one in predictions])
    right = np.array([one.predicted == one.label for one in predictions], dtype=np.float64)
    if confidence.size == 0:
        raise DataError("a calibration error needs at least one document, none came")
    place = np.clip(np.ceil(confidence * bins) - 1, 0, bins - 1).astype(np.int64)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)
