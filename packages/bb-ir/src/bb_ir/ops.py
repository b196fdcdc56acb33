"""Schemas of the ops that fill roles: what recorder, compiler and runtime all read.

An op of a role is a method of the component that fills the slot. The schema says what goes in and
comes out, which attributes it takes, and whether it may change the component. The ops that every
component of a role has stand in one table, `ROLE_OPS`; a component may declare more, and the
recorder writes the schema of such an op onto its node, so that nobody needs the component to read
it. Ops of `ai.onnx` are not listed: their schemas are those of the `onnx` package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from bb_ir import keys
from bb_ir.errors import OpSchemaError, TypeTextError
from bb_ir.types import (
    ANY,
    PARAMS,
    TRIGGER,
    Type,
    list_of,
    local,
    meet,
    parse_type,
    peers,
    record,
    scalar,
    tensor,
)

if TYPE_CHECKING:
    from onnx import NodeProto

__all__ = [
    "BATCHES",
    "ROLE_OPS",
    "Attribute",
    "OpSchema",
    "Port",
    "batch_parts",
    "ops",
    "parse_schema",
    "role_op",
    "schema_of",
]

Effect = Literal["reads", "writes"]

#: An iterable of batches; it makes sense on its own Node only. Where more is known of them, its
#: parts are the types of `inputs` and `targets` of each.
BATCHES = local("batches")

_METRICS = record()


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of an op."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of an op; without a default it is required."""

    name: str
    default: int | float | str | None = None


@dataclass(frozen=True, slots=True)
class OpSchema:
    """What an op of a role takes, gives and does.

    Attributes:
        name: The op type in the artifact, in ONNX spelling.
        method: The method of the contract that carries it out.
        inputs: Values the method is given, in order, after the context.
        outputs: Values it returns, in order; an op without any yields a trigger.
        attributes: Keyword arguments of the method.
        effect: `reads` when the method never changes what a later op of the slot sees.
        closes_round: The op takes away what a whole round built up, so it runs once a round.
    """

    name: str
    method: str
    inputs: tuple[Port, ...] = ()
    outputs: tuple[Port, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    effect: Effect = "writes"
    closes_round: bool = False

    @property
    def results(self) -> tuple[Port, ...]:
        """The outputs as recorded: a trigger stands in when the method returns nothing."""
        return self.outputs or (Port("done", TRIGGER),)

    def __str__(self) -> str:
        takes = [f"{port.name}: {port.type}" for port in self.inputs]
        takes += [a.name if a.default is None else f"{a.name}={a.default!r}"
                  for a in self.attributes]  # fmt: skip
        gives = ", ".join(f"{port.name}: {port.type}" for port in self.outputs)
        return f"{self.name}({', '.join(takes)}) -> ({gives})"

    def text(self) -> str:
        """Return what `parse_schema` reads: compact JSON without the name, in one spelling."""
        full = {
            "method": self.method,
            "inputs": [[port.name, str(port.type)] for port in self.inputs],
            "outputs": [[port.name, str(port.type)] for port in self.outputs],
            "attributes": [[a.name] if a.default is None else [a.name, a.default]
                           for a in self.attributes],
            "effect": self.effect,
            "closes_round": self.closes_round,
        }  # fmt: skip
        told = {key: value for key, value in full.items() if value != _USUAL.get(key)}
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False)


#: What a schema's text leaves out.
_USUAL: Final[Mapping[str, Any]] = {
    "inputs": [], "outputs": [], "attributes": [], "effect": "writes", "closes_round": False,
}  # fmt: skip


def ops(*schemas: OpSchema) -> MappingProxyType[str, OpSchema]:
    """Return schemas by name, checked: what a component declares as its `ops`.

    Raises:
        OpSchemaError: Two have one name, a name is none, or parameters of a method share a name.
    """
    found: dict[str, OpSchema] = {}
    for schema in schemas:
        _check(schema)
        if schema.name in found:
            raise OpSchemaError(f"two ops are called {schema.name!r}", fix="rename one of them")
        found[schema.name] = schema
    return MappingProxyType(found)


