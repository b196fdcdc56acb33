"""Which ranks need which bucket of a swap, for `bb plan swap --groups`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bytesandbrains.cli._errors import MOST_SHOWN
from bytesandbrains.cli._sizes import size

if TYPE_CHECKING:
    from bb_ir.plan import Plan
    from bb_plans.groups import Distribution, Split

__all__ = ["RankUse", "read_split"]

#: Most ranks that are listed one by one.
_LISTED = 8


def read_split(file: Path) -> Split:
    """Read how a model is split among ranks: a TOML or JSON file with the fields of a `Split`.

    Raises:
        BadConfigFile: It cannot be read.
        RanksUnfit: What it says does not fit together.
    """
    import msgspec

    from bb_ir.errors import closest
    from bb_plans.errors import RanksUnfit
    from bb_plans.groups import Split
    from bytesandbrains.cli._config import read_config

    found = read_config(file)
    known = [one.name for one in fields(Split)]
    for name in found:
        if name not in known:
            near = closest(name, known)
            raise RanksUnfit(
                f"{name!r} says nothing of ranks",
                expected=", ".join(known),
                fix=f"did you mean {near!r}?" if near else "remove it",
                where=str(file),
            )
    try:  # keys of TOML and JSON are texts, also those that name groups
        made: Split = msgspec.convert(found, Split, strict=False)
    except msgspec.ValidationError as error:
        own = error.__cause__
        told, expected, fix = str(error), "", "correct it"
        if isinstance(own, RanksUnfit):
            told, expected, fix = own.found, own.expected, own.fix
        raise RanksUnfit(told, expected=expected, fix=fix, where=str(file)) from error
    return made


class RankUse:
    """Who needs what of a plan, where that is asked for.

    Args:
        file: How the model is split; `None` for a model that is not.
    """

    def __init__(self, file: Path | None) -> None:
        self._split = None if file is None else read_split(file)
        self._name = ""
        self._told: Distribution | None = None

    def look_at(self, plan: Plan) -> None:
        """Find out who needs what of a plan.

        Raises:
            RanksUnfit: A bucket cannot be for those that it would be for.
        """
        from bb_plans.groups import distribute

        if self._split is not None and plan.swap is not None:
            self._name, self._told = plan.swap.plan_id, distribute(plan.swap, self._split)

    def facts(self) -> dict[str, Any]:
        """Return who needs what, for JSON; nothing where it was not asked for."""
        split, told = self._split, self._told
        if split is None or told is None:
            return {}
        everybody = list(range(split.world))
        buckets = [
            {
                "lane": one.lane, "ops": one.ops, "nbytes": one.nbytes,
                "ranks": everybody if one.ranks is None else list(one.ranks),
            }
            for one in told.buckets
        ]  # fmt: skip
        return {
            "ranks": {
                "world": split.world,
                "groups": {str(name): list(ranks) for name, ranks in split.groups.items()},
                "rank_bytes": list(told.rank_bytes),
                "buckets": buckets,
                "warnings": list(told.warnings),
            }
        }

    def print(self) -> None:
        """Print who needs what: the buckets, then how much each rank gets, then what is odd."""
        split, told = self._split, self._told
        if split is None or told is None:
            return
        _table(
            ["bucket", "ops", "size", "for ranks"],
            [
                (one.lane or "-", f"{one.ops:,}", size(one.nbytes), _ranks(one.ranks, split.world))
                for one in told.buckets
            ],
        )
        alike: dict[int, list[int]] = {}
        for rank, nbytes in enumerate(told.rank_bytes):
            alike.setdefault(nbytes, []).append(rank)
        _table(["ranks", "get"], [(_ranks(r, 0), size(nbytes)) for nbytes, r in alike.items()])
        if told.warnings:
            _table(["warning"], [(one,) for one in told.warnings])

    def draw(self, file: Path) -> None:
        """Write the picture of who needs what.

        Raises:
            CannotWrite: The file cannot be written.
        """
        from bb_plans.pictures import draw_ranks
        from bytesandbrains._files import write_atomically

        assert self._told is not None, "pictures need --groups"
        kind: Literal["png", "svg"] = "svg" if file.suffix.lower() == ".svg" else "png"
        write_atomically(file, draw_ranks(self._told, self._name, kind))


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table of which the first rows are enough."""
    from rich.markup import escape

    from bytesandbrains.cli._screen import Screen, table

    screen, shown = Screen(), rows[:MOST_SHOWN]
    screen.print()
    screen.print(table(columns, [tuple(map(escape, row)) for row in shown]))
    if len(rows) > len(shown):
        screen.print(f"... and {len(rows) - len(shown):,} more; --json has all of them")


def _ranks(ranks: Sequence[int] | None, world: int) -> str:
    """Return ranks as people write them: `0-3, 6`."""
    if ranks is None or len(ranks) == world > 1:
        return "all"
    runs: list[list[int]] = []
    for rank in sorted({*ranks}):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    told = [str(a) if a == b else f"{a}-{b}" for a, b in runs]
    more = f" and {len(told) - _LISTED} more runs" if len(told) > _LISTED else ""
    return ", ".join(told[:_LISTED]) + more or "none"
