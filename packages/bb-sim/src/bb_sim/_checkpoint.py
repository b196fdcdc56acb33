"""A whole simulation as bytes, to go on from in another process.

A checkpoint is taken between two events. Every peer first looks at what it has put off, which
changes nothing but when Nodes run; then each Node writes its snapshot, and the queue, what is on
its way, the counters of the world and all that was recorded go beside it. Envelopes are written as
bytes, and are delivered so afterwards. A simulation that goes on from a checkpoint ends like one
that never stopped: the same figures, parameters and digest.

This module writes and reads; when that is possible is `Simulation`'s to say.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, cast

from bb_ir.dump import dump, load
from bb_ir.errors import BytesAndBrainsError, DumpError
from bb_ir.ids import PeerId
from bb_ir.wire import Built
from bb_runtime import Deferred, Node, Referred, Ship
from bb_sim._events import Events
from bb_sim._lives import Lives
from bb_sim._peer import Letter, Lost, Peer
from bb_sim._recorder import Recorder
from bb_sim._rounds import Rounds
from bb_sim._world import World
from bb_sim.errors import BadCheckpoint
from bb_sim.results import Output, Round, Span

__all__ = ["Parts", "read", "write"]

_VERSION = 2
Table = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """What a checkpoint is made of, and what it is put back into."""

    world: World
    lives: Lives
    rounds: Rounds


def write(parts: Parts, told: int) -> bytes:
    """Return a simulation as bytes; `told` is how many rounds were reported."""
    packer = _Packer()
    world, lives = parts.world, parts.lives
    tables = {
        "what": _what(world),
        "told": told,
        "events": packer.events(world.events),
        "peers": [packer.peer(peer) for _, peer in sorted(lives.peers.items())],
        "lives": lives.state(),
        "rounds": parts.rounds.state(),
        "recorder": _recorded(world.recorder),
    }
    return dump(tables)


def read(parts: Parts, data: bytes | memoryview) -> int:
    """Put a simulation that did nothing yet into the state of a checkpoint.

    Returns:
        How many rounds were reported.

    Raises:
        BadCheckpoint: It is damaged, or of another simulation.
    """
    try:
        tables = load(data)
        what = tables["what"]
    except (DumpError, KeyError, TypeError, IndexError) as error:
        raise BadCheckpoint(
            f"it is no checkpoint, or damaged: {error}",
            expected="what Simulation.checkpoint returned",
            fix="begin anew, without it",
        ) from error
    _check(what, _what(parts.world))
    try:
        return _put_back(parts, tables)
    except (LookupError, TypeError, ValueError, AttributeError, BytesAndBrainsError) as error:
        raise BadCheckpoint(
            f"it cannot be put back: {type(error).__name__}: {error}",
            expected="the components and the configuration with which it was taken",
            fix="run it with the packages of that time, or begin anew, without it",
        ) from error


def _put_back(parts: Parts, tables: Table) -> int:
    world, lives = parts.world, parts.lives
    told = int(tables["told"])
    lives.load(tables["lives"])
    parts.rounds.load(tables["rounds"])
    lives.peers.clear()
    for row in tables["peers"]:
        _unpack_peer(parts, row)
    _unpack_events(world.events, tables["events"])
    parts.rounds.go_on(lives.peers)
    _unpack_recorder(world.recorder, tables["recorder"])
    return told


def _what(world: World) -> Table:
    """Return what a checkpoint belongs to."""
    scenario = repr(dataclasses.replace(world.scenario, rounds=None, until=""))
    return {
        "version": _VERSION,
        "program": world.artifact.program,
        "hashes": dict(world.artifact.hashes),
        "scenario": hashlib.sha256(scenario.encode()).hexdigest(),
    }


_MEANS = {
    "version": "the version of this package",
    "program": "the program",
    "hashes": "the components and their configuration",
    "scenario": "the scenario",
}


def _check(found: Table, expected: Table) -> None:
    for name, value in expected.items():
        if found.get(name) != value:
            raise BadCheckpoint(
                f"it was taken of something else: {_MEANS[name]} differs",
                expected="the same program, components and scenario; more rounds are fine",
                fix="go on with what it was taken of, or begin anew, without it",
            )


# --- peers -----------------------------------------------------------------------------------

_PLAIN = ("round", "floor", "busy", "due", "wake", "invoke_at", "worked")


class _Packer:
    """Turns letters into tables; the bytes of one that many refer to are written once."""

    def __init__(self) -> None:
        self._letters: dict[int, tuple[Letter, Table]] = {}

    def events(self, events: Events) -> Table:
        entries = [
            [*entry[:7], None if entry[7] is None else self.given(entry[7])]
            for entry in sorted(events.heap, key=lambda entry: entry[:7])
        ]
        return {"now": events.now_ns, "serial": events.serial, "entries": entries}

    def peer(self, peer: Peer) -> Table:
        row: Table = {name: getattr(peer, name) for name in _PLAIN}
        row |= {
            "number": peer.number,
            "life": peer.life,
            "chain": peer.chain.state,
            "sent": list(peer.sent.items()),
            "free": list((peer.free or {}).items()),
            "met": sorted(peer.met),
            "backlog": [self.given(one) for one in peer.backlog or ()],
            "held": [
                [n, [self.given(one) for one in line]] for n, line in (peer.held or {}).items()
            ],
            "readable": [list(one) for one in peer.readable or ()],
            "works": [[due, number, _key(work)] for due, number, work in sorted(peer.works or ())],
            "deceit": None if peer.deceit is None else self._deceit(peer),
            "node": None if peer.node is None else [peer.node.now_ns, peer.node.snapshot()],
        }
        return row

    def given(self, given: Letter | Lost) -> Table:
        known = self._letters.get(id(given))
        if known is not None:
            return known[1]
        if isinstance(given, Lost):
            return {"lost": _ship(given.ship), "round": given.round, "life": given.life}
        table = given._asdict()
        table["envelope"] = self._envelope(given.envelope)
        table["ship"] = _ship(given.ship)
        self._letters[id(given)] = given, table
        return table

    def _deceit(self, peer: Peer) -> Table:
        assert peer.deceit is not None
        said, before = peer.deceit.state
        return {"said": said, "before": None if before is None else self._envelope(before)}

    @staticmethod
    def _envelope(envelope: Built | Referred) -> list[Any]:
        return [
            bytes(envelope.head),
            [bytes(segment) for segment in envelope.segments],
            envelope.payload_length,
        ]


def _key(work: Deferred) -> list[Any]:
    """Return what names a piece of work that a restored Node hands out again."""
    return [work.target, work.op, work.slot, *work.frame]


def _ship(ship: Ship) -> list[Any]:
    return [ship.to, ship.message_id]


def _unpack_ship(packed: list[Any]) -> Ship:
    to, number = packed
    if not isinstance(to, PeerId):
        raise TypeError(f"{to!r} is no peer")
    return Ship(to, Built(b"", (), 0), int(number))  # only who and which matters any more


def _unpack_envelope(packed: list[Any]) -> Built:
    head, segments, length = packed
    views = tuple(memoryview(bytes(one)).toreadonly() for one in segments)
    return Built(bytes(head), views, int(length))


def _unpack_given(packed: Table) -> Letter | Lost:
    if "lost" in packed:
        return Lost(_unpack_ship(packed["lost"]), int(packed["round"]), int(packed["life"]))
    fields = dict(packed)
    fields["envelope"] = _unpack_envelope(packed["envelope"])
    fields["ship"] = _unpack_ship(packed["ship"])
    return Letter(**fields)


def _unpack_letter(packed: Table) -> Letter:
    found = _unpack_given(packed)
    if not isinstance(found, Letter):
        raise TypeError("word of a lost envelope stands where an envelope should")
    return found


def _unpack_peer(parts: Parts, row: Table) -> None:
    peer = parts.lives.peer(int(row["number"]))
    if peer.life != row["life"]:
        raise ValueError(f"peer {peer.number} lives its life {row['life']}, not {peer.life}")
    for name in _PLAIN:
        setattr(peer, name, int(row[name]))
    peer.chain.state = bytes(row["chain"])
    peer.sent = {int(to): int(count) for to, count in row["sent"]}
    peer.free = {int(to): int(when) for to, when in row["free"]}
    peer.met = set(map(int, row["met"]))
    peer.backlog = deque(map(_unpack_given, row["backlog"])) or None
    peer.held = {int(n): deque(map(_unpack_letter, line)) for n, line in row["held"]}
    peer.readable = deque((int(when), int(source)) for when, source in row["readable"]) or None
    if peer.deceit is not None:
        before = row["deceit"]["before"]
        known = None if before is None else _unpack_envelope(before)
        peer.deceit.state = (int(row["deceit"]["said"]), known)
    if row["node"] is not None:
        now, snapshot = row["node"]
        peer.node = parts.lives.restored(peer, int(now), snapshot)
        peer.works = _works_again(peer.node, row["works"])


def _works_again(node: Node, rows: list[Any]) -> list[tuple[int, int, Deferred]]:
    """Take the work that was under way from the Node again, to be done when it was to be."""
    if not rows:
        return []
    steps = [step for step in node.poll() if isinstance(step, Deferred)]
    works: list[tuple[int, int, Deferred]] = []
    for due, number, key in rows:
        found = next(step for step in steps if _key(step) == key)
        steps.remove(found)
        works.append((int(due), int(number), found))
    return works


# --- the rest --------------------------------------------------------------------------------


def _unpack_events(events: Events, packed: Table) -> None:
    entries = [
        (*map(int, entry[:7]), None if entry[7] is None else _unpack_given(entry[7]))
        for entry in packed["entries"]
    ]
    events.replace(int(packed["now"]), int(packed["serial"]), cast("list[Any]", entries))


def _recorded(recorder: Recorder) -> Table:
    return {
        "rounds": [_round(one) for one in recorder.rounds.values()],
        "spans": [[n, [list(one) for one in spans]] for n, spans in recorder.spans.items()],
    }


def _round(one: Round) -> Table:
    row: Table = {}
    for field in dataclasses.fields(one):
        value: Any = getattr(one, field.name)
        row[field.name] = dict(cast("Counter[str]", value)) if _counts(value) else value
    row["outputs"] = [
        {
            "name": name,
            "count": output.count,
            "last": output.last,
            "sums": [[key, *total.as_integer_ratio()] for key, total in output.sums.items()],
            "counts": dict(output.counts),
            "least": dict(output.least),
            "most": dict(output.most),
        }
        for name, output in one.outputs.items()
    ]
    return row


def _counts(value: object) -> bool:
    return isinstance(value, Counter)


def _unpack_recorder(recorder: Recorder, packed: Table) -> None:
    rounds = [_unpack_round(row) for row in packed["rounds"]]
    recorder.rounds = {one.number: one for one in rounds}
    recorder.show({int(n): [Span(*one) for one in spans] for n, spans in packed["spans"]})


def _unpack_round(row: Mapping[str, Any]) -> Round:
    one = Round(int(row["number"]))
    for field in dataclasses.fields(one):
        value: Any = row[field.name]
        if _counts(getattr(one, field.name)):
            value = Counter[str](value)
        setattr(one, field.name, value)
    one.outputs = {
        str(o["name"]): Output(
            o["count"], o["last"],
            {key: Fraction(above, below) for key, above, below in o["sums"]},
            dict(o["counts"]), dict(o["least"]), dict(o["most"]),
        )
        for o in row["outputs"]
    }  # fmt: skip
    return one
