"""`report.html`, its Markdown and numbers, and a picture: one experiment, made to be looked at.

The page is one file. Styles, pictures and a few lines of script are inside, nothing is fetched,
and everything that came from a model or a recipe is text, never HTML. The same data gives the
same bytes.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from quantale.core.errors import UsageError
from quantale.core.files import write_atomic
from quantale.report import (
    classes,
    findings,
    heat,
    numerals,
    palette,
    pareto,
    plots,
    series,
    sweeps,
    votes,
    writing,
    writing_bars,
)
from quantale.report.facts import flat
from quantale.report.headline import headline, speed
from quantale.report.markdown import markdown
from quantale.report.model import ReportData, VariantRow
from quantale.report.results import result_lines
from quantale.report.samples import side_by_side
from quantale.report.table import headline_table
from quantale.report.trade_picture import NAME, trade_png


@dataclass(frozen=True)
class Tile:
    """One large number under the headline."""

    label: str
    number: str
    note: str


def build_report(data: ReportData, folder: Path) -> list[Path]:
    """Write the page, its Markdown twin, its numbers and, where there is one, its main picture."""
    check(data)
    contents: dict[str, str | bytes] = {
        "report.html": html(data),
        "report.md": markdown(data),
        "results.jsonl": result_lines(data),
    }
    picture = trade_png(data)
    if picture is not None:
        contents[NAME] = picture
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def check(data: ReportData) -> None:
    """Raise UsageError for data without its base, with two of one name, or an unknown component."""
    names = [row.name for row in data.variants]
    if data.base not in names:
        raise UsageError(f"base {data.base!r} is no variant of the report; it has {names}")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"variant names must differ; {twice[0]!r} came twice")
    odd = sorted({name for row in data.variants for name in row.components} - {*palette.COMPONENTS})
    if odd:
        raise UsageError(f"component {odd[0]!r} is unknown; known: {', '.join(palette.COMPONENTS)}")


def html(data: ReportData) -> str:
    """Return the whole page."""
    loader = PackageLoader("quantale.report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    script = loader.get_source(environment, "page.js")[0]
    style = loader.get_source(environment, "style.css")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = environment.get_template("report.html.j2")
    return template.render(
        script=Markup(script), style=Markup(style), script_hash=f"sha256-{digest}",
        light=Markup(palette.declarations(palette.LIGHT)),
        dark=Markup(palette.declarations(palette.DARK)),
        **_content(data),
    )  # fmt: skip


def _content(data: ReportData) -> dict[str, Any]:
    head, pictures = headline(data), _pictures(data)
    views = {name: Markup(picture) for name, picture in plots.trade(data).items()}
    return {
        "data": data,
        "head": head,
        "tiles": _tiles(data, head.subject),
        "pick": head.subject.name if head.subject and head.subject.verdict == "PASS" else "",
        "pictures": pictures,
        "views": views,
        "ledgers": [row for row in data.variants if row.sites],
        "findings": _findings(data, {**pictures, "trade": "".join(views.values())}),
        "ties": pareto.tied_pairs(data, pareto.points(data)),
        "series": [(data.base, "series-0"), *series.legend(data)],
        "colours": series.series_of(data),
        "table": headline_table(data),
        "sweeps": [
            (sweep, sweeps.finding(sweep, data), Markup(picture), sweeps.table(sweep, data))
            for number, sweep in enumerate(sweeps.sweeps(data))
            if (picture := sweeps.picture(sweep, data, number))
        ],
        "sweep_unit": sweeps.unit(data),
        "notes": _notes(data),
        "heat_ends": _heat_ends(data),
        "classifiers": classes.shown(data),
        "classes": classes.table(data),
        "component_key": _component_key(data),
        "prompts": side_by_side(data),
        "writing": [
            (table, writing.finding(table), Markup(writing_bars.bars(table, data)))
            for table in writing.tables(data)
        ],
        "votes": (votes.COLUMNS, votes.rows(data)),
        "facts": [
            (name, entries)
            for name, source in (("Protocol", data.protocol), ("Machine", data.environment))
            if (entries := list(flat(source)))
        ],
    }


def _pictures(data: ReportData) -> dict[str, Markup]:
    """Draw everything; our own SVG is the only markup that is not escaped, its text is."""
    return {
        "layers": Markup(plots.layer_errors(data)),
        "documents": Markup(plots.by_document(data)),
        "components": Markup(plots.components(data)),
        "training": Markup(plots.training(data)),
        "confusion": Markup(classes.confusion(data)),
    }


def _findings(data: ReportData, pictures: Mapping[str, str]) -> dict[str, str]:
    writers = {
        "trade": findings.trade,
        "layers": findings.layers,
        "documents": findings.documents,
        "components": findings.components,
        "training": findings.training,
    }
    found = {name: write(data) for name, write in writers.items() if pictures[name]}
    return {
        **found,
        "numbers": findings.numbers(data),
        "confusion": classes.finding(data),
        "votes": votes.finding(data),
    }


def _tiles(data: ReportData, subject: VariantRow | None) -> list[Tile]:
    if subject is None:
        return []
    base = data.base_row
    sizes = f"{numerals.size(base.bytes_on_disk)} to {numerals.size(subject.bytes_on_disk)}"
    tiles = [
        Tile("smaller on disk", numerals.ratio(base.bytes_on_disk, subject.bytes_on_disk), sizes)
    ]
    loss = subject.delta_bits_per_byte
    if loss is not None:
        places = numerals.places_for(loss, 3)
        note = (
            f"paired, 95{numerals.SPACE}% interval {numerals.interval(loss, places, sign=True)}"
            * loss.has_interval
        )
        tiles.append(Tile("bits per byte lost", numerals.signed(loss.value, places), note))
    if subject.top1 is not None:
        share = numerals.percent(subject.top1.value)
        tiles.append(Tile("same top token", share, f"as {base.name}, position by position"))
    if subject.ms_per_token is not None:
        own = numerals.milliseconds(subject.ms_per_token.value)
        tiles.append(Tile("per token", own, _pace(subject, base)))
    return tiles


def _pace(subject: VariantRow, base: VariantRow) -> str:
    pace = speed(subject, base)
    if not pace or base.ms_per_token is None:
        return ""
    other = numerals.milliseconds(base.ms_per_token.value)
    return f"{'not told apart' if pace == 'alike' else pace}: {base.name} needs {other}"


def _notes(data: ReportData) -> list[str]:
    found = []
    checked = [row for row in data.others if row.verified is not None]
    bad = [row.name for row in checked if not row.verified]
    if checked and not bad:
        count = "The variant was" if len(checked) == 1 else f"All {len(checked)} variants were"
        found.append(f"{count} saved, reloaded in a fresh process and gave bit-equal logits.")
    if bad:
        found.append(f"Not verified after saving: {numerals.listed(bad)}.")
    kernels = sorted({name for row in data.others for name in row.kernel.split(",") if name})
    if kernels:
        found.append(f"Kernels of the quantized weights: {numerals.listed(kernels)}.")
    return found


def _heat_ends(data: ReportData) -> tuple[str, str]:
    scale = heat.scale_of(heat.shown(data))
    low, high = (numerals.share(end) for end in (scale.low, scale.high))
    return low, high


def _component_key(data: ReportData) -> list[tuple[str, str]]:
    present = {k for row in data.variants for k, v in row.components.items() if v > 0}
    return [(name, name) for name in palette.COMPONENTS if name in present]
