"""Values of a running Node as what a dump can hold, and back.

Most values are written as they are. Mappings become dictionaries, long bytes and values of types
that plugins add become raw bytes, exceptions become what they say. What only a component can make
is written as its recipe. What means nothing in another process, such as an iterator, is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

from bb_ir.dump import Kinds
from bb_ir.errors import WireError
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.types import ONNX_DTYPES, custom
from bb_ir.values import Codecs, decode_value, encode_value
from bb_roles.contracts import Component, Recipe, State
from bb_runtime._frames import ReturnAddress
from bb_runtime.errors import SnapshotError
from bb_runtime.steps import FrameId

__all__ = ["KINDS", "Packer", "Unwritable", "pack_bytes", "unpack", "unpack_bytes"]

#: Bytes beyond this many are written raw instead of as text.
_SHORT: Final = 256
_DEPTH: Final = 64
_ATOMS: Final = frozenset({type(None), bool, int, float, str, PeerId, ParameterSet})


class _Raw(NamedTuple):
    """Bytes, as an array of them."""

    data: Any


class _Custom(NamedTuple):
    """A value of a type that a plugin adds, by the name of the type."""

    type: str
    data: Any


class _Made(NamedTuple):
    """A value that a component makes again: its place among those of the Node, and the recipe."""

    maker: int
    tensors: Any
    data: Any


KINDS: Final[Kinds] = {
    "address": ReturnAddress, "frame": FrameId, "raw": _Raw, "custom": _Custom, "made": _Made
}  # fmt: skip
_NO_MAKERS: Final[Mapping[int, int]] = MappingProxyType({})


class Unwritable(Exception):  # it never leaves the snapshot, which says more
    """A value means nothing in another process.

    Attributes:
        what: What it is, in words.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class Packer:
    """Turns values into what a dump can hold.

    Args:
        codecs: Returns codecs of types of plugins; called when a value is nothing else.
        makers: Places of the Node's components, by identity.
    """

    def __init__(
        self, codecs: Callable[[], Codecs], makers: Mapping[int, int] = _NO_MAKERS
    ) -> None:
        self._codecs = codecs
        self._makers = makers
        #: Buffers by identity, so that what several envelopes share is written once.
        self._buffers: dict[int, tuple[Any, Any]] = {}

    def pack(self, value: Any, depth: int = 0) -> Any:
        """Return a value as a dump can hold it; arrays and parameters as they are.

        Raises:
            Unwritable: It means nothing in another process.
        """
        kind: type = type(value)  # pyright: ignore[reportUnknownVariableType]  # of anything
        if kind in _ATOMS:
            return value
        if depth > _DEPTH:
            raise Unwritable(f"something nested more than {_DEPTH} deep")
        if kind is tuple:
            return tuple(self.pack(one, depth + 1) for one in value)
        if kind is list:
            return [self.pack(one, depth + 1) for one in value]
        if kind is ReturnAddress or kind is FrameId:
            return value
        if isinstance(value, Mapping):
            table: Any = value  # pyright: ignore[reportUnknownVariableType]  # of anything
            return {
                self.pack(key, depth + 1): self.pack(one, depth + 1) for key, one in table.items()
            }
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self.buffer(cast("memoryview", value))
        if getattr(getattr(value, "dtype", None), "name", "string") in _DTYPES:
            return value
        recipe = getattr(value, "recipe", None)
        if isinstance(recipe, Recipe):
            return self._made(value, recipe, depth)
        return self._custom(value)

    def _made(self, value: Any, recipe: Recipe, depth: int) -> _Made:
        maker, state = self._makers.get(id(recipe.maker)), recipe.state
        name = type(value).__name__
        if maker is None:
            raise Unwritable(f"a {name} of a component that is not of this Node")
        try:
            tensors = self.pack(dict(state.tensors), depth + 1)
            return _Made(maker, tensors, self.pack(dict(state.data), depth + 1))
        except Unwritable as error:
            raise Unwritable(f"a {name} whose recipe holds {error.what}") from error

    def buffer(self, value: bytes | bytearray | memoryview) -> Any:
        """Return bytes as a dump can hold them; the same object for the same buffer."""
        known = self._buffers.get(id(value))
        if known is None:
            known = self._buffers[id(value)] = value, pack_bytes(value)
        return known[1]

    def _custom(self, value: Any) -> Any:
        for name, codec in self._codecs().items():
            if codec.accepts(value):
                try:
                    data = encode_value(value, custom(name), {name: codec}).data
                except WireError as error:
                    raise Unwritable(f"a value of {name}: {error.found}") from error
                return _Custom(name, pack_bytes(data))
        dtype = getattr(value, "dtype", None)
        of = "" if dtype is None else f" of {dtype}"
        if inspect.isgenerator(value) or hasattr(value, "__next__"):
            raise Unwritable("an iterator, which cannot be rewound")
        raise Unwritable(f"a {type(value).__name__}{of}")


_DTYPES: Final = frozenset(ONNX_DTYPES) - {"string"}


def pack_bytes(value: bytes | bytearray | memoryview) -> Any:
    """Return bytes as a dump can hold them: long ones raw."""
    if len(value) <= _SHORT:
        return bytes(value)
    import numpy as np

    return _Raw(np.frombuffer(value, np.uint8))


def unpack_bytes(value: Any) -> bytes:
    """Return the bytes that `pack_bytes` was given.

    Raises:
        TypeError: They are none.
    """
    if isinstance(value, _Raw):
        return bytes(memoryview(value.data).cast("B"))
    if not isinstance(value, bytes):
        raise TypeError(f"{type(value).__name__} instead of bytes")
    return value


def unpack(value: Any, codecs: Callable[[], Codecs], makers: Sequence[Component] = ()) -> Any:
    """Return the value that `Packer.pack` was given.

    Raises:
        SnapshotError: A component does not make a value again.
    """
    kind: type = type(value)  # pyright: ignore[reportUnknownVariableType]  # of anything
    if kind in _ATOMS:
        return value
    if kind is list:
        return [unpack(one, codecs, makers) for one in value]
    if kind is tuple:
        return tuple(unpack(one, codecs, makers) for one in value)
    if kind is dict:
        return {
            unpack(key, codecs, makers): unpack(one, codecs, makers) for key, one in value.items()
        }
    if kind is _Raw:
        return unpack_bytes(value)
    if kind is _Custom:
        data = unpack_bytes(value.data)
        return decode_value(custom(value.type), 0, data, codecs=codecs())
    if kind is _Made:
        return _remade(value, codecs, makers)
    return value


def _remade(made: _Made, codecs: Callable[[], Codecs], makers: Sequence[Component]) -> Any:
    import numpy as np

    if not 0 <= made.maker < len(makers):
        raise ValueError(f"component {made.maker} of {len(makers)}")
    maker = makers[made.maker]
    # In memory of its own, as it may keep them.
    tensors = {str(name): np.array(one) for name, one in made.tensors.items()}
    state = State(tensors, unpack(made.data, codecs, makers))
    try:
        return maker.remake(state)
    except Exception as error:
        raise SnapshotError(
            f"the component of slot {maker.env.slot!r} does not make a value again that a frame "
            f"goes on with: {type(error).__name__}: {error}",
            fix="restore with the data and the configuration that it was made with",
        ) from error
