"""Score quantized copies of one model on the same documents, and rank them by file size.

    python -m benchmarks.quality MODEL VARIANTS --data "stories.txt[:100]"

VARIANTS holds one folder a variant, as `benchmarks.real` makes them. Writes `results.jsonl`
(one line a variant), `documents.jsonl` and `table.md` there, and prints the table.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.ranking import Row, markdown
from quantale.core.records import Measurement, read_json, write_lines
from quantale.data.documents import Documents
from quantale.data.load import load_documents
from quantale.evaluation.language import LanguageSettings, score
from quantale.evaluation.scores import DocumentScore, by_model, column
from quantale.evaluation.summary import measurements
from quantale.models.load import load

BASE = "base"
_AT_ONCE = 8


@dataclass(frozen=True)
class Scored:
    """What all variants scored on the same documents."""

    scores: Mapping[str, Sequence[DocumentScore]]
    """By variant, the base under its own name."""
    protocol: str


def main() -> None:
    """Score, rank, write and print."""
    asked = _arguments()
    documents = load_documents(asked.data, split="test", limit=asked.documents)
    print(evaluate(asked.model, asked.variants, documents, LanguageSettings(cut=asked.cut)))


def evaluate(model: Path, variants: Path, documents: Documents, settings: LanguageSettings) -> str:
    """Write the results of every variant folder and return the table as Markdown."""
    folders = [one.parent for one in sorted(variants.glob("*/result.json"))]
    found = score_folders(model, folders, documents, settings)
    rows = [_row(folder, found) for folder in folders]
    failed = {
        path.parent.name: path.read_text(encoding="utf-8").strip()
        for path in sorted(variants.glob("*/error.txt"))
    }
    of_base = {one.metric: one for one in _measured(BASE, found)}
    head = (
        f"{model.name}: {len(documents)} documents of {documents.source}, {found.protocol}; "
        f"perplexity in full precision {of_base['perplexity'].value:.4f}."
    )
    table = markdown(rows, failed, head)
    write_lines(variants / "results.jsonl", [_record(row) for row in rows])
    kept = [one.record() for own in found.scores.values() for one in own]
    write_lines(variants / "documents.jsonl", kept)
    (variants / "table.md").write_text(table, encoding="utf-8")
    return table


def score_folders(
    model: Path, folders: Sequence[Path], documents: Documents, settings: LanguageSettings
) -> Scored:
    """Score all folders against the model, a few in memory at a time."""
    base = load(model)
    scores: dict[str, Sequence[DocumentScore]] = {}
    protocol = ""
    for start in range(0, len(folders), _AT_ONCE):
        some = folders[start : start + _AT_ONCE]
        models = {BASE: base.model} | {one.name: load(one / "model").model for one in some}
        found = score(models, base.tokenizer, documents, settings, BASE)
        protocol = found.protocol
        scores |= by_model(replace(one, kl_tokens=None) for one in found.documents)
    return Scored(scores, protocol)


def _row(folder: Path, found: Scored) -> Row:
    result: dict[str, Any] = read_json(folder / "result.json")
    numbers = {one.metric: one for one in _measured(folder.name, found)}
    own = found.scores[folder.name]
    return Row(
        name=folder.name,
        result=result,
        kl=numbers["kl_mean"],
        perplexity=numbers["perplexity"],
        top1=numbers["top1_agreement"],
        kl_sums=column(own, "kl_sum"),
        tokens=column(own, "tokens"),
    )


def _measured(name: str, found: Scored) -> list[Measurement]:
    return measurements(found.scores[name], found.protocol)


def _record(row: Row) -> dict[str, Any]:
    numbers = {one.metric: asdict(one) for one in (row.kl, row.perplexity, row.top1)}
    return {"name": row.name, **row.result, "measurements": json.loads(json.dumps(numbers))}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("variants", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--documents", type=int, default=100, help="the first ones")
    parser.add_argument("--cut", type=int, help="only the first so many tokens of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
