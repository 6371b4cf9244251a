"""The page that a model has on the Hub: measured numbers, how they were measured, how to load it.

Everything on it comes from records of sealed runs. What is not recorded is not said.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quantale.core.errors import UsageError
from quantale.core.recipe_variants import BASE
from quantale.core.records import read_json, read_lines

_METRICS: Final = (
    ("perplexity", "perplexity"),
    ("bits_per_byte", "bits per byte"),
    ("kl_mean", "KL to the base, nats a token"),
    ("top1_agreement", "same first token as the base"),
    ("accuracy", "accuracy"),
    ("macro_f1", "macro F1"),
    ("decode_ms_per_token", "ms a token"),
    ("peak_rss_bytes", "peak memory, bytes"),
)
_PICTURES: Final = (".svg", ".png")
_NAME: Final = re.compile(r"[\w.-]+(/[\w.-]+)?")
_DEPTH: Final = 5
"""Folders above a model in which its run's records are looked for."""
_PROTOCOL: Final = ("protocol", "data", "documents", "tokens", "data_sha256", "tokenizer_sha256")


@dataclass(frozen=True)
class Records:
    """What sealed runs know of a model."""

    name: str
    """What the records call it."""
    base: str | None = None
    """What they call the model that it was compared with."""
    lines: tuple[dict[str, Any], ...] = ()
    """Measurements."""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Form:
    """One form of the model in the repository."""

    kind: str
    """"hf", "bitsandbytes" or "quantale"."""
    revision: str | None
    """Branch, None for the main one."""
    bytes: int
    note: str
    """What the form is and what it measured against the model."""


@dataclass(frozen=True)
class Card:
    """What the page says."""

    repo: str
    task: str
    """"text-generation" or "text-classification"."""
    records: Records
    forms: Sequence[Form]
    base_model: str | None = None
    licence: str | None = None

    def __post_init__(self) -> None:
        for what, value in (("base model", self.base_model), ("licence", self.licence)):
            if value is not None and not _NAME.fullmatch(value):
                raise UsageError(f"{what} {value!r} is no name that the Hub knows")

    def text(self) -> str:
        """Return the page in Markdown with its header in YAML."""
        title = self.repo.rpartition("/")[2]
        parts = [
            self._header(),
            f"# {title}",
            self._what(),
            self._loading(),
            self._numbers(),
            self._pictures(),
            self._made(),
        ]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _header(self) -> str:
        lines = ["---", "library_name: transformers", f"pipeline_tag: {self.task}"]
        if self.licence is not None:
            lines.append(f"license: {json.dumps(self.licence)}")
        if self.base_model is not None:
            lines.append(f"base_model: {json.dumps(self.base_model)}")
        return "\n".join([*lines, "tags:", "- quantale", "---"])

    def _what(self) -> str:
        base = f"Made from `{self.base_model}`." if self.base_model else "Its base is not recorded."
        licence = f"Licence: {self.licence}." if self.licence else "No licence was stated."
        method = self.records.summary.get("method")
        made = f" Quantized with `{method}`." if method else ""
        return f"{base}{made} {licence}"

    def _loading(self) -> str:
        rows = ["## How to load it"]
        for form in self.forms:
            rows += [f"**{form.kind}** ({form.bytes:,} bytes of weights): {form.note}", ""]
            rows += ["```python", *_code(self.repo, self.task, form), "```", ""]
        return "\n".join(rows).rstrip()

    def _numbers(self) -> str:
        own = {line["metric"]: line for line in self.records.lines if self._is(line, "name")}
        base = {line["metric"]: line for line in self.records.lines if self._is(line, "base")}
        found = [(label, own[key], base.get(key)) for key, label in _METRICS if key in own]
        if not found:
            return "## Measured\n\nNo measurements were recorded beside this model."
        rows = ["## Measured", "", "| | base | this model | 95 % interval | n |"]
        rows.append("|---|---|---|---|---|")
        for label, line, other in found:
            interval = "-"
            if line.get("ci_low") is not None:
                interval = f"{_number(line['ci_low'])} to {_number(line['ci_high'])}"
            before = "-" if other is None else _number(other["value"])
            cells = (label, before, _number(line["value"]), interval, line["n"])
            rows.append("| " + " | ".join(map(str, cells)) + " |")
        rows += ["", self._verdict(), self._protocol()]
        return "\n".join(rows).rstrip()

    def _is(self, line: Mapping[str, Any], which: str) -> bool:
        return bool(line.get("model") == getattr(self.records, which))

    def _verdict(self) -> str:
        found = self.records.verdict
        if not found:
            return ""
        return f"Verdict against the base: **{found['verdict']}**.\n"

    def _protocol(self) -> str:
        protocol = self.records.protocol
        said = [f"{key}: `{_public(protocol[key])}`" for key in _PROTOCOL if key in protocol]
        return "Protocol: " + ", ".join(said) + "." if said else ""

    def _pictures(self) -> str:
        if not self.records.pictures:
            return ""
        found = (f"![{path.stem}]({path.name})" for path in self.records.pictures)
        return "## Plots\n\n" + "\n".join(found)

    def _made(self) -> str:
        summary = self.records.summary
        rows = ["## How it was made"]
        rows += [
            f"- {key.replace('_', ' ')}: `{_public(summary[key])}`"
            for key in ("methods", "bits_per_weight", "bytes_on_disk", "calibration")
            if summary.get(key) is not None
        ]
        if len(rows) == 1:
            return ""
        return "\n".join([rows[0], "", *rows[1:]])


