"""The lattice of value types, with a text form that is written into artifacts.

A type says what a value is, as far as it is known: `tensor` is wider than `tensor(float32)`, which
is wider than `tensor(float32)[?,64]`. This module knows nothing of graphs, components or the wire.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from bb_ir.errors import TypeTextError

__all__ = [
    "ANY",
    "BYTES",
    "ONNX_DTYPES",
    "PARAMS",
    "SCALARS",
    "TRIGGER",
    "Dim",
    "Shape",
    "Type",
    "accepts",
    "custom",
    "custom_names",
    "list_of",
    "local",
    "meet",
    "params",
    "parse_type",
    "peers",
    "record",
    "scalar",
    "senders",
    "tensor",
]

#: A dimension: a length, the name of a symbolic one, or `None` when nothing is known.
Dim = int | str | None
Shape = tuple[Dim, ...]

#: Element types of tensors with their numbers in ONNX `TensorProto.DataType`.
ONNX_DTYPES: dict[str, int] = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7,
    "string": 8, "bool": 9, "float16": 10, "float64": 11, "uint32": 12, "uint64": 13,
    "bfloat16": 16,
}  # fmt: skip

#: Kinds of scalar values; each is also the kind's text.
SCALARS = ("int64", "float64", "bool", "string")


_WORD = re.compile(r"[^\s()\[\],:]+")
_LENGTH = re.compile(r"[0-9]+")
#: What ONNX can hold.
_MAX_LENGTH = (1 << 63) - 1
#: Longest text of a type that is remembered once it was read, in characters.
_MAX_REMEMBERED = 1 << 12
#: So many characters of a text that cannot be read are shown.
_SHOWN = 80
#: Name and version of a type that a plugin adds; ASCII only, so that no two look alike.
_VERSIONED = re.compile(r"[A-Za-z0-9_]+(?:[.-][A-Za-z0-9_]+)*/[1-9][0-9]*")
#: Kinds whose values mean nothing on another Node, or may.
_LOCAL = ("any", "local", "senders")
_KINDS = (
    "any", "tensor", "params", "bytes", "trigger", "peers", "senders", "list", "record", "local",
    "custom", *SCALARS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Type:
    """What is known about a value. Build one with the functions of this module.

    Attributes:
        kind: One of any, tensor, params, bytes, trigger, peers, senders, list, record, local,
            custom, or a scalar's name.
        dtype: Element type of a tensor; empty when unknown.
        shape: Dimensions of a tensor; `None` when even the rank is unknown.
        of: Class of peers or senders, or the name of a local or custom type.
        items: Item type of a list; fields of a record, entries of a parameter set, or parts of
            what a local value holds, by name; `None` when unknown.
    """

    kind: str
    dtype: str = ""
    shape: Shape | None = None
    of: str = ""
    items: tuple[tuple[str, Type], ...] | None = None

    def __str__(self) -> str:
        return _text(self)

    @property
    def sendable(self) -> bool:
        """Whether a value of this type means something on another Node.

        One of a plugin's types does, though only Nodes that have the plugin can send it.
        """
        if self.items is None or self.kind in _LOCAL:
            return self.kind not in _LOCAL and (self.kind != "custom" or self.of != "")
        for _, item in self.items:  # noqa: SIM110  # asked for every value that is sent
            if not item.sendable:
                return False
        return True

    def field(self, name: str) -> Type | None:
        """Type of a record's field, or `None` when the record is known not to have it."""
        if self.items is None:
            return ANY
        return dict(self.items).get(name)


_Items = tuple[tuple[str, Type], ...]

ANY = Type("any")
PARAMS = Type("params")
BYTES = Type("bytes")
TRIGGER = Type("trigger")


def tensor(dtype: str = "", shape: Shape | None = None) -> Type:
    """Return the type of a tensor; leave out what is not known.

    Raises:
        TypeTextError: The element type is not one of `ONNX_DTYPES`.
    """
    if dtype and dtype not in ONNX_DTYPES:
        raise TypeTextError(f"{dtype!r} is not an element type", expected=", ".join(ONNX_DTYPES))
    if shape is None:
        return Type("tensor", dtype=dtype)
    return Type("tensor", dtype=dtype, shape=tuple(_checked_dim(dim) for dim in shape))


def _checked_dim(dim: object) -> Dim:
    if dim is None:
        return dim
    if isinstance(dim, int) and not isinstance(dim, bool) and 0 <= dim <= _MAX_LENGTH:
        return dim
    if isinstance(dim, str) and dim != "?" and _WORD.fullmatch(dim) and not dim.isdecimal():
        return dim
    raise TypeTextError(
        f"{dim!r} is not a dimension", expected="a length, a name such as 'n', or None"
    )


def _checked_name(what: str, name: str) -> str:
    if name and not _WORD.fullmatch(name):
        raise TypeTextError(f"{name!r} cannot be {what}", expected="no spaces and none of ()[],:")
    return name


