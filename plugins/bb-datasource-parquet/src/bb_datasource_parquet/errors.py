"""What the parquet source refuses. This module must not import pyarrow."""

from bb_roles.data import DataError

__all__ = ["ColumnMismatch", "FileUnreadable", "UnusableValue"]


class FileUnreadable(DataError):
    """A file is missing, is no parquet file, is damaged, or is not the one that was opened first.

    Met when the source is built, and while its batches are read. Check the path, or write the
    file anew; restart a run whose file was replaced.
    """


class ColumnMismatch(DataError):
    """A parquet file lacks a column, has it twice, or holds another kind of values in it.

    Met when the source is built. Correct `features`, `label` or the dtypes; the error lists the
    columns that there are.
    """


class UnusableValue(DataError):
    """A column of a parquet file holds a null, or a number that its dtype cannot hold.

    Met when the source is built, if the file's statistics tell of nulls, and else when the value
    is read. Drop or fill such rows before the file is written.
    """
