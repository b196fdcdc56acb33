"""Reads rows of chosen columns from a parquet file, a piece of a row group at a time.

This module knows columns and row groups and turns pyarrow's errors into ours; it knows nothing of
components, clients and batches. No file is kept open: each stream opens its own and closes it when
it ends. pyarrow is imported when a file is opened.

Source: the Apache Parquet format, "File format" and "Metadata": a footer tells the columns, and of
each row group the number of its rows and, of each of its columns, perhaps the number of nulls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bb_datasource_parquet.errors import ColumnMismatch, FileUnreadable, UnusableValue
from bb_ir.errors import did_you_mean

__all__ = ["Columns", "Table"]

Tensor = NDArray[Any]
Piece = tuple[Tensor, Tensor]

#: Rows that are decoded at a time.
PIECE = 4096
#: Bytes that are read ahead of each column; without it pyarrow reads a column's whole row group.
_BUFFER = 1 << 16
#: Columns that an error lists.
_SHOWN = 20


@dataclass(frozen=True)
class Columns:
    """What is read of a file.

    Attributes:
        features: Names of the columns of the inputs, in order; none for all but the label.
        label: Name of the column of the targets.
        dtype: Of the inputs.
        label_dtype: Of the targets.
    """

    features: tuple[str, ...]
    label: str
    dtype: str
    label_dtype: str


class Table:
    """The columns of one parquet file, opened and checked.

    Args:
        path: The file.
        columns: What is read of it.

    Attributes:
        features: Names of the columns of the inputs.
        groups: Number of rows of each row group.
        fingerprint: Tells this file from others, by what its footer says of its parts.

    Raises:
        FileUnreadable: There is no such file, or it is no parquet file.
        ColumnMismatch: A column is missing, there twice, or of a type that does not fit.
        UnusableValue: The file says itself that a column holds nulls.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        self.path = path
        self._columns = columns
        with self._open() as file:
            self.features = _check_columns(path, file.schema_arrow, columns)
            self.groups = _group_sizes(file)
            self.fingerprint = _fingerprint(file)
            _check_null_counts(path, file, (*self.features, columns.label))

    def pieces(self, order: list[int]) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Yield (row group, first row in it, inputs (n, features), targets (n,)).

        Each of the row groups in `order` comes whole, in pieces of at most `PIECE` rows.

        Raises:
            FileUnreadable: The file is damaged, or another one than when it was opened.
            UnusableValue: A value is null, not finite, or beyond its dtype.
        """
        names = [*self.features, self._columns.label]
        with self._open() as file:
            if _fingerprint(file) != self.fingerprint:
                raise FileUnreadable(
                    f"the file {self.path!r} was replaced while it was in use",
                    expected="the file that was there when the source was built",
                    fix="keep the file as it is during a run, or build the source anew",
                )
            for group in order:
                start = 0
                for read in file.iter_batches(
                    PIECE, row_groups=[group], columns=names, use_threads=False
                ):
                    x, y = self._convert(read, f"row group {group}, rows from {start} on")
                    yield group, start, x, y
                    start += len(y)

    def _convert(self, read: Any, where: str) -> Piece:
        columns = self._columns
        x = np.empty((read.num_rows, len(self.features)), columns.dtype)
        for at, name in enumerate(self.features):
            x[:, at] = self._values(read, name, columns.dtype, where)
        return x, self._values(read, columns.label, columns.label_dtype, where)

    def _values(self, read: Any, name: str, dtype: str, where: str) -> Tensor:
        array = read.column(read.schema.get_field_index(name))
        place = (f"column {name!r} of {self.path!r}", where)
        if array.null_count:
            raise UnusableValue(
                f"the column {name!r} holds {array.null_count} nulls",
                expected="a value in every row",
                fix="drop or fill these rows before the file is written",
                where=place,
            )
        found: Tensor = array.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore", invalid="ignore"):  # found below
            made = found.astype(dtype)
        fits = np.isfinite(made) if made.dtype.kind == "f" else made.astype(found.dtype) == found
        # 2**64 - 1 becomes -1 and back, so a sign that was not there tells, too.
        if made.dtype.kind == "i" and found.dtype.kind == "u":
            fits &= made >= 0
        if not fits.all():
            raise UnusableValue(
                f"the column {name!r} holds {found[~fits][0]}",
                expected=f"finite numbers that {dtype} can hold",
                fix="drop or fill such rows before the file is written",
                where=place,
            )
        return made

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """Open the file and turn what pyarrow raises meanwhile into our errors."""
        lib, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        try:
            with parquet.ParquetFile(self.path, buffer_size=_BUFFER) as file:
                yield file
        except OSError as error:
            missing = not Path(self.path).exists()
            why = "there is no such file" if missing else str(error)
            fix = f"check the path; it is looked up from {Path.cwd()}" if missing else ""
            raise self._unreadable(why, fix) from error
        except lib.ArrowException as error:
            raise self._unreadable(str(error), "") from error

    def _unreadable(self, why: str, fix: str) -> FileUnreadable:
        return FileUnreadable(
            f"the file {self.path!r} cannot be read: {why}",
            expected="a whole parquet file",
            fix=fix or "write it anew",
        )


def _group_sizes(file: Any) -> list[int]:
    footer = file.metadata
    return [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]


def _fingerprint(file: Any) -> str:
    """Return a digest of what the footer tells of columns, row groups and their statistics."""
    footer = file.metadata
    parts = [str(file.schema_arrow)]
    for group in map(footer.row_group, range(footer.num_row_groups)):
        parts.append(str(group.num_rows))
        parts += [_described(group.column(i)) for i in range(group.num_columns)]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _described(column: Any) -> str:
    told = column.statistics
    bounds = (told.min_raw, told.max_raw) if told is not None and told.has_min_max else ()
    return f"{column.path_in_schema} {column.total_compressed_size} {bounds}"


def _check_columns(path: str, schema: Any, columns: Columns) -> tuple[str, ...]:
    """Return the names of the inputs' columns, all of which are there once and fit."""
    names: list[str] = list(schema.names)
    features = columns.features or tuple(name for name in names if name != columns.label)
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    for name in (*features, columns.label):
        if names.count(name) != 1:
            raise ColumnMismatch(
                f"the file {path!r} has {names.count(name) or 'no'} columns {name!r}",
                expected=f"one, and it has {listed or 'none at all'}",
                fix=did_you_mean(name, set(names) - {name}) or "correct features or label",
            )
    if not features:
        raise ColumnMismatch(
            f"the file {path!r} has no column but {columns.label!r}",
            expected="at least one column of inputs",
        )
    for name in features:
        _check_type(path, schema.field(name), columns.dtype)
    _check_type(path, schema.field(columns.label), columns.label_dtype)
    return features


def _check_type(path: str, field: Any, dtype: str) -> None:
    types = import_module("pyarrow").types
    whole = types.is_integer(field.type) or types.is_boolean(field.type)
    if whole or (types.is_floating(field.type) and np.dtype(dtype).kind == "f"):
        return
    wanted = "whole numbers" if np.dtype(dtype).kind == "i" else "numbers"
    raise ColumnMismatch(
        f"the column {field.name!r} of {path!r} holds {field.type}",
        expected=f"{wanted}, to be read as {dtype}",
        fix="name the columns of numbers in features and label, or convert it before it is written",
    )


def _check_null_counts(path: str, file: Any, names: tuple[str, ...]) -> None:
    """Refuse nulls that the footer tells of; not every writer counts them."""
    footer = file.metadata
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        for column in map(group.column, range(group.num_columns)):
            told = column.statistics
            count = told.null_count if told is not None and told.has_null_count else 0
            if count and column.path_in_schema in names:
                raise UnusableValue(
                    f"the column {column.path_in_schema!r} holds {count} nulls",
                    expected="a value in every row",
                    fix="drop or fill these rows before the file is written",
                    where=(f"column {column.path_in_schema!r} of {path!r}", f"row group {index}"),
                )
