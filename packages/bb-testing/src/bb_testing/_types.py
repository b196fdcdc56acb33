"""Holds what a component says of the types of its values against values that it gave.

What it declares must hold for every value, and what it infers also where the compiler knows less
of the inputs than there is to know: their lengths by name only, or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from bb_ir.ops import BATCHES, ROLE_OPS, OpSchema, batch_parts
from bb_ir.params import ParameterSet
from bb_ir.type_texts import brief
from bb_ir.types import (
    ANY,
    BYTES,
    TRIGGER,
    Type,
    accepts,
    list_of,
    parse_type,
    record,
    scalar,
    tensor,
)
from bb_roles import Batches, Component
from bb_roles.contracts import CONTRACTS

__all__ = ["check_types", "type_of"]

_PLAIN: Mapping[type, str] = {int: "int64", float: "float64", bool: "bool", str: "string"}
Lengths = dict[str, int]


def check_types(
    component: Component,
    op: str,
    given: Sequence[Any],
    results: Sequence[Any],
    *,
    folded: Sequence[Any] = (),
) -> None:
    """Assert that an op's values are of the types that its component declares and infers.

    Args:
        component: The component.
        op: Name of the op, one of its role.
        given: What the op was given.
        results: What it gave.
        folded: For an op that ends a round, what was contributed to it.
    """
    schema = _schema(component, op)
    cls, config = type(component), getattr(component, "config", None)
    declared = {port: parse_type(text) for port, text in cls.value_types(config).items()}
    lengths: Lengths = {}
    for port, value in zip(schema.inputs, given, strict=True):
        known = declared.get(f"{op}.{port.name}", ANY)
        _check(known, value, lengths, f"value_types says that {op} takes {port.name!r} as")
    for port, value in zip(schema.results, results, strict=True):
        known = declared.get(f"{op}.{port.name}", ANY)
        _check(known, value, lengths, f"value_types says that {op} gives {port.name!r} as")
    exact = tuple(type_of(value) for value in (*given, *folded))
    for inputs in (exact, tuple(map(_named, exact)), (ANY,) * len(exact)):
        lengths = {}
        for wide, value in zip(inputs, (*given, *folded), strict=True):
            _fits(wide, value, lengths)
        inferred = cls.infer_types(config, op, inputs) or {}
        odd = sorted(inferred.keys() - {port.name for port in schema.results})
        assert not odd, f"infer_types gives a type of {odd[0]!r}, which {op} does not give"
        said = f"infer_types says, given {', '.join(map(brief, inputs)) or 'nothing'}, that {op}"
        for port, value in zip(schema.results, results, strict=True):
            known = inferred.get(port.name, ANY)
            assert isinstance(known, Type), f"infer_types gives {known!r}, which is no Type"
            _check(known, value, lengths, f"{said} gives {port.name!r} as")


def type_of(value: object) -> Type:
    """Return the narrowest type of a value; `any` for what has none."""
    if type(value) in _PLAIN:
        return scalar(_PLAIN[type(value)])
    if value is None:
        return TRIGGER
    if isinstance(value, bytes):
        return BYTES
    if isinstance(value, ParameterSet):
        return value.layout.type
    if isinstance(value, Batches):
        return BATCHES
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, object]", value)
        return record({name: type_of(field) for name, field in fields.items()})
    if isinstance(value, list | tuple):
        kinds = {type_of(item) for item in cast("list[object]", value)}
        return list_of(kinds.pop() if len(kinds) == 1 else ANY)
    shape: Any = getattr(value, "shape", None)
    dtype: Any = getattr(value, "dtype", None)
    return ANY if shape is None or dtype is None else tensor(dtype.name, tuple(shape))


def _schema(component: Component, op: str) -> OpSchema:
    role = next(role for role, contract in CONTRACTS.items() if isinstance(component, contract))
    return ROLE_OPS[role][op]


def _named(known: Type) -> Type:
    """Return the type of a tensor with names in place of its lengths; all else as it is."""
    if known.shape is None:
        return known
    return replace(known, shape=tuple(f"length_{axis}" for axis in range(len(known.shape))))


def _check(known: Type, value: Any, lengths: Lengths, said: str) -> None:
    assert _fits(known, value, lengths), f"{said} {brief(known)}; it is {brief(_shown(value))}"


def _shown(value: Any) -> Type:
    if not isinstance(value, Batches):
        return type_of(value)
    return list_of(
        record(dict(zip(("inputs", "targets"), map(type_of, next(iter(value))), strict=True)))
    )


def _fits(known: Type, value: Any, lengths: Lengths) -> bool:
    """Whether a value is of a type in which one name stands for one length."""
    if isinstance(value, Batches) and (known.kind, known.of) == (BATCHES.kind, BATCHES.of):
        return all(
            _fits(part, array, batch)
            for arrays, batch in ((arrays, dict(lengths)) for arrays in value)
            for part, array in zip(batch_parts(known), arrays, strict=True)
        )
    found = type_of(value)
    return accepts(known, found) and all(
        lengths.setdefault(name, length) == length for name, length in _pairs(known, found)
    )


def _pairs(known: Type, found: Type) -> Iterator[tuple[str, int]]:
    """Yield the names in a type with the lengths that stand there in that of a value."""
    for name, length in zip(known.shape or (), found.shape or (), strict=False):
        if isinstance(name, str) and isinstance(length, int):
            yield name, length
    for (_, inner), (_, other) in zip(known.items or (), found.items or (), strict=False):
        yield from _pairs(inner, other)