def scalar(kind: str) -> Type:
    """Return the type of a scalar: int64, float64, bool or string."""
    if kind not in SCALARS:
        raise TypeTextError(f"{kind!r} is not a scalar type", expected=", ".join(SCALARS))
    return Type(kind)


def params(entries: dict[str, Type]) -> Type:
    """Return the type of a parameter set whose tensors are known, in order."""
    return Type("params", items=_checked_items(entries))


def _checked_items(items: dict[str, Type]) -> _Items:
    for name in items:
        if not _checked_name("the name of a field", name):
            raise TypeTextError("a field without a name", expected="a name for each field")
    return tuple(items.items())


def peers(of: str = "") -> Type:
    """Return the type of a list of peers of one class."""
    return Type("peers", of=_checked_name("a peer class", of))


def senders(of: str = "") -> Type:
    """Return the type of a list of return addresses of one class."""
    return Type("senders", of=_checked_name("a peer class", of))


def list_of(item: Type) -> Type:
    """Return the type of a list."""
    return Type("list", items=(("", item),))


def record(fields: dict[str, Type] | None = None) -> Type:
    """Return the type of a record; without fields, of any record."""
    return Type("record", items=None if fields is None else _checked_items(fields))


def local(name: str, parts: dict[str, Type] | None = None) -> Type:
    """Return the type of a value that makes sense on its own Node only.

    Args:
        name: What kind of value it is, such as `batches`.
        parts: What is known of what it holds, such as the two tensors of each batch.

    Raises:
        TypeTextError: The name cannot be one, or parts are given without it.
    """
    items = _checked_items(parts) if parts else None
    if items is not None and not name:
        raise TypeTextError("parts of a local value without a name", expected="a name")
    return Type("local", of=_checked_name("the name of a type", name), items=items)


def custom(name: str) -> Type:
    """Return a type that a plugin adds, named with its version, such as `acme.graph/1`.

    The name is what the plugin registered, never that of a Python class: classes are renamed and
    moved, and what was sent yesterday must still be what it was. Versions are different types.

    Raises:
        TypeTextError: The name has no version, or other characters than letters, digits and `_.-`.
    """
    if name and not _VERSIONED.fullmatch(name):
        raise TypeTextError(
            f"{name!r} cannot be the name of a plugin's type",
            expected="a name and a version, such as acme.graph/1",
        )
    return Type("custom", of=name)


def custom_names(type: Type) -> tuple[str, ...]:  # noqa: A002  # it is what the argument is
    """Return the names of all types of plugins that a type mentions, in order, each once."""
    if type.kind == "custom":
        return (type.of,) if type.of else ()
    if type.kind not in ("list", "record"):  # entries of a parameter set are tensors, and many
        return ()
    inner = (name for _, item in type.items or () for name in custom_names(item))
    return tuple(dict.fromkeys(inner))


def accepts(wide: Type, narrow: Type) -> bool:
    """Whether every value of type `narrow` is also one of type `wide`.

    A symbolic dimension stands for any length, so each takes every other.
    """
    if wide.kind == "any":
        return True
    if wide.kind != narrow.kind:
        return False
    if wide.dtype not in ("", narrow.dtype) or wide.of not in ("", narrow.of):
        return False
    return _takes_shape(wide.shape, narrow.shape) and _takes_items(wide.items, narrow.items)


def meet(a: Type, b: Type) -> Type | None:
    """Return the widest type that is both, or `None` when no value can be both.

    Of two symbolic dimensions the one whose name sorts first stays.
    """
    if a.kind == "any":
        return b
    if b.kind == "any":
        return a
    if a.kind != b.kind or not _agree(a.dtype, b.dtype) or not _agree(a.of, b.of):
        return None
    try:
        shape = _meet_shapes(a.shape, b.shape)
        items = _meet_items(a.items, b.items)
    except _NeverError:
        return None
    return Type(a.kind, a.dtype or b.dtype, shape, a.of or b.of, items)


class _NeverError(Exception):
    """Two things exclude each other."""


def _agree(a: str, b: str) -> bool:
    return not a or not b or a == b


def _takes_shape(wide: Shape | None, narrow: Shape | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    same_rank = len(wide) == len(narrow)
    return same_rank and all(
        not isinstance(x, int) or x == y for x, y in zip(wide, narrow, strict=True)
    )


def _takes_items(wide: _Items | None, narrow: _Items | None) -> bool:
    if wide is None or narrow is None:
        return wide is None
    same_names = [name for name, _ in wide] == [name for name, _ in narrow]
    return same_names and all(accepts(x, y) for (_, x), (_, y) in zip(wide, narrow, strict=True))


def _meet_shapes(a: Shape | None, b: Shape | None) -> Shape | None:
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise _NeverError
    return tuple(_meet_dims(x, y) for x, y in zip(a, b, strict=True))


def _meet_dims(a: Dim, b: Dim) -> Dim:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, str):
        return min(a, b) if isinstance(b, str) else b
    if isinstance(b, int) and a != b:
        raise _NeverError
    return a


