"""The votes so far as an HTML table: shares with their intervals."""

from collections.abc import Sequence

from quantale.evaluation.stats import Estimate
from quantale.evaluation.votes import Standing
from quantale.report import numerals
from quantale.serve.escaping import escaped

_HEADINGS = ("Pair", "Votes", "For the first", "For the second", "Tie", "Both bad", "Preferred")


def tally(found: Sequence[Standing]) -> str:
    """Return the table, or a sentence where nobody has voted."""
    if not found:
        return '<p class="q-hint">No votes yet.</p>'
    head = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    return (
        '<div class="q-scroll"><table class="q-table"><caption>Votes so far</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(_line(one) for one in found)}</tbody>"
        "</table></div>"
        '<p class="q-hint">Shares of all votes of a pair with 95 % intervals (Wilson). Preferred: '
        "told apart by the decided votes, corrected for the number of pairs (Holm).</p>"
    )


def _line(one: Standing) -> str:
    cells = "".join(
        f'<td data-label="{label}">{_share(one.shares[key])}</td>'
        for label, key in (
            ("For the first", "first"),
            ("For the second", "second"),
            ("Tie", "tie"),
            ("Both bad", "bad"),
        )
    )
    return (
        f'<tr><th scope="row">{escaped(one.first)} <span>and</span> {escaped(one.second)}</th>'
        f'<td data-label="Votes">{one.n}</td>{cells}'
        f'<td data-label="Preferred">{escaped(one.preferred or "cannot tell")}</td></tr>'
    )


def _share(one: Estimate) -> str:
    return (
        f"{numerals.percent(one.value, 0)}"
        f"<small>{100 * one.low:.0f} to {100 * one.high:.0f}</small>"
    )
