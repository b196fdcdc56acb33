"""What is in a snapshot, told without the Node that it is of, its artifact and its components."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from bb_ir.ids import PeerId
from bb_runtime._portable import unpack_bytes
from bb_runtime._restore import load_any, load_table, understood
from bb_runtime._stored_steps import size_of

__all__ = ["SavedComponent", "SavedNode", "Snapshot", "read_snapshot"]

Table = dict[str, Any]


@dataclass(frozen=True)
class SavedComponent:
    """The state of a component in a snapshot.

    Attributes:
        slots: The slots that it fills, as `<target>/<slot>`.
        component: Its class.
        tensors: How many tensors it saved.
        size: Their bytes.
    """

    slots: str
    component: str
    tensors: int
    size: int


@dataclass(frozen=True)
class SavedNode:
    """A Node in a snapshot.

    Attributes:
        peer: Its identity.
        program: SHA-256 of its program, in hex.
        targets: Names of its targets.
        incarnation: Under which it ran.
        now_ns: What its clock said.
        size: Bytes of its snapshot.
        components: Its components.
        frames: Frames in flight, by `<target>/<region>`.
        queued: Frames that stood in line, likewise.
        works: Pieces of deferred work that frames wait for.
        timers: Deadlines and ticks ahead.
        steps: Steps that nobody had polled.
        unsent: Envelopes that had to wait, or are to be sent again until they are acknowledged.
        peers: Peers that it knew.
    """

    peer: PeerId
    program: str
    targets: tuple[str, ...]
    incarnation: int
    now_ns: int
    size: int
    components: tuple[SavedComponent, ...]
    frames: dict[str, int]
    queued: dict[str, int]
    works: int
    timers: int
    steps: int
    unsent: int
    peers: int


@dataclass(frozen=True)
class Snapshot:
    """A snapshot of a Node, or of a bus with all its Nodes.

    Attributes:
        kind: `node` or `bus`.
        version: Version of its format.
        size: Bytes of it all.
        nodes: The Nodes that are in it.
        flying: Of a bus: envelopes on their way.
        flying_size: Their bytes.
        told: Of a bus: steps that were polled and that nobody was given.
    """

    kind: str
    version: int
    size: int
    nodes: tuple[SavedNode, ...]
    flying: int = 0
    flying_size: int = 0
    told: int = 0


def read_snapshot(data: bytes | memoryview) -> Snapshot:
    """Return what is in a snapshot of a Node or a bus; its checksum is checked.

    Nothing of it is run, and no plugin is needed.

    Raises:
        SnapshotError: It is damaged, or of a newer version.
    """
    kind, table = load_any(data)
    with understood():
        if kind == "bus":
            return _bus(table, len(data))
        return Snapshot("node", table[kind], len(data), (_node(table, len(data)),))


def _bus(table: Table, size: int) -> Snapshot:
    states = [unpack_bytes(state) for _, state in table["nodes"]]
    rows = [*table["stack"], *(row for *_, kept in table["kept"] for row in kept)]
    return Snapshot(
        "bus",
        table["bus"],
        size,
        tuple(_node(load_table(state, "format"), len(state)) for state in states),
        flying=len(rows),
        flying_size=sum(size_of(step) for _, step in rows),
        told=len(table["told"]),
    )


def _node(table: Table, size: int) -> SavedNode:
    engine = table["engine"]
    names = [f"{target}/{region}" for target, region in table["regions"]]
    live: Counter[str] = Counter()
    queued: Counter[str] = Counter()
    for frame in engine["frames"]:
        (queued if frame["queued"] else live)[names[frame["region"]]] += 1
    return SavedNode(
        peer=table["peer"],
        program=str(table["program"]),
        targets=tuple(str(name) for name, _ in table["targets"]),
        incarnation=int(engine["incarnation"]),
        now_ns=int(engine["now_ns"]),
        size=size,
        components=tuple(
            _component(str(slots), str(name), state["tensors"])
            for (slots, name), state in zip(table["classes"], table["components"], strict=True)
        ),
        frames=dict(live),
        queued=dict(queued),
        works=len(engine["works"]),
        timers=len(engine["timers"]),
        steps=len(engine["steps"]),
        unsent=len(engine["outbound"]) + len(engine["retries"]),
        peers=len(engine["peers"]),
    )


def _component(slots: str, name: str, tensors: dict[str, Any]) -> SavedComponent:
    size = sum(int(tensor.nbytes) for tensor in tensors.values())
    return SavedComponent(slots, name, len(tensors), size)
