"""Tells of Nodes that send each other envelopes without end, while no time passes.

A Node that never rests is found by the ops that it runs in a row. Of Nodes that wake each other by
turns each comes to rest, so whoever carries their envelopes has to count: on a `LocalBus`, and at
one instant of a simulation.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from bb_ir import keys
from bb_ir.wire import PRELUDE_SIZE, read_header, read_prelude
from bb_runtime._told import NO_LIMITS
from bb_runtime.errors import EndlessExchange

if TYPE_CHECKING:
    from bb_ir.errors import SourceLine
    from bb_runtime.artifact import Artifact
    from bb_runtime.node import Node
    from bb_runtime.steps import Ship

__all__ = ["MOST_ENVELOPES", "Exchanges", "note_ship"]

#: So many envelopes at one instant are taken for an exchange without end.
MOST_ENVELOPES: Final = 5_000_000
#: Of the last so many it is said who sent them.
_NOTED: Final = 1_000
#: So many pairs of peers are named.
_NAMED: Final = 4

#: An edge, the sender and the receiver, as people name them.
_Way = tuple[str, str, str]


class Exchanges:
    """Counts envelopes that are carried at one instant.

    Args:
        most: So many are taken for an exchange without end.
        fix: What to do about one.

    Attributes:
        most: The same; it can be set at any time.
    """

    __slots__ = ("_count", "_fix", "_lines", "_ways", "most")

    def __init__(self, most: int, fix: str) -> None:
        self.most = most
        self._fix = fix
        self._count = 0
        self._ways: Counter[_Way] = Counter()
        self._lines: dict[str, SourceLine | None] = {}

    def rest(self) -> None:
        """Begin to count anew: time has passed, or something came to its end."""
        self._count = 0
        if self._ways:
            self._ways.clear()
            self._lines.clear()

    def one_more(self) -> bool:
        """Count one that is to be carried; tells whether to `note` it."""
        self._count += 1
        return self._count > self.most - min(_NOTED, self.most // 2)

    def note(self, artifact: Artifact, way: _Way) -> None:
        """Note on which edge, from whom and to whom the one just counted is.

        Raises:
            EndlessExchange: There were too many; it counts anew then.
        """
        if way[0]:  # else it is word between engines, which follows from the others
            self._ways[way] += 1
            self._lines.setdefault(way[0], _line_of(artifact, way[0]))
        if self._count > self.most:
            error = self._error()
            self.rest()
            raise error

    def _error(self) -> EndlessExchange:
        # Ties by name, so that it is the same in every run.
        ways = sorted(self._ways.items(), key=lambda one: (-one[1], one[0]))[:_NAMED]
        edges = dict.fromkeys(edge for (edge, _, _), _ in ways)
        named = [
            f"{count:,} on {edge!r} from {source} to {to}" for (edge, source, to), count in ways
        ]
        more = len(self._ways) - len(ways)
        if more > 0:
            named.append(f"those of {more:,} more pairs of peers")
        last = f"; of the last {self._ways.total():,}: {', '.join(named)}" if named else ""
        return EndlessExchange(
            f"{self.most:,} envelopes were carried while no time passed{last}",
            expected="Nodes that come to rest, or wait for time to pass",
            fix=self._fix,
            where=tuple(line for edge in edges if (line := self._lines[edge]) is not None),
        )


def note_ship(exchanges: Exchanges, sender: Node, ship: Ship) -> None:
    """Note an envelope that a Node wants sent.

    Raises:
        EndlessExchange: There were too many.
    """
    artifact = sender._engine.artifact  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this package
    head = memoryview(ship.envelope.head)
    told = read_header(read_prelude(head[:PRELUDE_SIZE], NO_LIMITS), head[PRELUDE_SIZE:], NO_LIMITS)
    edge = artifact.edges_by_id.get(told.edge)
    way = ("" if edge is None else edge.name, str(sender.peer), str(ship.to))
    exchanges.note(artifact, way)


def _line_of(artifact: Artifact, edge: str) -> SourceLine | None:
    """Return the user's line that sends on an edge."""
    ops = (op for target in artifact.targets.values() for op in target.ops)
    return next((op.source for op in ops if (op.edge, op.name) == (edge, keys.SEND)), None)