def _meet_items(a: _Items | None, b: _Items | None) -> _Items | None:
    if a is None or b is None:
        return b if a is None else a
    if [name for name, _ in a] != [name for name, _ in b]:
        raise _NeverError
    return tuple((name, _meet_or_never(x, y)) for (name, x), (_, y) in zip(a, b, strict=True))


def _meet_or_never(a: Type, b: Type) -> Type:
    met = meet(a, b)
    if met is None:
        raise _NeverError
    return met


def _text(value: Type) -> str:
    if value.kind == "tensor":
        shape = "" if value.shape is None else f"[{','.join(_dim_text(d) for d in value.shape)}]"
        return "tensor" + (f"({value.dtype})" if value.dtype else "") + shape
    if value.kind == "list":
        return f"list({value.items[0][1] if value.items else ANY})"
    if value.items is not None:
        parts = [value.of] if value.kind == "local" else []
        parts += [f"{name}:{item}" for name, item in value.items]
        return f"{value.kind}({','.join(parts)})"
    return f"{value.kind}({value.of})" if value.of else value.kind


def _dim_text(dim: Dim) -> str:
    return "?" if dim is None else str(dim)


def parse_type(text: str) -> Type:
    """Read what `str(type)` wrote.

    Raises:
        TypeTextError: The text is not a type; the error says at which character.
    """
    # A stranger may have chosen the text, so what is long is not remembered.
    known = _parse if len(text) <= _MAX_REMEMBERED else _parse.__wrapped__
    return known(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Type:
    parser = _Parser(text)
    found = parser.type()
    if parser.at != len(text):
        raise parser.wrong("the end of the text")
    return found


#: Types may stand in types this deep; the text may come from a stranger's artifact.
_MAX_DEPTH = 16


class _Parser:
    """Recursive descent over the text form; one method per rule."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.depth = 0

    def wrong(self, expected: str) -> TypeTextError:
        text = self.text
        if len(text) > _SHOWN:
            text = f"...{text[max(self.at - _SHOWN // 2, 0) : self.at + _SHOWN // 2]}..."
        return TypeTextError(f"{text!r} breaks off at character {self.at}", expected=expected)

    def word(self) -> str:
        match = _WORD.match(self.text, self.at)
        if match is None:
            raise self.wrong("a name")
        self.at = match.end()
        return match.group()

    def take(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += len(mark)
        return True

    def need(self, mark: str) -> None:
        if not self.take(mark):
            raise self.wrong(repr(mark))

    def type(self) -> Type:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.wrong(f"types at most {_MAX_DEPTH} deep")
        found = self.kind()
        self.depth -= 1
        return found

    def kind(self) -> Type:
        kind = self.word()
        if kind == "tensor":
            return self.tensor()
        if kind in SCALARS or kind in ("any", "bytes", "trigger"):
            return Type(kind)
        if kind in ("peers", "senders"):
            return Type(kind, of=self.argument())
        if kind == "local":
            return self.local()
        if kind == "custom":
            return custom(self.argument())
        if kind in ("record", "params"):
            return Type(kind, items=self.fields())
        if kind == "list":
            self.need("(")
            item = self.type()
            self.need(")")
            return list_of(item)
        raise TypeTextError(f"{kind!r} is not a kind of type", expected=", ".join(_KINDS))

    def argument(self) -> str:
        if not self.take("("):
            return ""
        word = self.word()
        self.need(")")
        return word

    def local(self) -> Type:
        if not self.take("("):
            return Type("local")
        name = self.word()
        if self.take(","):
            return Type("local", of=name, items=self.rest() or None)
        self.need(")")
        return Type("local", of=name)

    def tensor(self) -> Type:
        dtype = self.argument()
        return tensor(dtype, self.shape() if self.take("[") else None)

    def shape(self) -> Shape:
        dims: list[Dim] = []
        while not self.take("]"):
            word = self.word()
            dims.append(self.dim(word))
            if not self.take(","):
                self.need("]")
                break
        return tuple(dims)

    def dim(self, word: str) -> Dim:
        if not _LENGTH.fullmatch(word):
            return None if word == "?" else word
        # Longer ones are no lengths, and take Python long to read.
        if len(word) > len(str(_MAX_LENGTH)) or int(word) > _MAX_LENGTH:
            raise self.wrong(f"a length up to {_MAX_LENGTH}")
        return int(word)

    def fields(self) -> _Items | None:
        return self.rest() if self.take("(") else None

    def rest(self) -> _Items:
        fields: list[tuple[str, Type]] = []
        while not self.take(")"):
            name = self.word()
            self.need(":")
            fields.append((name, self.type()))
            if not self.take(","):
                self.need(")")
                break
        return tuple(fields)
