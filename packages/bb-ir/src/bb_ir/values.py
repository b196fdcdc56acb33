"""Values as bytes: what each sendable type looks like in an envelope.

The receiver decodes by the type that its own program declares for the port, never by what the
message says. What a type leaves open (element type, shape) travels beside the bytes as codec and
shape, and is checked before the bytes are looked at.

    tensor          raw elements, little-endian, C order; codec is the ONNX number of the element
                    type, shape the dimensions
    params          the image of the parameter set, as it stands in memory
    int64, float64  8 bytes, little-endian
    bool            1 byte, 0 or 1
    string, bytes   UTF-8; the bytes themselves
    peers           per peer one byte of length, then the raw id
    trigger         nothing
    custom          what the codec of the plugin's type makes of it
    list, record    of numbers, texts and triggers, or of no known types: a protobuf `Value`, at
                    most 1 MiB and 16 levels deep (`bb_ir._plain`)
    list, record    whose type mentions tensors, parameters, bytes, peers or types of plugins: the
                    values one after the other, at most 65,536 of them (`bb_ir._containers`)

Tensors and parameter sets are not copied, neither way: an encoded one is a view of the value and
a decoded one a read-only view of the buffer. In a list or record they are copied once, when they
are encoded. Which of its two forms a list or record has is a matter of its type alone; one of
unknown fields holds numbers, texts, bytes, `None`, lists and records. Types `any`, `local` and
`senders` mean nothing on another Node and are refused.

Codecs of types that plugins add are handed in; this module looks for none. It does no I/O, imports
numpy and onnx only when a tensor comes, and never unpickles.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from bb_ir._containers import MAX_VALUES, is_plain, read_container, write_container
from bb_ir._custom import Codecs, ValueCodec, read_custom, write_custom
from bb_ir._plain import (
    MAX_PLAIN_BYTES,
    MAX_PLAIN_DEPTH,
    read_plain,
    to_bool,
    to_bytes,
    to_float64,
    to_int64,
    to_text,
    unlike,
    write_plain,
    wrong,
)
from bb_ir.errors import IdError, ParameterSetError, WireError
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import ONNX_DTYPES, Type, accepts, tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

__all__ = [
    "MAX_PLAIN_BYTES",
    "MAX_PLAIN_DEPTH",
    "MAX_VALUES",
    "NO_CODECS",
    "Codecs",
    "Encoded",
    "ValueCodec",
    "decode_value",
    "encode_value",
]

#: Where no types of plugins are known.
NO_CODECS: Final[Codecs] = MappingProxyType({})

_MAX_DIMS: Final = 8
_INT64: Final = struct.Struct("<q")
_FLOAT64: Final = struct.Struct("<d")
#: No shape beyond this many bytes, not even where one dimension is 0: numpy cannot hold it.
_MAX_EXTENT: Final = 1 << 62
_DTYPE_NAMES: Final = {number: name for name, number in ONNX_DTYPES.items() if name != "string"}


class Encoded(NamedTuple):
    """A value as it travels.

    Attributes:
        data: The bytes, or a read-only view of the value's own memory.
        codec: The element type of a tensor by its ONNX number; 0 for all else.
        shape: The dimensions of a tensor; empty for all else.
    """

    data: bytes | memoryview
    codec: int = 0
    shape: tuple[int, ...] = ()


def encode_value(value: object, type: Type, codecs: Codecs = NO_CODECS) -> Encoded:  # noqa: A002 - it is what the argument is
    """Return the bytes of a value that a port of this type sends.

    The memory of a tensor, a parameter set or bytes is lent, not copied, unless it stands in a
    list or record; it must not change until the message has left. Numpy scalars count as the
    Python numbers they hold.

    Args:
        value: The value.
        type: What the port declares.
        codecs: Codecs of the types of plugins that the type mentions, by name.

    Raises:
        WireError: The value is not of this type, the type cannot be sent, or it mentions a type of
            a plugin whose codec is not given.
    """
    encode = _ENCODERS.get(type.kind)
    if not type.sendable:
        raise _not_sendable(type)
    if encode is not None:
        return encode(value, type)
    if type.kind == "custom":
        return Encoded(write_custom(value, type, codecs))
    if is_plain(type):
        return Encoded(write_plain(value, type))
    return Encoded(write_container(value, type, lambda one, of: encode_value(one, of, codecs)))


def decode_value(
    type: Type,  # noqa: A002 - it is what the argument is
    codec: int,
    data: bytes | memoryview,
    shape: tuple[int, ...] = (),
    codecs: Codecs = NO_CODECS,
) -> Any:
    """Return the value that `encode_value` was given.

    Tensors and parameter sets are read-only and keep the buffer of `data` alive; a value of a
    plugin's type may. Peers come as a tuple, lists as lists, records as dictionaries, a trigger as
    `None`.

    Args:
        type: What the port declares.
        codec: As it came with the data.
        data: The bytes, one contiguous buffer.
        shape: As it came with the data.
        codecs: Codecs of the types of plugins that the type mentions, by name.

    Raises:
        WireError: The bytes are no value of this type.
    """
    if not type.sendable:
        raise _not_sendable(type)
    view = memoryview(data)
    if view.format != "B" or view.ndim != 1:
        view = view.cast("B")
    view = view.toreadonly()
    if type.kind == "tensor":
        return _decode_tensor(view, type, codec, shape)
    if codec or shape:
        raise unlike(type, f"It came with codec {codec} and {len(shape)} dimensions")
    decode = _DECODERS.get(type.kind)
    if decode is not None:
        return decode(view, type)
    if type.kind == "custom":
        return read_custom(view, type, codecs)
    if is_plain(type):
        return read_plain(view, type)
    return read_container(
        view, type, lambda of, number, part, dims: decode_value(of, number, part, dims, codecs)
    )


def _not_sendable(declared: Type) -> WireError:
    return WireError(
        f"A value of type {declared} cannot be sent",
        expected="a type that means something on another Node",
        fix="Use it on its own Node and send what was computed from it, or declare what it holds.",
    )


# --- scalars, texts, bytes, triggers ---------------------------------------------------------


def _encode_int64(value: object, declared: Type) -> Encoded:
    return Encoded(_INT64.pack(to_int64(value, declared)))


def _decode_int64(data: memoryview, declared: Type) -> int:
    return cast("int", _INT64.unpack(_sized(data, 8, declared))[0])


def _encode_float64(value: object, declared: Type) -> Encoded:
    return Encoded(_FLOAT64.pack(to_float64(value, declared)))


def _decode_float64(data: memoryview, declared: Type) -> float:
    return cast("float", _FLOAT64.unpack(_sized(data, 8, declared))[0])


def _encode_bool(value: object, declared: Type) -> Encoded:
    return Encoded(bytes([to_bool(value, declared)]))


def _decode_bool(data: memoryview, declared: Type) -> bool:
    byte = _sized(data, 1, declared)[0]
    if byte > 1:
        raise unlike(declared, f"The byte is {byte}")
    return byte == 1


def _encode_text(value: object, declared: Type) -> Encoded:
    return Encoded(to_text(value, declared).encode())


def _decode_text(data: memoryview, declared: Type) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise unlike(declared, f"The bytes are not UTF-8 ({error.reason})") from error


def _encode_bytes(value: object, declared: Type) -> Encoded:
    return Encoded(to_bytes(value, declared))


def _decode_bytes(data: memoryview, _: Type) -> bytes:
    whole = data.obj
    return whole if isinstance(whole, bytes) and len(whole) == len(data) else bytes(data)


def _encode_trigger(*_: object) -> Encoded:
    return Encoded(b"")


def _decode_trigger(data: memoryview, declared: Type) -> None:
    _sized(data, 0, declared)


def _sized(data: memoryview, size: int, declared: Type) -> memoryview:
    if len(data) != size:
        raise unlike(declared, f"There are {len(data)} bytes instead of {size}")
    return data


# --- tensors ---------------------------------------------------------------------------------


def _encode_tensor(value: object, declared: Type) -> Encoded:
    import numpy as np

    if not isinstance(value, (np.ndarray, np.generic)):
        raise wrong(value, declared)
    array: Array = np.asarray(cast("Array", value), order="C")
    name = array.dtype.name
    number = ONNX_DTYPES.get(name)
    if number is None or (declared.dtype and declared.dtype != name):
        raise WireError(
            f"The tensor holds {name}",
            expected=declared.dtype or ", ".join(_DTYPE_NAMES.values()),
            fix="Convert it where it is made, for example with `astype`.",
        )
    _check_shape(array.shape, declared)
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return Encoded(little.reshape(-1).view(np.uint8).data.toreadonly(), number, array.shape)


def _decode_tensor(data: memoryview, declared: Type, codec: int, shape: tuple[int, ...]) -> Array:
    import numpy as np

    name = _DTYPE_NAMES.get(codec, "")
    if not name or (declared.dtype and declared.dtype != name):
        raise unlike(declared, f"The tensor holds {name or f'elements of number {codec}'}")
    _check_shape(shape, declared)
    dtype = _dtype(name)
    _sized(data, dtype.itemsize * math.prod(shape), declared)
    if dtype.itemsize * math.prod(max(length, 1) for length in shape) >= _MAX_EXTENT:
        raise unlike(declared, f"The tensor has the shape {list(shape)}")
    array: Array = np.frombuffer(data, dtype).reshape(shape)
    if name == "bool" and np.any(array.view(np.uint8) > 1):
        raise unlike(declared, "The tensor of bool has other bytes than 0 and 1")
    return array


def _dtype(name: str) -> np.dtype[Any]:
    """Return the little-endian dtype of an ONNX element type."""
    import numpy as np

    if name != "bfloat16":
        ordered: np.dtype[Any] = np.dtype(name).newbyteorder("<")
        return ordered
    try:
        import ml_dtypes
    except ImportError as error:
        raise WireError(
            "A tensor of bfloat16 cannot be held here: ml_dtypes is not installed",
            fix="pip install ml_dtypes",
        ) from error
    bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
    return bfloat16


def _check_shape(shape: tuple[int, ...], declared: Type) -> None:
    if len(shape) > _MAX_DIMS:
        raise unlike(declared, f"The tensor has {len(shape)} dimensions, more than {_MAX_DIMS}")
    wanted = declared.shape
    if wanted is None:
        return
    fits = len(shape) == len(wanted) and all(
        not isinstance(dim, int) or dim == length for dim, length in zip(wanted, shape, strict=True)
    )
    if not fits:
        raise unlike(declared, f"The tensor has the shape {list(shape)}")


# --- parameter sets --------------------------------------------------------------------------


def _encode_params(value: object, declared: Type) -> Encoded:
    if not isinstance(value, ParameterSet):
        raise wrong(value, declared)
    _check_params(value, declared)
    return Encoded(value.image)


def _decode_params(data: memoryview, declared: Type) -> ParameterSet:
    try:
        value = ParameterSet.from_image(data)
    except ParameterSetError as error:
        raise unlike(declared, f"The image is damaged ({error.found})") from error
    _check_params(value, declared)
    return value


def _check_params(value: ParameterSet, declared: Type) -> None:
    """Hold the tensors against the declared ones; their order is the image's own business."""
    if declared.items is None:
        return
    layout = value.layout
    tensors = zip(layout.names, layout.dtypes, layout.shapes, strict=True)
    # Not `layout.type`: names in an image may be such that no type can have them.
    found = {name: tensor(dtype, shape) for name, dtype, shape in tensors}
    wanted = dict(declared.items)
    if odd := sorted(wanted.keys() ^ found.keys()):
        raise unlike(declared, f"The parameter set lacks or adds {', '.join(odd[:5])}")
    for name, entry in wanted.items():
        if not accepts(entry, found[name]):
            raise unlike(declared, f"The parameter {name} is a {found[name]}")


