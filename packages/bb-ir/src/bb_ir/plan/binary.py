"""Messages of a plan as protobuf, in the schema `bb.plan.v1`, and back.

What is read is whole and known: unknown fields, unknown enum values, and what is too long are
refused. Protobuf is imported when the first message is read or written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from bb_ir.plan._fields import Row, rows
from bb_ir.plan._fitting import fit
from bb_ir.plan._tables import Table, table_of
from bb_ir.plan.errors import PlanFormatError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["MAX_BYTES", "from_bytes", "to_bytes"]

#: Longest message, as protobuf or JSON.
MAX_BYTES: Final = 64 << 20

#: Messages of one class from which columns are quicker than one message after the other.
_MANY: Final = 200

M = TypeVar("M")


def to_bytes(message: Any) -> bytes:
    """Return a message of `bb_ir.plan` as protobuf.

    The same message gives the same bytes with the same version of protobuf; what is to be compared
    or signed is the digest, which holds for all versions.

    Raises:
        PlanFormatError: A value does not fit its field, or the whole is longer than `MAX_BYTES`.
    """
    cls: type[Any] = message.__class__
    table = table_of(cls, (message,))
    told = None
    if table is None:
        fit(message)
    elif _size(table) >= _MANY:
        from bb_ir.plan import _wire

        told = _wire.encode(table)
    if told is None:
        proto = _empty(cls)
        _fill(proto, message)
        told = proto.SerializeToString(deterministic=True)
    if len(told) > MAX_BYTES:
        raise _too_long(len(told))
    return told


def _size(table: Table) -> int:
    return max(table.size, *map(_size, table.below.values()), 0)


def from_bytes(cls: type[M], data: bytes) -> M:
    """Read a message that `to_bytes`, or protobuf elsewhere, has written.

    Args:
        cls: What it is: `Plan`, `CachePlan`, `WeightManifest`, ...
        data: The bytes.

    Raises:
        PlanFormatError: They are no such message, or too long, or hold what the schema does not.
    """
    from google.protobuf.message import DecodeError

    from bb_ir.plan import _bulk

    if len(data) > MAX_BYTES:
        raise _too_long(len(data))
    proto = _empty(cls)
    try:
        proto.ParseFromString(data)
    except DecodeError as error:
        raise PlanFormatError(
            f"{len(data)} bytes are no {cls.__name__}: protobuf cannot read them",
            expected=f"a message {cls.__name__} of the schema bb.plan.v1",
            fix="look whether the file is whole, and of this kind",
        ) from error
    proto.DiscardUnknownFields()
    # Bytes that are the same when they are written again say everything once, and in its order.
    if proto.SerializeToString(deterministic=True) == data:
        found: M | None = _bulk.read(cls, proto, data)
        if found is not None:
            return found
    whole, known = _empty(cls).FromString(data).ByteSize(), proto.ByteSize()
    if whole != known:
        raise PlanFormatError(
            f"a {cls.__name__} has {whole - known} bytes of fields that the schema lacks",
            expected="nothing but fields of the schema bb.plan.v1",
            fix="read it with the version that wrote it, or a newer one",
        )
    return fit(_read(cls, proto))


def _empty(cls: type[Any]) -> Message:
    from bb_ir._proto import plan_pb2

    made: Message = getattr(plan_pb2, cls.__name__)()
    return made


def _too_long(size: int) -> PlanFormatError:
    return PlanFormatError(
        f"the message has {size} bytes", expected=f"at most {MAX_BYTES}", fix="divide the plan"
    )


# --- value by value, with the reasons


def _fill(proto: Any, message: Any) -> None:
    cls: type[Any] = message.__class__
    for row in rows(cls):
        value = getattr(message, row.name)
        if value is row.default:
            continue
        if row.kind != "message":
            _put(proto, row, value)
        elif row.many:
            added = getattr(proto, row.proto)
            for one in value:
                _fill(added.add(), one)
        else:
            below = getattr(proto, row.proto)
            below.SetInParent()
            _fill(below, value)


def _put(proto: Any, row: Row, value: Any) -> None:
    if row.many:
        getattr(proto, row.proto).extend(value)
    else:
        setattr(proto, row.proto, value)


def _read(cls: type[M], proto: Any) -> M:
    given: dict[str, Any] = {}
    present = {field.name: value for field, value in proto.ListFields()}
    for row in rows(cls):
        if row.proto in present:
            given[row.name] = _value(row, present[row.proto])
    return cls(**given)


def _value(row: Row, value: Any) -> Any:
    if row.kind == "enum":
        return _enum(row, value)
    if row.kind == "message" and row.of is not None:
        return tuple(_read(row.of, one) for one in value) if row.many else _read(row.of, value)
    return tuple(value) if row.many else value


def _enum(row: Row, value: int) -> Any:
    try:
        return row.of(value) if row.of else value
    except ValueError as error:
        raise PlanFormatError(
            f"`{row.name}` is {value}, which the schema does not have",
            expected="a value of the schema bb.plan.v1",
            fix="read it with the version that wrote it, or a newer one",
        ) from error
