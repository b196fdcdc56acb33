"""What a reduction is: parameters, and the one lazy plan that they stand for.

A reduction is data. What is stored of it are its kind and its parameters, from which the plan is
built again; polars' own form of a plan is not, as it differs from version to version. The order of
rows is part of what a plan says, and sums are of whole numbers, so the same trace and the same
parameters give the same tables on any machine and with any number of threads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import polars as pl

__all__ = ["Opened", "Plan", "Reduction", "numbered"]


@dataclass(frozen=True)
class Plan:
    """One lazy plan with several results.

    Attributes:
        tables: Tables by name; all columns are int64.
        names: One column of texts each, whose row numbers stand for them in the tables.
    """

    tables: dict[str, pl.LazyFrame]
    names: dict[str, pl.LazyFrame] = field(default_factory=dict[str, pl.LazyFrame])


@dataclass(frozen=True)
class Opened:
    """A log that was opened and checked.

    Attributes:
        rows: Its rows.
        last_ns: Time of the last one; 0 when it has no times.
    """

    rows: pl.LazyFrame
    last_ns: int = 0


class Reduction(ABC):
    """Makes tables of a recorded log. Implementations are frozen dataclasses."""

    #: By which it is stored.
    kind: ClassVar[str]
    #: Of what its plan is made, in order.
    stages: ClassVar[tuple[str, ...]]

    @abstractmethod
    def open(self, path: Path) -> Opened:
        """Open a log and check it."""

    @abstractmethod
    def settled(self, log: Opened) -> Reduction:
        """Return this reduction with what was left open taken from the log."""

    @abstractmethod
    def plan(self, rows: pl.LazyFrame) -> Plan:
        """Return the plan. It reads nothing yet."""


def numbered(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """Return the different texts of a column, sorted, and their numbers in `<name>_id`."""
    texts = rows.select(name).unique().sort(name).with_row_index(f"{name}_id")
    return texts.with_columns(pl.col(f"{name}_id").cast(pl.Int64))
