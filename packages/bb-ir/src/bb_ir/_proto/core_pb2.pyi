from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Null(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NULL: _ClassVar[Null]
NULL: Null

class Envelope(_message.Message):
    __slots__ = ("program", "edge", "incarnation", "message_id", "remaining_ns", "in_reply_to", "chain", "fills", "ack", "stale", "later", "refused", "failed", "leaving", "after")
    PROGRAM_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    REMAINING_NS_FIELD_NUMBER: _ClassVar[int]
    IN_REPLY_TO_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    FILLS_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    program: bytes
    edge: int
    incarnation: int
    message_id: int
    remaining_ns: int
    in_reply_to: int
    chain: _containers.RepeatedCompositeFieldContainer[Hop]
    fills: _containers.RepeatedCompositeFieldContainer[Fill]
    ack: Ack
    stale: Stale
    later: Later
    refused: Refused
    failed: Failed
    leaving: Leaving
    after: int
    def __init__(self, program: _Optional[bytes] = ..., edge: _Optional[int] = ..., incarnation: _Optional[int] = ..., message_id: _Optional[int] = ..., remaining_ns: _Optional[int] = ..., in_reply_to: _Optional[int] = ..., chain: _Optional[_Iterable[_Union[Hop, _Mapping]]] = ..., fills: _Optional[_Iterable[_Union[Fill, _Mapping]]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., stale: _Optional[_Union[Stale, _Mapping]] = ..., later: _Optional[_Union[Later, _Mapping]] = ..., refused: _Optional[_Union[Refused, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., leaving: _Optional[_Union[Leaving, _Mapping]] = ..., after: _Optional[int] = ...) -> None: ...

class Hop(_message.Message):
    __slots__ = ("frame", "incarnation", "peer", "grant")
    FRAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    frame: int
    incarnation: int
    peer: bytes
    grant: bytes
    def __init__(self, frame: _Optional[int] = ..., incarnation: _Optional[int] = ..., peer: _Optional[bytes] = ..., grant: _Optional[bytes] = ...) -> None: ...

class Fill(_message.Message):
    __slots__ = ("segment", "length", "codec", "inline", "shape")
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    segment: int
    length: int
    codec: int
    inline: bytes
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, segment: _Optional[int] = ..., length: _Optional[int] = ..., codec: _Optional[int] = ..., inline: _Optional[bytes] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("message_id", "incarnation")
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    message_id: int
    incarnation: int
    def __init__(self, message_id: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Stale(_message.Message):
    __slots__ = ("highest_incarnation",)
    HIGHEST_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    highest_incarnation: int
    def __init__(self, highest_incarnation: _Optional[int] = ...) -> None: ...

class Later(_message.Message):
    __slots__ = ("retry_ns",)
    RETRY_NS_FIELD_NUMBER: _ClassVar[int]
    retry_ns: int
    def __init__(self, retry_ns: _Optional[int] = ...) -> None: ...

class Refused(_message.Message):
    __slots__ = ("reason", "message_id", "incarnation")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message_id: int
    incarnation: int
    def __init__(self, reason: _Optional[str] = ..., message_id: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("reason", "frame", "incarnation", "edge", "grant")
    REASON_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    EDGE_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    frame: int
    incarnation: int
    edge: int
    grant: bytes
    def __init__(self, reason: _Optional[str] = ..., frame: _Optional[int] = ..., incarnation: _Optional[int] = ..., edge: _Optional[int] = ..., grant: _Optional[bytes] = ...) -> None: ...

class Leaving(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Value(_message.Message):
    __slots__ = ("integer", "real", "boolean", "text", "data", "list", "record", "null", "whole")
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    REAL_FIELD_NUMBER: _ClassVar[int]
    BOOLEAN_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    LIST_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    NULL_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    integer: int
    real: float
    boolean: bool
    text: str
    data: bytes
    list: ValueList
    record: ValueRecord
    null: Null
    whole: int
    def __init__(self, integer: _Optional[int] = ..., real: _Optional[float] = ..., boolean: bool = ..., text: _Optional[str] = ..., data: _Optional[bytes] = ..., list: _Optional[_Union[ValueList, _Mapping]] = ..., record: _Optional[_Union[ValueRecord, _Mapping]] = ..., null: _Optional[_Union[Null, str]] = ..., whole: _Optional[int] = ...) -> None: ...

class ValueList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Value]
    def __init__(self, items: _Optional[_Iterable[_Union[Value, _Mapping]]] = ...) -> None: ...

class ValueRecord(_message.Message):
    __slots__ = ("fields",)
    class Field(_message.Message):
        __slots__ = ("name", "value")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        name: str
        value: Value
        def __init__(self, name: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.RepeatedCompositeFieldContainer[ValueRecord.Field]
    def __init__(self, fields: _Optional[_Iterable[_Union[ValueRecord.Field, _Mapping]]] = ...) -> None: ...
