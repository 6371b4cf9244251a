"""Variants ranked by whole-file bytes, and for every peer the best of ours that is no larger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantale.core.records import Measurement
from quantale.evaluation.stats import Estimate, differences

OURS = "quantale"
_HEAD = (
    "| bytes | variant | bits a weight | KL, nats a token (95 %) | perplexity | top-1 "
    "| s | peak MB | best of ours, no larger | its KL minus this (95 %) | at or below |\n"
    "|---:|---|---:|---|---:|---:|---:|---:|---|---|---|\n"
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
    """Return the table, smallest file first, with a summary above and what failed below."""
    ours = [row for row in rows if row.is_ours]
    ranked = sorted(rows, key=lambda row: row.nbytes)
    answers = {row.name: answer(row, ours) for row in ranked if not row.is_ours}
    held = sum(one is not None and one.difference.value <= 0 for one in answers.values())
    lines = [_line(row, answers) for row in ranked]
    below = "".join(f"- {name} did not run: {error}\n" for name, error in failed.items())
    notes = sorted({f"{r.result['peer']}: {r.result['note']}" for r in rows if r.result["note"]})
    below += "".join(f"- {note}.\n" for note in notes)
    held_line = f"At or below {held} of {len(answers)} peers' variants at equal or fewer bytes."
    return f"{head}\n{held_line}\n\n{_HEAD}{''.join(lines)}\n{below}"


def _line(row: Row, answers: Mapping[str, Answer | None]) -> str:
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
        *_answer_cells(row, answers),
    ]
    return f"| {' | '.join(cells)} |\n"


def _answer_cells(row: Row, answers: Mapping[str, Answer | None]) -> list[str]:
    if row.is_ours:
        return ["", "", ""]
    found = answers[row.name]
    if found is None:
        return ["none is that small", "", "no"]
    change = found.difference
    interval = f"{change.value:+.5f} ({change.low:+.5f} to {change.high:+.5f})"
    return [found.row.name, interval, found.verdict]