def records_of(folder: Path, results: Path | None) -> Records:
    """Return what is recorded of a model: in its own folder, and around it or where asked.

    results: a run folder or a file of measurements. Raises DataError for damaged records.
    """
    summary = _json(folder / "summary.json")
    place = results or _around(folder)
    if place is None:
        return Records(folder.name, summary=summary)
    if place.is_file():
        lines = tuple(line for line in read_lines(place) if "metric" in line)
        return Records(_own_name(folder, lines), _base(lines), lines, summary=summary)
    lines = tuple(
        line
        for part in ("evaluate", "bench", ".")
        if (place / part / "results.jsonl").is_file()
        for line in read_lines(place / part / "results.jsonl")
    )
    name = _own_name(folder, lines)
    verdicts = _json(place / "compare" / "verdicts.json").get("pairs", [])
    verdict: dict[str, Any] = next((pair for pair in verdicts if pair.get("other") == name), {})
    return Records(
        name,
        verdict.get("base") or _base(lines),
        lines,
        _json(place / "evaluate" / "protocol.json") or _json(place / "protocol.json"),
        verdict,
        summary,
        tuple(
            path
            for part in (place, place / "compare")
            for path in sorted(part.glob("*"))
            if path.suffix in _PICTURES
        ),
    )


def _around(folder: Path) -> Path | None:
    """Return the run in which a model lies, if its measurements are there."""
    places = [folder, *folder.resolve().parents][:_DEPTH]
    marks = ("evaluate/results.jsonl", "results.jsonl")
    return next((p for p in places if any((p / mark).is_file() for mark in marks)), None)


def _own_name(folder: Path, lines: Sequence[Mapping[str, Any]]) -> str:
    """Return what measurements call a model; the folder's name where they do not know it."""
    names = list(dict.fromkeys(str(line["model"]) for line in lines))
    parts = folder.resolve().parts
    if parts[-2:] == ("train", "model") and BASE in names:
        return BASE
    known = [name for name in names if name.split("/")[-1] in parts[-2:]]
    return known[0] if known else names[0] if len(names) == 1 else folder.name


def _base(lines: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the model that has no divergence while others have: the base."""
    compared = {line["model"] for line in lines if line["metric"] == "kl_mean" and line["value"]}
    zero = [line["model"] for line in lines if line["metric"] == "kl_mean" and not line["value"]]
    return str(zero[0]) if compared and zero else None


def _json(path: Path) -> dict[str, Any]:
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def _public(value: Any) -> str:
    """Return a value without folders of the machine that it was measured on, in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_public(one)}" for key, one in value.items())
    text = str(value).replace("`", "'").replace("\n", " ")
    return re.sub(r"(?:~|\.{0,2})/(?:[^\s/]+/)+", "", text)


def _code(repo: str, task: str, form: Form) -> list[str]:
    """Return the Python that loads a form."""
    revision = "" if form.revision is None else f', revision="{form.revision}"'
    needs = {
        "quantale": ["import quantale  # pip install quantale"],
        "bitsandbytes": ["# pip install transformers accelerate bitsandbytes"],
        "hf": ["# pip install transformers"],
    }[form.kind]
    return [
        *needs,
        "from transformers import pipeline",
        "",
        f'pipe = pipeline("{task}", model="{repo}"{revision})',
        'print(pipe("Once upon a time"))',
    ]
