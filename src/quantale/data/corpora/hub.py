"""Data sets of the Hugging Face Hub; once loaded, they come from the local cache."""

from collections.abc import Iterator, Mapping
from typing import final

import datasets

from quantale.core.errors import DataError, HubError
from quantale.data.documents import Documents, Selection
from quantale.data.hub_names import HUB_NAMES, HubName
from quantale.data.rows import TEXT_COLUMN, check_column, documents_from


@final
class Hub:
    """Any data set of the Hub with a column of texts."""

    def read(self, selection: Selection) -> Documents:
        """Load one split; raises HubError without network or data set, DataError without column."""
        usual = HubName(selection.name, selection.column or TEXT_COLUMN)
        known = HUB_NAMES.get(selection.name, usual)
        split = selection.split or selection.default_split
        table = _load(known, known.splits.get(split, split))
        column = check_column(selection.column or known.column, table.column_names, selection.name)
        stop = len(table) if selection.stop is None else min(selection.stop, len(table))
        if selection.start >= stop:
            return Documents.collect((), selection.name, split)
        table = table.select(range(selection.start, stop))
        items = documents_from(_rows(table, selection, known), column, f"{selection.name}/{split}")
        return Documents.collect(items, selection.name, split)


def _load(known: HubName, split: str) -> datasets.Dataset:
    try:
        return datasets.load_dataset(known.repository, known.config, split=split)
    except ValueError as error:
        raise DataError(f"{known.repository} cannot give {split!r}: {_line(error)}") from error
    except (OSError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise HubError(
            f"cannot load {known.repository} from the Hub: {_line(error)}; check the name and the"
            " network, or use a local file or `storygen`, which work offline"
        ) from error


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _rows(
    table: datasets.Dataset, selection: Selection, known: HubName
) -> Iterator[tuple[str, Mapping[str, object]]]:
    for number, row in enumerate(table, start=selection.start):
        ours = {name: row[column] for name, column in known.fields.items() if column in row}
        yield f"{selection.name}: row {number}", {**row, **ours}
