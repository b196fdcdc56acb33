"""Makes a Node what a snapshot says: all of it, or nothing.

The snapshot is checked and its frames are built aside; then the components load their states, which
can be taken back; what is left is to swap, which cannot fail.

A Node that was stopped cleanly goes on as if nothing had happened. After a crash nobody knows what
was sent and answered since the snapshot, so its frames are ended, and peers learn of it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

from bb_ir.dump import load
from bb_ir.errors import BytesAndBrainsError, DumpError
from bb_roles.contracts import Component, State
from bb_runtime._portable import KINDS, unpack
from bb_runtime._rebuild import Builder, Table, peer_of, seen_of
from bb_runtime._snapshot import FORMAT, Parts, check_idle, components_of, head_of
from bb_runtime.errors import SnapshotDamaged, SnapshotError, SnapshotForeign, SnapshotNewer

__all__ = ["read"]

_MAGIC: Final = b"BBD1"
_DUMP_VERSION: Final = 1


def read(node: Parts, data: bytes | memoryview, *, clean: bool) -> None:
    """Make a Node what a snapshot says.

    Raises:
        SnapshotError: The snapshot is damaged, foreign or newer, a component does not take its
            state, or the Node is busy; it is as it was before.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers err
        raise _damaged(f"a {type(data).__name__} was given")
    check_idle(node, "restored")
    table = _load(bytes(data))
    with _understood():
        _check_head(node, table)
        made = Builder(node, table["engine"], clean=clean).build()
        admission = table["admission"]
        authorized = {
            str(cls): set(map(peer_of, peers)) for cls, peers in admission["authorized"].items()
        }
        windows = [(peer_of(peer), *seen_of(*seen)) for peer, *seen in admission["windows"]]
        states = [_state(one, made.codecs) for one in table["components"]]
    _load_components(node, states)
    made.swap()
    node.admission.replace(authorized, windows)


def _load(data: bytes) -> Table:
    # Bytes 4 and 5 are the version of the dump around it.
    if data[:4] == _MAGIC and int.from_bytes(data[4:6], "little") > _DUMP_VERSION:
        raise _newer(f"a dump of version {int.from_bytes(data[4:6], 'little')}")
    try:
        table = load(data, kinds=KINDS)
    except DumpError as error:
        raise _damaged(error.found) from error
    except (TypeError, ValueError, MemoryError) as error:
        raise _damaged(f"{type(error).__name__}: {error}") from error
    if not isinstance(table, dict) or "format" not in table:
        raise _damaged("it is a dump of something else")
    found = cast("Table", table)
    if type(found["format"]) is not int or found["format"] < 1:
        raise _damaged(f"its version is {found['format']!r}")
    if found["format"] > FORMAT:
        raise _newer(f"version {found['format']}")
    return found


def _newer(what: str) -> SnapshotNewer:
    return SnapshotNewer(
        f"the snapshot is {what}",
        expected=f"at most version {FORMAT}",
        fix="install the version of bytesandbrains that wrote it",
    )


def _damaged(why: str) -> SnapshotDamaged:
    return SnapshotDamaged(
        f"the bytes are no whole snapshot: {why}",
        expected="what node.snapshot() returned",
        fix="restore an older snapshot",
    )


@contextmanager
def _understood() -> Generator[None]:
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