# --- peers -----------------------------------------------------------------------------------


def _encode_peers(value: object, declared: Type) -> Encoded:
    if not isinstance(value, (list, tuple)):
        raise wrong(value, declared)
    out = bytearray()
    for index, peer in enumerate(cast("list[object]", value)):
        if not isinstance(peer, PeerId):
            raise wrong(peer, declared, f"Item {index}")
        out.append(len(peer.raw))
        out += peer.raw
    return Encoded(bytes(out))


def _decode_peers(data: memoryview, declared: Type) -> tuple[PeerId, ...]:
    peers: list[PeerId] = []
    at = 0
    while at < len(data):
        end = at + 1 + data[at]
        if end > len(data):
            raise unlike(declared, f"Peer {len(peers)} breaks off")
        try:
            peers.append(PeerId(bytes(data[at + 1 : end])))
        except IdError as error:
            raise unlike(declared, f"Peer {len(peers)} is no id ({error.found})") from error
        at = end
    return tuple(peers)


# --- the single values -----------------------------------------------------------------------


_ENCODERS: Final[dict[str, Callable[[object, Type], Encoded]]] = {
    "tensor": _encode_tensor,
    "params": _encode_params,
    "int64": _encode_int64,
    "float64": _encode_float64,
    "bool": _encode_bool,
    "string": _encode_text,
    "bytes": _encode_bytes,
    "peers": _encode_peers,
    "trigger": _encode_trigger,
}
_DECODERS: Final[dict[str, Callable[[memoryview, Type], Any]]] = {
    "params": _decode_params,
    "int64": _decode_int64,
    "float64": _decode_float64,
    "bool": _decode_bool,
    "string": _decode_text,
    "bytes": _decode_bytes,
    "peers": _decode_peers,
    "trigger": _decode_trigger,
}
