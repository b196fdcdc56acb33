"""Protobuf of whole plans read at a time, by columns that the library itself makes.

What is not sure to fit gives `None`; `bb_ir.plan.binary` then goes from value to value. Protobuf is
imported with this module.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from bb_ir._proto import plan_pb2
from bb_ir.plan._fields import Row, rows
from bb_ir.plan._fitting import MAX_DIGEST, MAX_ITEMS, MAX_TEXT
from bb_ir.plan._tables import cut, spread

__all__ = ["read"]


def read(cls: type[Any], proto: Message, data: bytes) -> Any:
    """Return what a message of protobuf says, or `None` when a value may not fit.

    Args:
        cls: Its class here.
        proto: The message.
        data: The bytes that it was read from, which are those that it is written as.
    """
    made = _messages(cls, 1, lambda: [proto], _transposed(cls).FromString(data))
    return made and made[0]


def _messages(
    cls: type[Any], size: int, protos: Callable[[], Sequence[Any]], seen: Any
) -> list[Any] | None:
    """Return what so many messages say.

    Args:
        cls: Their class here.
        size: How many they are.
        protos: Gives them, which costs some time, and is not always needed.
        seen: All of them as one message of columns; what nobody gives is not in there.
    """
    protos = lru_cache(maxsize=1)(protos)
    given = {field.name: below for field, below in seen.ListFields()}
    columns: list[Sequence[Any]] = []
    for row in rows(cls):
        if row.proto not in given:
            columns.append([row.default] * size)
            continue
        read_column = _lists if row.many else _parts if row.kind == "message" else _column
        column = read_column(row, size, protos, given[row.proto])
        if column is None:
            return None
        columns.append(column)
    return [*map(cls, *columns)]


def _column(
    row: Row, size: int, protos: Callable[[], Sequence[Any]], seen: Any
) -> Sequence[Any] | None:
    """Return the values of a field that holds one."""
    if len(seen) == size:  # all have one, and nobody has two
        return _values(row, seen[:])
    if row.default is not None:
        return _values(row, [*map(operator.attrgetter(row.proto), protos())])
    there = [one.HasField(row.proto) for one in protos()]
    found = _values(row, seen[:])
    return None if found is None else spread(found, there)


def _parts(
    row: Row, size: int, protos: Callable[[], Sequence[Any]], seen: Any
) -> Sequence[Any] | None:
    """Return the values of a field that holds a message."""
    assert row.of is not None
    get = operator.attrgetter(row.proto)
    single = {one.proto for one in rows(row.of) if not one.many and one.kind != "message"}
    told = {field.name: one for field, one in seen.ListFields()}
    if any(len(told[name]) == size for name in single & told.keys()):  # so all have it
        return _messages(row.of, size, lambda: [*map(get, protos())], seen)
    there = [one.HasField(row.proto) for one in protos()]
    held = [*map(get, itertools.compress(protos(), there))]
    found = _messages(row.of, len(held), lambda: held, seen)
    return None if found is None else spread(found, there)


def _lists(
    row: Row, _size: int, protos: Callable[[], Sequence[Any]], seen: Any
) -> Sequence[Any] | None:
    """Return the values of a field that is a list."""
    lists = [*map(operator.attrgetter(row.proto), protos())]
    lengths = [*map(len, lists)]
    if max(lengths) > MAX_ITEMS:
        return None
    if row.of is None:
        found = _values(row, seen[:])
    else:
        # Going through a list of protobuf's takes much longer.
        chained = itertools.chain.from_iterable
        found = _messages(row.of, sum(lengths), lambda: [*chained(one[:] for one in lists)], seen)
    return None if found is None else cut(found, lengths)


def _values(row: Row, values: Sequence[Any]) -> Sequence[Any] | None:
    if row.of is not None:
        known: dict[int, Any] = {int(one): one for one in row.of.__members__.values()}
        return [*map(known.__getitem__, values)] if known.keys() >= {*values} else None
    most = {"string": MAX_TEXT, "bytes": MAX_DIGEST}.get(row.kind)
    fits = most is None or max(map(len, values), default=0) <= most
    return values if fits else None


# --- the same bytes as columns


def _transposed_of(cls: type[Any]) -> type[Message]:
    name = f"{plan_pb2.DESCRIPTOR.package}.{cls.__name__}"
    return message_factory.GetMessageClass(_columns().FindMessageTypeByName(name))


#: Returns a class that reads the same bytes as columns.
_transposed = cast("Callable[[type[Any]], type[Message]]", lru_cache(maxsize=64)(_transposed_of))


@lru_cache(maxsize=1)
def _columns() -> descriptor_pool.DescriptorPool:
    """Return the schema with lists where there are values, and values where there are messages.

    Protobuf merges a message that comes again, and appends to a list. So the ops of a plan come to
    be one op, each field of which holds the values of all ops that have it, at the speed at which
    bytes are read. Asking each of ten thousand for each field takes much longer.
    """
    kinds = descriptor_pb2.FieldDescriptorProto
    schema = descriptor_pb2.FileDescriptorProto()
    plan_pb2.DESCRIPTOR.CopyToProto(schema)
    schema.syntax = "proto2"
    for message in schema.message_type:
        message.ClearField("oneof_decl")
        for field in message.field:
            field.ClearField("oneof_index")
            field.ClearField("proto3_optional")
            field.label = kinds.LABEL_REPEATED
            if field.type == kinds.TYPE_ENUM:  # that of proto2 would not see a value without name
                field.type = kinds.TYPE_INT32
                field.ClearField("type_name")
            if field.type == kinds.TYPE_MESSAGE:
                field.label = kinds.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(schema)
    return pool
