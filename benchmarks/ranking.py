"""Variants ranked by whole-file bytes, and for every peer the best of ours that is no larger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantale.core.records import Measurement
from quantale.evaluation.stats import Estimate, differences

OURS = "quantale"
_ALL = (
    "| bytes | variant | bits a weight | KL, nats a token (95 %) | perplexity | top-1 | s "
    "| peak MB |\n|---:|---|---:|---|---:|---:|---:|---:|\n"
)
_PEERS = (
    "| bytes | peer | its KL | best of ours, no larger | bytes | its KL minus the peer's (95 %) "
    "| at or below |\n|---:|---|---:|---|---:|---|---|\n"
)


@dataclass(frozen=True)
class Row:
    """One variant with what it scored."""

    name: str
    result: Mapping[str, Any]
    """result.json."""
    kl: Measurement
    perplexity: Measurement
    top1: Measurement
    kl_sums: NDArray[np.float64]
    """(documents,): summed KL, nats."""
    tokens: NDArray[np.float64]
    """(documents,): scored tokens."""

    @property
    def nbytes(self) -> int:
        """Whole-file bytes."""
        return int(self.result["file_bytes"])

    @property
    def is_ours(self) -> bool:
        """Whether it is no peer."""
        return bool(self.result["peer"] == OURS)


@dataclass(frozen=True)
class Answer:
    """The best of ours that is no larger than a peer's file."""

    row: Row
    difference: Estimate
    """Our mean KL minus the peer's on the same documents."""

    @property
    def verdict(self) -> str:
        """ "yes" or "no", "by a hair" where the interval holds zero."""
        said = "yes" if self.difference.value <= 0 else "no"
        within = self.difference.low <= 0 <= self.difference.high
        return f"{said}, within noise" if within else said


def answer(peer: Row, ours: Sequence[Row]) -> Answer | None:
    """Return our row with the smallest KL among those that are no larger; None without any."""
    small = [row for row in ours if row.nbytes <= peer.nbytes]
    if not small:
        return None
    best = min(small, key=lambda row: row.kl.value)
    change = best.kl_sums - peer.kl_sums
    return Answer(best, differences(change, peer.tokens)[0].estimate)


def markdown(rows: Sequence[Row], failed: Mapping[str, str], head: str) -> str:
    """Return the peers with our answers, then all variants, each ranked by whole-file bytes."""
    ranked = sorted(rows, key=lambda row: row.nbytes)
    ours = [row for row in ranked if row.is_ours]
    answers = [(row, answer(row, ours)) for row in ranked if not row.is_ours]
    held = sum(one is not None and one.difference.value <= 0 for _, one in answers)
    notes = sorted({f"{r.result['peer']}: {r.result['note']}" for r in rows if r.result["note"]})
    below = [f"{name} did not run: {error}" for name, error in failed.items()] + notes
    parts = [
        head,
        f"At or below {held} of {len(answers)} peers' variants at equal or fewer bytes.",
        _PEERS + "".join(_peer_line(row, one) for row, one in answers),
        _ALL + "".join(_line(row) for row in ranked),
        "".join(f"- {one}\n" for one in below),
    ]
    return "\n".join(parts[:2]) + "\n\n" + "\n".join(parts[2:])


def _peer_line(row: Row, found: Answer | None) -> str:
    cells = [f"{row.nbytes:,}", row.name, f"{row.kl.value:.5f}"]
    if found is None:
        cells += ["none is that small", "", "", "no"]
    else:
        change = found.difference
        interval = f"{change.value:+.5f} ({change.low:+.5f} to {change.high:+.5f})"
        cells += [found.row.name, f"{found.row.nbytes:,}", interval, found.verdict]
    return f"| {' | '.join(cells)} |\n"


def _line(row: Row) -> str:
    low, high = row.kl.ci_low or 0.0, row.kl.ci_high or 0.0
    cells = [
        f"{row.nbytes:,}",
        f"**{row.name}**" if row.is_ours else row.name,
        f"{row.result['bits_per_weight']:.2f}",
        f"{row.kl.value:.5f} ({low:.5f} to {high:.5f})",
        f"{row.perplexity.value:.4f}",
        f"{row.top1.value:.2%}",
        f"{row.result['seconds']:.2f}",
        f"{row.result['peak_rss_bytes'] / 1e6:.0f}",
    ]
    return f"| {' | '.join(cells)} |\n"