def _check(schema: OpSchema) -> None:
    given = [port.name for port in schema.inputs] + [a.name for a in schema.attributes]
    gives = [port.name for port in schema.outputs]
    for what, names in (("inputs and attributes", given), ("outputs", gives)):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise OpSchemaError(
                f"op {schema.name!r}: two {what} are called {twice[0]!r}", fix="rename one of them"
            )
    # It may have been read from what anybody wrote.
    for a in schema.attributes:
        if not isinstance(a.default, (int, float, str, type(None))):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise OpSchemaError(
                f"op {schema.name!r}: {a.name!r} cannot be {a.default!r} by default",
                expected="a number or a text",
            )
    is_flag = isinstance(schema.closes_round, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if schema.effect not in ("reads", "writes") or not is_flag:
        raise OpSchemaError(
            f"op {schema.name!r}: its effect is {schema.effect!r}", expected="'reads' or 'writes'"
        )
    for name in (schema.name, schema.method, *given, *gives):
        if not name.isidentifier() or name.startswith("_"):
            raise OpSchemaError(
                f"op {schema.name!r}: {name!r} cannot be a name",
                expected="a Python name without an underscore at its head",
            )


@lru_cache(maxsize=1024)
def parse_schema(name: str, text: str) -> OpSchema:
    """Read what `OpSchema.text` wrote.

    Raises:
        OpSchemaError: The text is no schema.
    """
    try:
        found: dict[str, Any] = {**_USUAL, **json.loads(text)}
        schema = OpSchema(
            name,
            found.pop("method"),
            tuple(Port(port, parse_type(type_)) for port, type_ in found.pop("inputs")),
            tuple(Port(port, parse_type(type_)) for port, type_ in found.pop("outputs")),
            tuple(Attribute(*pair) for pair in found.pop("attributes")),
            found.pop("effect"),
            found.pop("closes_round"),
        )
        _check(schema)
    except (TypeTextError, OpSchemaError) as error:
        raise _unreadable(name, text, error.found) from error
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(name, text, f"{type(error).__name__}: {error}") from error
    if found or schema.text() != text:
        raise _unreadable(name, text, f"it should be {schema.text()}")
    return schema


def _unreadable(name: str, text: str, why: str) -> OpSchemaError:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return OpSchemaError(
        f"the schema of op {name!r} cannot be read: {why}: {shown}",
        expected='such as {"method":"announce","outputs":[["record","record"]]}',
    )


_SHOWN: Final = 200


_X = Port("x", tensor())
_PARAMS = Port("params", PARAMS)
_METRICS_PORT = Port("metrics", _METRICS)

ROLE_OPS: MappingProxyType[str, MappingProxyType[str, OpSchema]] = MappingProxyType(
    {
        "model": ops(
            OpSchema("Forward", "forward", (_X,), (Port("y", tensor()),)),
            OpSchema("Backward", "backward", (Port("grad", tensor()),), (_X,)),
            OpSchema(
                "ComputeLoss",
                "compute_loss",
                (Port("prediction", tensor()), Port("target", tensor())),
                (Port("loss", scalar("float64")),),
            ),
            OpSchema("ApplyDelta", "apply_delta", (Port("delta", PARAMS),)),
            OpSchema("LoadParams", "load_params", (_PARAMS,)),
            OpSchema("Params", "params", (), (_PARAMS,), effect="reads"),
            OpSchema("Fit", "fit", (Port("batches", BATCHES),), (_METRICS_PORT,)),
            OpSchema(
                "Evaluate", "evaluate", (Port("batches", BATCHES),), (_METRICS_PORT,),
                effect="reads",
            ),
        ),
        "data_source": ops(
            OpSchema(
                "NextBatch", "next_batch", (), (Port("batch", tensor()), Port("labels", tensor()))
            ),
            OpSchema(
                "Batches", "batches", (), (Port("batches", BATCHES),), (Attribute("epochs", 1),)
            ),
            OpSchema("Reset", "reset"),
        ),
        "aggregator": ops(
            OpSchema("Contribute", "contribute", (_PARAMS, _METRICS_PORT)),
            OpSchema(
                "Aggregate", "aggregate", (), (_PARAMS, Port("summary", _METRICS)),
                closes_round=True,
            ),
        ),
        "peer_selector": ops(
            OpSchema(
                "Sample", "sample", (), (Port("peers", peers()),), (Attribute("n"),), "reads"
            ),
            OpSchema("CurrentView", "current_view", (), (Port("peers", peers()),), (), "reads"),
        ),
        "index": ops(
            OpSchema(
                "Add", "add", (Port("vectors", tensor()),), (Port("ids", tensor("int64")),)
            ),
            OpSchema(
                "Search",
                "search",
                (Port("queries", tensor()),),
                (Port("ids", tensor("int64")), Port("distances", tensor())),
                (Attribute("k", 10),),
                "reads",
            ),
            OpSchema("Remove", "remove", (Port("ids", tensor("int64")),)),
            OpSchema("Train", "train", (Port("samples", tensor()),)),
        ),
        "codec": ops(
            OpSchema("Train", "train", (Port("samples", list_of(ANY)),)),
            OpSchema("Encode", "encode", (Port("value", ANY),), (Port("encoded", ANY),), (),
                     "reads"),
            OpSchema("Decode", "decode", (Port("encoded", ANY),), (Port("value", ANY),), (),
                     "reads"),
        ),
        "protocol": ops(),
    }
)  # fmt: skip


def batch_parts(batches: Type) -> list[Type]:
    """Return the types of inputs and targets of each batch, as far as a type of batches tells."""
    known = dict(batches.items or ())
    return [meet(known.get(part, ANY), tensor()) or tensor() for part in ("inputs", "targets")]


def role_op(domain: str, name: str) -> OpSchema | None:
    """Return the schema of an op that every component of a role has, or `None`."""
    table = ROLE_OPS.get(keys.role_of(domain))
    return None if table is None else table.get(name)


def schema_of(node: NodeProto) -> OpSchema | None:
    """Return the schema of a node's op: from the table, else from the node; `None` without one.

    Raises:
        OpSchemaError: The node carries a schema that cannot be read.
    """
    table = ROLE_OPS.get(keys.role_of(node.domain))
    if table is None or node.op_type in table:
        return None if table is None else table[node.op_type]
    text = next((e.value for e in node.metadata_props if e.key == keys.SCHEMA), None)
    return None if text is None else parse_schema(node.op_type, text)
