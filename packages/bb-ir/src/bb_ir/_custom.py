"""Values of types that plugins add: the codec of such a type, and the checks around it.

A codec is another author's code. What it gives is checked on the way out, and what it is given is
checked on the way in, before it runs; whatever it raises becomes a `WireError`. Codecs are handed
in by whoever found them: this module knows nothing of plugins. `bb_ir.values` is its public side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bb_ir._plain import unlike, wrong
from bb_ir.errors import WireError
from bb_ir.types import Type

__all__ = ["Codecs", "ValueCodec", "read_custom", "write_custom"]


@dataclass(frozen=True, slots=True)
class ValueCodec:
    """How values of one type that a plugin adds become bytes, and bytes values.

    Attributes:
        name: The type's name with its version, such as `acme.graph/1`.
        accepts: Says whether a Python object is a value of the type.
        encode: Returns the bytes of a value; a buffer that it lends must not change until the
            message has left.
        decode: Returns the value of a read-only buffer, which it may keep and refer to; raises for
            bytes that are none.
        max_bytes: Longest encoding; checked both ways, and before `decode` is called.
    """

    name: str
    accepts: Callable[[object], bool]
    encode: Callable[[Any], Any]
    decode: Callable[[memoryview], Any]
    max_bytes: int


#: Codecs by the name of their type.
Codecs = Mapping[str, ValueCodec]


def write_custom(value: object, declared: Type, codecs: Codecs) -> bytes | memoryview:
    """Return the bytes of a value as its codec gives them, not copied."""
    codec = _codec(declared, codecs)
    if not codec.accepts(value):
        raise wrong(value, declared)
    try:
        given = codec.encode(value)
        data = given if isinstance(given, bytes) else _view(given)
    except Exception as error:
        raise WireError(
            f"The codec of {declared} cannot encode it: {type(error).__name__}: {error}",
            expected="bytes, or a buffer whose bytes lie together",
            fix="Report it to the author of the type.",
        ) from error
    if len(data) > codec.max_bytes:
        raise _too_long(data, declared, codec)
    return data


def read_custom(data: memoryview, declared: Type, codecs: Codecs) -> Any:
    """Return the value that a codec reads from bytes."""
    codec = _codec(declared, codecs)
    if len(data) > codec.max_bytes:
        raise _too_long(data, declared, codec)
    try:
        value = codec.decode(data)
    except Exception as error:
        raise unlike(declared, f"Its codec says {type(error).__name__}: {error}") from error
    if not codec.accepts(value):
        raise unlike(declared, f"Its codec made a {type(value).__name__} of the bytes")
    return value


def _codec(declared: Type, codecs: Codecs) -> ValueCodec:
    codec = codecs.get(declared.of)
    if codec is None:
        raise WireError(
            f"No codec is at hand for {declared}",
            expected=f"one of {', '.join(codecs) or 'none'}",
            fix="Hand in the codecs of the types of plugins.",
        )
    return codec


def _view(given: Any) -> bytes | memoryview:
    view = memoryview(given)
    if not view.nbytes:
        return b""
    return view.cast("B").toreadonly()


def _too_long(data: bytes | memoryview, declared: Type, codec: ValueCodec) -> WireError:
    return WireError(
        f"A value of {declared} takes {len(data)} bytes",
        expected=f"at most {codec.max_bytes} bytes, as the type declares",
        fix="Send less in one value.",
    )
