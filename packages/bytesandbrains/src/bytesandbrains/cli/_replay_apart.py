"""In what two steps differ that were reported at the same place of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from bytesandbrains.cli._values import cut

if TYPE_CHECKING:
    from bb_ir.wire import EnvelopeHead
    from bb_runtime import Ship
    from bb_runtime.artifact import Artifact

__all__ = ["apart"]

#: What of an envelope's header is told; values and places are told on their own.
_HEAD = ("program", "edge", "incarnation", "message_id", "remaining_ns", "in_reply_to", "chain",
         "control", "retry", "after")  # fmt: skip


def apart(one: tuple[Any, ...], two: tuple[Any, ...], artifact: Artifact) -> list[str]:
    """Return in what two steps differ, a line each; none where that cannot be told.

    Args:
        one: A step.
        two: A step of another run.
        artifact: Of the first run; names the values of an envelope.
    """
    from bb_runtime import OpFailed, Ship
    from bb_runtime.digests import code_of

    if type(one) is not type(two):
        return [f"the kind of step: {type(one).__name__} / {type(two).__name__}"]
    if isinstance(one, Ship) and isinstance(two, Ship):
        return list(_envelopes(one, two, artifact))
    names: tuple[str, ...] = getattr(one, "_fields", ())
    found: list[str] = []
    for name, left, right in zip(names, one, two, strict=False):
        if isinstance(one, OpFailed) and name in {"source", "place", "trace", "peer", "component"}:
            continue  # prose, and places in files
        if isinstance(left, Exception) and isinstance(right, Exception):
            found += _plain(name, code_of(left), code_of(right))
        else:
            found += _values(name, left, right)
    return found


def _values(name: str, one: Any, two: Any) -> Iterator[str]:
    """Yield in what two values differ: the first element, where they have any."""
    import numpy as np

    left, right = _table_of(one), _table_of(two)
    if left is not None and right is not None:
        yield from _tables(name, left, right)
    elif hasattr(one, "dtype") and hasattr(two, "dtype"):
        yield from _arrays(name, np.asarray(one), np.asarray(two))
    else:
        yield from _plain(name, one, two)


def _table_of(value: Any) -> Mapping[str, Any] | None:
    """Return what a value holds by name, if it does."""
    from bb_ir.params import ParameterSet

    if isinstance(value, ParameterSet):
        return dict(value.items())
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else None


def _plain(name: str, one: Any, two: Any) -> Iterator[str]:
    # Through text, for what has no equality of its own, and for numbers that are none.
    if repr(one) == repr(two):
        return
    left, right = str(one), str(two)
    if cut(left) != cut(right):
        yield f"{name}: {cut(left)} / {cut(right)}"
    elif left != right:
        at = _first_other(left, right)
        yield f"{name}, from character {at:,} on: {cut(left[at:])} / {cut(right[at:])}"
    else:
        yield f"{name}: {cut(repr(one))} / {cut(repr(two))}"


def _first_other(one: bytes | str, two: bytes | str) -> int:
    """Return the place of the first letter or byte in which two differ, or the end of one."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(two)))


def _tables(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    for key in (*one, *(key for key in two if key not in one)):
        if key not in one or key not in two:
            yield f"{name}[{key!r}]: only in the {'first' if key in one else 'second'}"
    for key, value in one.items():
        if key in two:
            yield from _values(f"{name}[{key!r}]", value, two[key])


def _arrays(name: str, one: Any, two: Any) -> Iterator[str]:
    import numpy as np

    if (one.dtype, one.shape) != (two.dtype, two.shape):
        yield f"{name}: {one.dtype}{list(one.shape)} / {two.dtype}{list(two.shape)}"
        return
    if one.dtype.hasobject or not one.dtype.itemsize:
        yield from _plain(name, one.tolist(), two.tolist())
        return
    left, right = (np.ascontiguousarray(array).reshape(-1) for array in (one, two))
    # Bytes, as the digest of a step compares: 0.0 and -0.0 differ, NaN does not from itself.
    width = left.dtype.itemsize
    odd = (left.view(np.uint8) != right.view(np.uint8)).reshape(-1, width).any(axis=1)
    if odd.any():
        at = int(odd.argmax())
        place = [int(number) for number in np.unravel_index(at, one.shape)]
        yield (f"{name}: {int(odd.sum()):,} of {odd.size:,} elements, first {place}: "
               f"{left[at].item()} / {right[at].item()}")  # fmt: skip


def _envelopes(one: Ship, two: Ship, artifact: Artifact) -> Iterator[str]:
    yield from _plain("to", one.to, two.to)
    left, right = _head_of(one), _head_of(two)
    for name in _HEAD:
        yield from _plain(name, _readable(getattr(left, name)), _readable(getattr(right, name)))
    edge = artifact.edges_by_id.get(left.edge)
    if left.edge != right.edge or edge is None or len(left.fills) != len(right.fills):
        return
    for at, (name, _) in enumerate(edge.ports):
        yield from _bytes(name, _fill(one, left, at), _fill(two, right, at))


def _readable(value: Any) -> Any:
    """Return a field of a header as people read it: the frames that wait for answers, and hex."""
    from bb_ir.ids import PeerId
    from bb_ir.wire import Hop

    if isinstance(value, bytes):
        return value.hex()
    if not isinstance(value, tuple):
        return value
    hops = [hop for hop in cast("tuple[object, ...]", value) if isinstance(hop, Hop)]
    return [
        f"frame {hop.incarnation}/{hop.frame} of {PeerId(hop.peer)} {hop.grant.hex()}".rstrip()
        for hop in hops
    ]


def _head_of(step: Ship) -> EnvelopeHead:
    from bb_ir.wire import PRELUDE_SIZE, WireLimits, read_header, read_prelude

    # An envelope of a Node's own is known to be good; how long it may be is no question here.
    limits = WireLimits(header=1 << 30, segments=1 << 20, payload=1 << 62)
    data = memoryview(step.envelope.head)
    prelude = read_prelude(data[:PRELUDE_SIZE], limits)
    return read_header(prelude, data[PRELUDE_SIZE:], limits)


def _fill(step: Ship, head: EnvelopeHead, at: int) -> bytes:
    """Return the bytes of a value of an envelope."""
    fill = head.fills[at]
    return fill.inline if fill.segment < 0 else bytes(step.envelope.segments[fill.segment])


def _bytes(name: str, one: bytes, two: bytes) -> Iterator[str]:
    from bb_runtime.digests import value_digest

    if one == two:
        return
    if len(one) != len(two):
        yield f"value {name!r}: {len(one):,} / {len(two):,} bytes"
        return
    at = _first_other(one, two)
    digests = " / ".join(value_digest(data).hex()[:12] for data in (one, two))
    yield f"value {name!r}: differs from byte {at:,} of {len(one):,} on; digests {digests}"
