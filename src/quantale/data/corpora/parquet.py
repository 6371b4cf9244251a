"""Local Parquet files, in a file of their own because of the import of pyarrow."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import pyarrow
import pyarrow.parquet

from quantale.core.errors import DataError
from quantale.data.documents import WHOLE, Documents, Selection, select
from quantale.data.rows import check_column, documents_from


@final
class Parquet:
    """A `.parquet` file with a column of texts."""

    def read(self, selection: Selection) -> Documents:
        """Read the file; raises DataError for a damaged file or a missing column."""
        path = Path(selection.name)
        try:
            table = pyarrow.parquet.ParquetFile(path).read()
        except (pyarrow.ArrowException, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"cannot read {path} as Parquet: {reason}") from error
        column = check_column(selection.column, table.column_names, str(path))
        items = documents_from(_rows(table, path), column, path.name)
        return select(Documents.collect(items, selection.name, WHOLE), selection)


def _rows(table: pyarrow.Table, path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    try:
        rows = table.to_pylist()
    except (ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"{path}: a value cannot be read: {error}") from error
    for number, row in enumerate(rows):
        yield f"{path}: row {number}", row
