"""Protobuf of whole plans at a time: columns into messages, and messages into columns.

Both ways are told nothing that is not sure to fit, or give `None`; `bb_ir.plan.binary` then goes
from value to value. Protobuf is imported with this module.
"""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from bb_ir._proto import plan_pb2
from bb_ir.plan._fields import Row, rows
from bb_ir.plan._fitting import MAX_DIGEST, MAX_ITEMS, MAX_TEXT
from bb_ir.plan._tables import Table, builder, columns_of, cut

__all__ = ["fill", "read"]


# --- writing


def fill(protos: Sequence[Any], table: Table) -> None:
    """Give messages of protobuf the values of a table."""
    for row in rows(table.cls):
        column = table.columns.get(row.name)
        if column is None:
            continue
        if row.kind == "message":
            fill(_added(protos, row, column), table.below[row.name])
        elif row.many:
            for proto, values in zip(protos, column, strict=True):
                getattr(proto, row.proto).extend(values)
        elif row.default is None:
            there = [one is not None for one in column]
            _set(itertools.compress(protos, there), row, itertools.compress(column, there))
        else:
            _set(protos, row, column)


def _added(protos: Sequence[Any], row: Row, column: Sequence[Any]) -> list[Any]:
    """Return the messages that those in a field become."""
    below = [*map(operator.attrgetter(row.proto), protos)]
    if row.many:
        return [one.add() for one, values in zip(below, column, strict=True) for _ in values]
    made = [one for one, value in zip(below, column, strict=True) if value is not None]
    for one in made:
        one.SetInParent()
    return made


def _set(protos: Iterable[Any], row: Row, values: Iterable[Any]) -> None:
    # A queue of length 0 drives an iterator and keeps nothing of what it gives.
    deque(map(setattr, protos, itertools.repeat(row.proto), values), maxlen=0)


# --- reading


def read(cls: type[Any], proto: Message, data: bytes) -> Any:
    """Return what a message of protobuf says, or `None` when a value may not fit.

    Args:
        cls: Its class here.
        proto: The message.
        data: The bytes that it was read from.
    """
    made = _messages(cls, [proto], _probe(cls).FromString(data))
    return made and made[0]


def _messages(cls: type[Any], protos: Sequence[Any], seen: Message) -> list[Any] | None:
    """Return what messages say, of which only the fields that were seen have to be looked at."""
    given = {field.name: below for field, below in seen.ListFields()}
    fields = rows(cls)
    named = [row for row in fields if row.proto in given]
    columns: dict[str, Any] = {}
    for row, column in columns_of(named, [row.proto for row in named], protos):
        values = _column(row, column, protos, given[row.proto])
        if values is None:
            return None
        columns[row.name] = values
    size = len(protos)
    return builder(cls)([columns.get(row.name) or [row.default] * size for row in fields])


def _column(
    row: Row, column: Sequence[Any], protos: Sequence[Any], seen: Any
) -> Sequence[Any] | None:
    if row.many:
        lists = [one[:] for one in column]  # going through a list of protobuf's takes much longer
        lengths = [*map(len, lists)]
        found = _values(row, [*itertools.chain.from_iterable(lists)], seen)
        return None if found is None or max(lengths) > MAX_ITEMS else cut(found, lengths)
    if row.default is not None:
        return _values(row, column, seen)
    there = [one.HasField(row.proto) for one in protos]
    found = _values(row, [*itertools.compress(column, there)], seen)
    if found is None:
        return None
    left = iter(found)
    return [next(left) if one else None for one in there]


def _values(row: Row, values: Sequence[Any], seen: Any) -> Sequence[Any] | None:
    if row.kind == "message" and row.of is not None:
        return _messages(row.of, values, seen)
    if row.kind == "enum" and row.of is not None:
        known: dict[int, Any] = {int(one): one for one in row.of.__members__.values()}
        return [known[one] for one in values] if known.keys() >= {*values} else None
    most = {"string": MAX_TEXT, "bytes": MAX_DIGEST}.get(row.kind)
    fits = most is None or max(map(len, values), default=0) <= most
    return values if fits else None


# --- which fields there are


def _probe_of(cls: type[Any]) -> type[Message]:
    name = f"{plan_pb2.DESCRIPTOR.package}.{cls.__name__}"
    return message_factory.GetMessageClass(_probes().FindMessageTypeByName(name))


#: Returns a class that reads the same bytes, and tells which fields any message in them has.
_probe = cast("Callable[[type[Any]], type[Message]]", lru_cache(maxsize=64)(_probe_of))


@lru_cache(maxsize=1)
def _probes() -> descriptor_pool.DescriptorPool:
    """Return the schema with one message where there are lists, and with presence of every field.

    Protobuf merges what comes again, so that one message comes to have every field that any of a
    list has, at the speed at which bytes are read. Asking each of ten thousand for the half of its
    fields that nobody gives would take longer than reading them.
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
            if field.type == kinds.TYPE_ENUM:  # that of proto2 would not see a value without name
                field.type = kinds.TYPE_INT32
                field.ClearField("type_name")
            if field.type == kinds.TYPE_MESSAGE:
                field.label = kinds.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(schema)
    return pool
