"""A whole bus as bytes and back: its Nodes, and what it carries between them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from bb_ir.dump import dump
from bb_ir.errors import DumpError
from bb_ir.ids import PeerId
from bb_ir.values import Codecs
from bb_runtime._head import Parts, codecs_of, components_of
from bb_runtime._misread import peer_of
from bb_runtime._portable import KINDS, Packer, Unwritable, pack_bytes, unpack, unpack_bytes
from bb_runtime._restore import BUS_FORMAT, load_table, rehearse, understood
from bb_runtime._stored_steps import pack_step, unpack_step
from bb_runtime.errors import NotStorable, SnapshotError, SnapshotForeign
from bb_runtime.steps import Deferred, Ship, Step

if TYPE_CHECKING:
    from bb_runtime.node import Node

__all__ = ["Carried", "read_bus", "write_bus"]

#: The Node that reports, or sends, and what.
Told = tuple["Node", Step]


class Carried(NamedTuple):
    """What a bus carries.

    Attributes:
        stack: Envelopes on their way; the last one is delivered next.
        kept: Envelopes that are to come later, by who takes and who sends them.
        told: What was polled and nobody was given, work that nobody has done among it.
        note: What the host keeps with it.
    """

    stack: list[tuple[Node, Ship]]
    kept: dict[tuple[PeerId, PeerId], list[tuple[Node, Ship]]]
    told: list[Told]
    note: Any


def write_bus(nodes: Mapping[PeerId, Node], carried: Carried) -> bytes:
    """Return a bus as bytes.

    Raises:
        SnapshotError: A Node cannot be written down, or something that is on its way.
    """
    packers = {peer: _packer(_parts_of(node)) for peer, node in nodes.items()}

    def pack(rows: Iterable[Told]) -> list[Any]:
        return [(node.peer, pack_step(step, _of(packers, node.peer))) for node, step in rows]

    table = {
        "bus": BUS_FORMAT,
        "nodes": [(peer, pack_bytes(_snapshot(node))) for peer, node in nodes.items()],
        "stack": pack(carried.stack),
        "kept": [(*way, pack(rows)) for way, rows in carried.kept.items()],
        # Nodes hand work out anew.
        "told": pack(one for one in carried.told if not isinstance(one[1], Deferred)),
        "note": _note(carried.note),
    }
    try:
        return dump(table, kinds=KINDS)
    except DumpError as error:
        raise SnapshotError(
            f"the bus cannot be written down: {error.found}",
            expected=error.expected,
            fix=error.fix,
        ) from error


def read_bus(nodes: Mapping[PeerId, Node], data: bytes | memoryview) -> Carried:
    """Make Nodes what the snapshot of a bus says, and return what it carries.

    Raises:
        SnapshotError: It is damaged, newer, or of other Nodes, or one of them cannot become what
            it was; all are as they were.
    """
    table = load_table(data, "bus")
    with understood():
        states = {peer_of(peer): unpack_bytes(state) for peer, state in table["nodes"]}
        _check_nodes(nodes, states)
        steps = {peer: _unpacker(_parts_of(node)) for peer, node in nodes.items()}
        carried = Carried(
            [_envelope(nodes, steps, *row) for row in table["stack"]],
            {
                (peer_of(to), peer_of(source)): [_envelope(nodes, steps, *row) for row in rows]
                for to, source, rows in table["kept"]
            },
            [_told(nodes, steps, *row) for row in table["told"]],
            unpack(table["note"], _no_codecs),
        )
    for peer, node in nodes.items():
        with _of_node(node):
            rehearse(_parts_of(node), states[peer])
    for peer, node in nodes.items():
        node.restore(states[peer])
    return carried


def _parts_of(node: Node) -> Parts:
    return node._parts()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # of this package


def _snapshot(node: Node) -> bytes:
    with _of_node(node):
        return node.snapshot()


@contextmanager
def _of_node(node: Node) -> Generator[None]:
    """Have an error say of which Node it is."""
    try:
        yield
    except SnapshotError as error:
        raise type(error)(
            f"Node {node.peer} of {', '.join(node.targets)}: {error.found}",
            expected=error.expected,
            fix=error.fix,
            where=error.where,
        ) from error


def _check_nodes(nodes: Mapping[PeerId, Node], states: Mapping[PeerId, bytes]) -> None:
    missing = [str(peer) for peer in states if peer not in nodes]
    more = [str(peer) for peer in nodes if peer not in states]
    if missing or more:
        told = [f"it lacks {', '.join(missing)}"] if missing else []
        told += [f"it has {', '.join(more)} besides"] if more else []
        raise SnapshotForeign(
            f"the snapshot is of another bus than this one: {'; '.join(told)}",
            expected=f"the {len(states)} Nodes that were saved",
            fix="install the same Nodes, and add all of them to the bus before",
        )


# What is on its way


def _packer(node: Parts) -> Packer:
    makers = {id(one): place for place, (_, one) in enumerate(components_of(node))}
    return Packer(lambda: codecs_of(node), makers)


def _of(packers: Mapping[PeerId, Packer], peer: PeerId) -> Packer:
    if peer not in packers:
        raise NotStorable(
            f"something of {peer}, which has left the bus, is on its way",
            expected="Nodes that are on the bus",
            fix="call run() before",
        )
    return packers[peer]


def _note(note: Any) -> Any:
    try:
        return Packer(_no_codecs).pack(note)
    except Unwritable as error:
        raise NotStorable(
            f"the note is or holds {error.what}",
            expected="numbers, texts, lists, dictionaries, arrays, parameters and peers",
        ) from error


def _no_codecs() -> Codecs:
    return {}


def _unpacker(node: Parts) -> Callable[[Any], Any]:
    components = [one for _, one in components_of(node)]
    return lambda value: unpack(value, lambda: codecs_of(node), components)


def _envelope(
    nodes: Mapping[PeerId, Node], steps: Mapping[PeerId, Callable[[Any], Any]], peer: Any, row: Any
) -> tuple[Node, Ship]:
    node, step = _told(nodes, steps, peer, row)
    if not isinstance(step, Ship):
        raise TypeError(f"{type(step).__name__} instead of an envelope")
    peer_of(step.to)
    return node, step


def _told(
    nodes: Mapping[PeerId, Node], steps: Mapping[PeerId, Callable[[Any], Any]], peer: Any, row: Any
) -> Told:
    return nodes[peer], unpack_step(row, steps[peer])
