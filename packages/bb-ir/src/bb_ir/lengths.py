"""What the names in the types of one op's ports stand for.

Within one op a name is one length: an op that takes vectors `[n,d]` and returns ids `[n]` gives as
many ids as it was given vectors. A name that is also a whole-number attribute of the op stands for
its value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from bb_ir.types import ANY, Dim, Type

__all__ = ["Lengths"]


class Lengths:
    """The lengths of one op, as far as its attributes and inputs tell them.

    Args:
        attributes: Its attributes that are whole numbers, by name.
    """

    def __init__(self, attributes: Mapping[str, int]) -> None:
        self.known: dict[str, Dim] = {**attributes}
        self._open: set[str] = set()

    def fill(self, port: Type) -> Type:
        """Return a port's type with what is known in place of names; others stay."""
        return _replaced(port, self.known)

    def learn(self, port: Type, given: Type) -> None:
        """Note what the names in an input's type stand for, as far as the given value says."""
        for name, dim in _pairs(port, given):
            if isinstance(dim, int) or name not in self.known:
                self._open.add(name)
                if dim is not None:
                    self.known[name] = dim

    def result(self, port: Type) -> Type:
        """Return the type of a result; names that inputs left open stand for nothing known."""
        return _replaced(port, {**dict.fromkeys(self._open), **self.known})


def _pairs(port: Type, given: Type) -> Iterator[tuple[str, Dim]]:
    """Yield the names in a type with the dimensions that stand there in another one."""
    shape = given.shape or ()
    for at, name in enumerate(port.shape or ()):
        if isinstance(name, str):
            yield name, shape[at] if at < len(shape) else None
    others = dict(given.items or ())
    for entry, item in port.items or ():
        yield from _pairs(item, others.get(entry, ANY))


def _replaced(port: Type, known: Mapping[str, Dim]) -> Type:
    shape, items = port.shape, port.items
    if shape is not None:
        shape = tuple(known.get(d, d) if isinstance(d, str) else d for d in shape)
    if items is not None:
        items = tuple((name, _replaced(item, known)) for name, item in items)
    return replace(port, shape=shape, items=items)
