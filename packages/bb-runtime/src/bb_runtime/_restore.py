"""Makes a Node what a snapshot says: all of it, or nothing.

The snapshot is checked and its frames are built aside; then the components load their states, which
can be taken back; what is left is to swap, which cannot fail. Only then ops are called again whose
work was under way: what they raise ends their frames, as it would at any time.

A Node that was stopped cleanly goes on as if nothing had happened. After a crash nobody knows what
was sent and answered since the snapshot, so its frames are ended, and peers learn of it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, cast

from bb_ir.dump import load
from bb_ir.errors import BytesAndBrainsError, DumpError
from bb_roles.contracts import Component, State
from bb_runtime._head import Parts, components_of, head_of
from bb_runtime._misread import peer_of
from bb_runtime._portable import KINDS, unpack
from bb_runtime._rebuild import Builder, Table, seen_of
from bb_runtime._snapshot import FORMAT, check_idle
from bb_runtime.errors import SnapshotDamaged, SnapshotError, SnapshotForeign, SnapshotNewer

__all__ = ["BUS_FORMAT", "load_any", "load_table", "read", "rehearse", "understood"]

_MAGIC: Final = b"BBD1"
_DUMP_VERSION: Final = 1


def read(node: Parts, data: bytes | memoryview, *, clean: bool) -> None:
    """Make a Node what a snapshot says.

    Raises:
        SnapshotError: The snapshot is damaged, foreign or newer, a component does not take its
            state, or the Node is busy; it is as it was before.
    """
    ready = _prepare(node, data, clean=clean)
    _load_components(node, ready.states)
    ready.made.swap()
    node.admission.replace(*ready.admitted)
    ready.made.go_on()


def rehearse(node: Parts, data: bytes | memoryview) -> None:
    """See that a Node takes a snapshot, and leave it as it is.

    Raises:
        SnapshotError: It does not.
    """
    ready = _prepare(node, data, clean=True)
    before = [_saved(slot, one) for slot, one in components_of(node)]
    _load_components(node, ready.states)
    for (_, one), state in zip(components_of(node), before, strict=True):
        one.load(state)


class _Ready(NamedTuple):
    """A snapshot that was read: frames, who may send, and what components are to load."""

    made: Builder
    admitted: tuple[Any, Any]
    states: list[State]


def _prepare(node: Parts, data: bytes | memoryview, *, clean: bool) -> _Ready:
    check_idle(node)
    table = load_table(data, "format")
    with understood():
        _check_head(node, table)
        made = Builder(node, table["engine"], clean=clean).build()
        admission = table["admission"]
        authorized = {
            str(cls): set(map(peer_of, peers)) for cls, peers in admission["authorized"].items()
        }
        windows = [(peer_of(peer), *seen_of(*seen)) for peer, *seen in admission["windows"]]
        states = [_state(one, made.codecs) for one in table["components"]]
    return _Ready(made, (authorized, windows), states)


#: Version of the snapshots of a bus.
BUS_FORMAT: Final = 1
#: What snapshots are of, and their latest versions, by the name under which they hold their own.
_KINDS: Final = {"format": ("Node", FORMAT), "bus": ("bus", BUS_FORMAT)}


def load_table(given: bytes | memoryview, key: str) -> Table:
    """Return what a snapshot holds.

    Args:
        given: The snapshot.
        key: Under which name it holds its version: what it is of.

    Raises:
        SnapshotError: It is damaged, newer, or of something else.
    """
    kind, table = load_any(given)
    if kind != key:
        raise SnapshotForeign(
            f"the snapshot is of a whole {_KINDS[kind][0]}",
            expected=f"one of a {_KINDS[key][0]}",
            fix="give it to load_snapshot if it is of a Node, and to load_federation if of a bus",
        )
    return table


def load_any(given: bytes | memoryview) -> tuple[str, Table]:
    """Return what a snapshot is of, by the name under which it holds its version, and all of it.

    Raises:
        SnapshotError: It is damaged, or newer.
    """
    if not isinstance(given, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers err
        raise _damaged(f"a {type(given).__name__} was given")
    data = bytes(given)
    # Bytes 4 and 5 are the version of the dump around it.
    if data[:4] == _MAGIC and int.from_bytes(data[4:6], "little") > _DUMP_VERSION:
        raise _newer(f"a dump of version {int.from_bytes(data[4:6], 'little')}", _DUMP_VERSION)
    try:
        table = load(data, kinds=KINDS)
    except DumpError as error:
        raise _damaged(error.found) from error
    except (TypeError, ValueError, MemoryError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    held = cast("Table", table if isinstance(table, dict) else {})
    kind = next((known for known in _KINDS if known in held), None)
    if kind is None:
        raise _damaged("it is a dump of something else")
    version, most = held[kind], _KINDS[kind][1]
    if type(version) is not int or version < 1:
        raise _damaged(f"its version is {version!r}")
    if version > most:
        raise _newer(f"version {version}", most)
    return kind, held


def _newer(what: str, most: int) -> SnapshotNewer:
    return SnapshotNewer(
        f"the snapshot is {what}",
        expected=f"at most version {most}",
        fix="install the version of bytesandbrains that wrote it",
    )


def _damaged(why: str) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"the bytes are no whole snapshot: {why}",
        expected="what snapshot() returned",
        fix="restore an older snapshot",
    )


@contextmanager
def understood() -> Generator[None]:
    """Turn whatever goes wrong while a snapshot is read into one error."""
    try:
        yield
    except SnapshotError:
        raise
    except (BytesAndBrainsError, ArithmeticError, AssertionError, AttributeError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    except (LookupError, MemoryError, RecursionError, TypeError, ValueError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error


_WORDS: Final = {
    "program": "another program",
    "targets": "other targets",
    "peer": "another peer",
    "seed": "a Node with another seed",
    "classes": "other components",
    "layout": "a version that lays the program out in another way",
}


def _check_head(node: Parts, table: Table) -> None:
    """Check that a snapshot is of this Node."""
    for key, here in head_of(node).items():
        found = table.get(key)
        if found != here:
            raise SnapshotForeign(
                f"the snapshot is of {_WORDS[key]}: {_shown(key, found, here)}",
                expected=_shown(key, here, found),
                fix="install the Node as the one that was saved: the same artifact, targets, peer, "
                "seed and components",
            )


def _shown(key: str, one: object, other: object) -> str:
    """Return what differs, in words."""
    if key not in ("targets", "classes") or not isinstance(one, list):
        return str(one)
    rows: list[Any] = one  # pyright: ignore[reportUnknownVariableType]  # of anything
    differs = [row for row in rows if not isinstance(other, list) or row not in other] or rows
    return ", ".join(_row(key, row) for row in differs)


def _row(key: str, row: Any) -> str:
    if not isinstance(row, list) or len(row) != 2:  # pyright: ignore[reportUnknownArgumentType]  # of anything
        return str(row)  # pyright: ignore[reportUnknownArgumentType]  # of anything
    name, what = map(str, row)  # pyright: ignore[reportUnknownArgumentType]  # of anything
    return f"{name} {what[:12]}" if key == "targets" else f"{what} in {name}"


# Components


def _state(packed: Table, codecs: Any) -> State:
    """Return a component's state in memory of its own, which it may keep and write to."""
    import numpy as np

    tensors = {str(name): np.array(one) for name, one in packed["tensors"].items()}
    return State(tensors, unpack(packed["data"], codecs))


def _load_components(node: Parts, states: list[State]) -> None:
    """Hand each component its state; when one refuses, all get back what they had."""
    parts = components_of(node)
    if len(parts) != len(states):
        raise _damaged(f"it holds {len(states)} states for {len(parts)} components")
    before = [_saved(slot, one) for slot, one in parts]
    for number, ((slot, component), state) in enumerate(zip(parts, states, strict=True)):
        try:
            component.load(state)
        except Exception as error:
            for (_, one), old in zip(parts[: number + 1], before, strict=False):
                one.load(old)
            raise SnapshotError(
                f"the component of slot {slot!r} does not take its state: "
                f"{type(error).__name__}: {error}",
                fix="restore with the configuration and the version that it was saved with",
            ) from error


def _saved(slot: str, component: Component) -> State:
    try:
        return component.save()
    except Exception as error:
        raise SnapshotError(
            f"the component of slot {slot!r} cannot save the state that it has now: "
            f"{type(error).__name__}: {error}",
            fix="restore a Node that was just installed",
        ) from error
