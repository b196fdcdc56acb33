"""What traces and their reductions refuse. This module must not import polars."""

from bb_roles.data import DataError

__all__ = [
    "ReductionDamaged",
    "TablesDiffer",
    "TraceLineMalformed",
    "TraceMismatch",
    "TraceRowInvalid",
    "TraceUnreadable",
]


class TraceUnreadable(DataError):
    """A trace is missing, is no parquet or Arrow file, is damaged, or is not the one expected.

    Met when a trace is opened, and when a reduction is replayed. Check the path; replay with the
    very file that was reduced.
    """


class TraceMismatch(DataError):
    """A trace lacks a column, or holds another kind of values in it.

    Met when a trace is opened. Rename or convert the column before the file is written; the error
    lists the columns that there are.
    """


class TraceRowInvalid(DataError):
    """A row of a trace cannot be: it holds a null, a negative number, or comes too early.

    Met when a trace is opened or written; the error names the row and the column. Drop such rows,
    and sort a trace by `ts_ns`.
    """


class TraceLineMalformed(DataError):
    """A line of a foreign trace is not what its format says.

    Met when a trace is imported; the error names the line, and nothing is written. Mend the line
    or leave it out.
    """


class ReductionDamaged(DataError):
    """What was stored of a reduction is missing, unreadable, or not what its record says.

    Met when tables are read or replayed. Reduce the trace again.
    """


class TablesDiffer(DataError):
    """A reduction that was done again gave other tables than the first time.

    Met when tables are replayed. The error names the tables, and the versions of the libraries
    if they changed.
    """
