"""Schemas of the ops that fill roles: one table that recorder, compiler and runtime all read.

An op of a role is a method of the component that fills the slot. The schema says what goes in and
comes out, which attributes it takes, and whether it may change the component. Ops of `ai.onnx` are
not listed: their schemas are those of the `onnx` package.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from bb_ir import keys
from bb_ir.types import (
    ANY,
    PARAMS,
    TRIGGER,
    Type,
    list_of,
    local,
    peers,
    record,
    scalar,
    tensor,
)

__all__ = ["BATCHES", "ROLE_OPS", "Attribute", "OpSchema", "Port", "role_op"]

Effect = Literal["reads", "writes"]

#: An iterable of batches; it makes sense on its own Node only.
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


def _ops(*schemas: OpSchema) -> MappingProxyType[str, OpSchema]:
    return MappingProxyType({schema.name: schema for schema in schemas})


_X = Port("x", tensor())
_PARAMS = Port("params", PARAMS)
_METRICS_PORT = Port("metrics", _METRICS)

ROLE_OPS: MappingProxyType[str, MappingProxyType[str, OpSchema]] = MappingProxyType(
    {
        "model": _ops(
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
        "data_source": _ops(
            OpSchema(
                "NextBatch", "next_batch", (), (Port("batch", tensor()), Port("labels", tensor()))
            ),
            OpSchema(
                "Batches", "batches", (), (Port("batches", BATCHES),), (Attribute("epochs", 1),)
            ),
            OpSchema("Reset", "reset"),
        ),
        "aggregator": _ops(
            OpSchema("Contribute", "contribute", (_PARAMS, _METRICS_PORT)),
            OpSchema(
                "Aggregate", "aggregate", (), (_PARAMS, Port("summary", _METRICS)),
                closes_round=True,
            ),
        ),
        "peer_selector": _ops(
            OpSchema(
                "Sample", "sample", (), (Port("peers", peers()),), (Attribute("n"),), "reads"
            ),
            OpSchema("CurrentView", "current_view", (), (Port("peers", peers()),), (), "reads"),
        ),
        "index": _ops(
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
        "codec": _ops(
            OpSchema("Train", "train", (Port("samples", list_of(ANY)),)),
            OpSchema("Encode", "encode", (Port("value", ANY),), (Port("encoded", ANY),), (),
                     "reads"),
            OpSchema("Decode", "decode", (Port("encoded", ANY),), (Port("value", ANY),), (),
                     "reads"),
        ),
        "protocol": _ops(),
    }
)  # fmt: skip


def role_op(domain: str, name: str) -> OpSchema | None:
    """Return the schema of a role's op, or `None` when there is no such op."""
    ops = ROLE_OPS.get(keys.role_of(domain))
    return None if ops is None else ops.get(name)
