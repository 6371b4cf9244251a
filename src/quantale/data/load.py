"""From a data expression to documents: corpus names, local files, Hub data sets.

`NAME[#COLUMN][[SPLIT]][[START:STOP]]`, for example `storygen[test][:500]`, `stories.csv#Story`
or `roneneldan/TinyStories[validation]`.
"""

import re
from dataclasses import replace
from pathlib import Path

from quantale.core.errors import DataError, UsageError, nearest
from quantale.core.registry import CORPORA
from quantale.data.documents import Corpus, Documents, Selection, split_documents
from quantale.data.hub_names import HUB_NAMES

__all__ = ["load_documents", "parse_data", "split_documents"]

FILE_KINDS = {
    ".txt": "text",
    ".raw": "text",
    ".jsonl": "text",
    ".csv": "text",
    ".tsv": "text",
    ".parquet": "parquet",
}
"""File ending to the plug-in that reads it."""

_EXPRESSION = re.compile(
    r"(?P<source>.*?)(\[(?P<split>[A-Za-z_]\w*)\])?(\[(?P<start>\d*):(?P<stop>\d*)\])?", re.DOTALL
)


def load_documents(
    data: str, *, split: str = "train", limit: int | None = None, seed: int = 0
) -> Documents:
    """Load the documents that a data expression names; `limit` keeps the first ones.

    `split` is for sources that have splits (`storygen`, the Hub) when the expression names none.
    A local file has none: without brackets it comes whole, with `Documents.split` "all" (see
    `split_documents`); with them, as the part of a contiguous 80/10/10 split.
    Raises UsageError, DataError or HubError before any document is returned.
    """
    parsed = parse_data(data)
    stop = parsed.stop
    if limit is not None:
        if limit < 1:
            raise UsageError(f"the limit of documents must be at least 1, got {limit}")
        stop = parsed.start + limit if stop is None else min(stop, parsed.start + limit)
    selection = replace(parsed, stop=stop, default_split=split, seed=seed)
    corpus: Corpus = CORPORA.get(_kind(selection.name))()
    return corpus.read(selection)


def parse_data(data: str) -> Selection:
    """Parse a data expression without looking at the data; raises UsageError."""
    match = _EXPRESSION.fullmatch(data)
    if match is None or not match["source"] or "\0" in data:
        raise UsageError(f"no data set in {data!r}; write NAME, NAME[train] or FILE.csv#COLUMN")
    name, hash_sign, column = match["source"].rpartition("#")
    if not hash_sign:
        name, column = column, ""
    if not name or (hash_sign and not column) or name.endswith("]"):
        raise UsageError(f"cannot read {data!r}; write NAME[train], NAME[:500] or FILE#COLUMN")
    start, stop = int(match["start"] or 0), match["stop"]
    if stop and int(stop) <= start:
        raise UsageError(f"the range in {data!r} is empty; it ends before it starts")
    return Selection(
        name, column or None, match["split"], start=start, stop=int(stop) if stop else None
    )


def _kind(name: str) -> str:
    """Find the plug-in for a name; raises DataError or UsageError for what none can read."""
    path = Path(name)
    known = [kind for kind in CORPORA.names() if kind not in {*FILE_KINDS.values(), "hub"}]
    if path.suffix.lower() in FILE_KINDS:
        if not path.is_file():
            raise DataError(f"data file {name} does not exist{_neighbour(path)}")
        return FILE_KINDS[path.suffix.lower()]
    if name in known:
        return name
    if path.exists():
        endings = ", ".join(FILE_KINDS)
        raise DataError(f"cannot read {name}: a data file ends in {endings}")
    if name in HUB_NAMES or re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return "hub"
    corpora = sorted({*known, *HUB_NAMES})
    raise UsageError(
        f"{name!r} is no corpus ({', '.join(corpora)}), file or Hub data set (owner/name)"
        f"{nearest(name, corpora)}"
    )


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; the folder {path.parent} does not exist either"
    return nearest(path.name, (entry.name for entry in path.parent.iterdir()))
