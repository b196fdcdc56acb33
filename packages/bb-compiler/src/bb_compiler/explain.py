"""What is in an artifact, as plain data for people and tools.

`explain` reads a compiled model; `trace` also runs the stages and says what each one changed. This
module reads and never writes: how it looks on a screen is the command line's business.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from onnx import FunctionProto, ModelProto, NodeProto, StringStringEntryProto

from bb_compiler.errors import CompileError
from bb_compiler.passes import Pass
from bb_ir import keys, onnx_tools
from bb_ir.types import Type, parse_type

__all__ = [
    "Binding",
    "EdgeInfo",
    "Explanation",
    "NotAnArtifact",
    "OpInfo",
    "PortInfo",
    "RegionInfo",
    "StageInfo",
    "TargetInfo",
    "explain",
    "trace",
]

_BYTES = {"int64": 8, "float64": 8, "bool": 1, "trigger": 0}
_DTYPE_BITS = {"bool": 8, "bfloat16": 16}
#: Longer lists are shown by their kind only.
_LONGEST = 16


class NotAnArtifact(CompileError):
    """A model that was recorded and not compiled, or that is none of ours."""


@dataclass(frozen=True, slots=True)
class PortInfo:
    """One value that an op reads or gives, or that an edge carries."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class OpInfo:
    """One op of a region.

    Attributes:
        name: The op type.
        domain: The op's domain.
        slot: Slot it runs on; empty for ops of the framework.
        inputs: Values it reads.
        outputs: Values it gives.
        attributes: Its attributes, apart from large ones.
        placed: How its place was found: `inputs`, `cursor` or `at`; empty when a pass made it.
        after: Values that must exist first, though it does not read them.
        order: Ops of its slot that must have run, each by its first output.
        source: The user's file and line.
    """

    name: str
    domain: str
    slot: str
    inputs: tuple[str, ...]
    outputs: tuple[PortInfo, ...]
    attributes: dict[str, Any]
    placed: str
    after: tuple[str, ...]
    order: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """What one event starts.

    Attributes:
        name: `main`, or the edge whose envelope opens it.
        parent: Region whose frames its frames are children of, or empty.
        deadline_ns: How long a frame may take.
        ops: Its ops in the order in which they stand.
    """

    name: str
    parent: str
    deadline_ns: int
    ops: tuple[OpInfo, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """The component in a slot."""

    slot: str
    role: str
    component: str


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """One installable function.

    Attributes:
        name: Name without hash, as `install` and `invoke` take it.
        hash: SHA-256 of its content, in hex.
        peer_class: Class of the peers that run it.
        phase: `body` or `bootstrap`.
        inputs: What `invoke` must be given.
        outputs: What it publishes.
        bindings: Its slots.
        regions: Its regions.
    """

    name: str
    hash: str
    peer_class: str
    phase: str
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]
    bindings: tuple[Binding, ...]
    regions: tuple[RegionInfo, ...]


@dataclass(frozen=True, slots=True)
class EdgeInfo:
    """One network edge.

    Attributes:
        name: Its name in the program.
        id: The number that travels, in hex.
        source_class: Class that sends.
        target_class: Class that receives.
        answers: Edge whose return addresses it is sent to, or empty.
        ports: What it carries.
        payload_bytes: Bytes of one envelope's values, when all shapes are known.
        deadline_ns: How long an answer may take.
        source: The user's file and line.
    """

    name: str
    id: str
    source_class: str
    target_class: str
    answers: str
    ports: tuple[PortInfo, ...]
    payload_bytes: int | None
    deadline_ns: int
    source: str


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One stage that ran, and what it changed: `None` when only its name is known."""

    name: str
    changes: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """An artifact.

    Attributes:
        module: Name of the recorded Module.
        program: SHA-256 of the program without bindings, in hex.
        targets: What can be installed.
        edges: What goes over the network, requests before their answers.
        stages: The stages that made it, in order.
    """

    module: str
    program: str
    targets: tuple[TargetInfo, ...]
    edges: tuple[EdgeInfo, ...]
    stages: tuple[StageInfo, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return dataclasses.asdict(self)


def explain(model: ModelProto) -> Explanation:
    """Read a compiled model.

    Raises:
        NotAnArtifact: The model was not compiled by this version.
    """
    _check(model)
    meta = onnx_tools.metadata(model)
    stages = [name for name in meta.get(keys.STAGES, "").split(",") if name]
    return Explanation(
        module=meta.get(keys.ROOT, model.graph.name),
        program=meta.get(keys.PROGRAM, ""),
        targets=tuple(_target(f, meta) for f in model.functions),
        edges=_edges(json.loads(meta.get(keys.EDGES, "[]"))),
        stages=tuple(StageInfo(name) for name in stages),
    )


def trace(
    model: ModelProto, stages: Iterable[tuple[str, Pass]]
) -> tuple[ModelProto, tuple[StageInfo, ...]]:
    """Run stages one by one; return the last model, and what each of them changed.

    Raises:
        CompileError: The program breaks a rule.
    """
    ran: list[StageInfo] = []
    for name, stage in stages:
        after = stage(model)
        ran.append(StageInfo(name, _changes(model, after)))
        model = after
    return model, tuple(ran)


def _check(model: ModelProto) -> None:
    version = onnx_tools.get_meta(model, keys.COMPILED)
    if version != keys.COMPILED_VERSION:
        what = f"was compiled for {version!r}" if version else "has no passport"
        raise NotAnArtifact(
            f"the model {what}",
            expected=f"an artifact of version {keys.COMPILED_VERSION!r}",
            fix="compile it: Compiler().bind_...().compile(MyModule().build()), or `bb compile`",
        )


def _target(function: FunctionProto, meta: dict[str, str]) -> TargetInfo:
    own = onnx_tools.metadata(function)
    types = onnx_tools.types_of(function)
    prefix = f"{keys.BINDING}{function.name}/"
    rows = {key.removeprefix(prefix): v for key, v in meta.items() if key.startswith(prefix)}
    bindings = (Binding(slot, *row.split("|")[:2]) for slot, row in sorted(rows.items()))
    regions = json.loads(own.get(keys.REGIONS, "[]"))
    return TargetInfo(
        name=function.name.partition("#")[0],
        hash=meta.get(keys.HASH + function.name, ""),
        peer_class=own.get(keys.CLASS, ""),
        phase=own.get(keys.PHASE, "body"),
        inputs=_ports(function.input, types),
        outputs=_ports(function.output, types),
        bindings=tuple(bindings),
        regions=tuple(_region(region, function, types) for region in regions),
    )


def _region(region: dict[str, Any], function: FunctionProto, types: dict[str, Type]) -> RegionInfo:
    name = region["name"]
    here = (n for n in function.node if onnx_tools.get_meta(n, keys.REGION) == name)
    ops = tuple(_op(node, types) for node in here)
    return RegionInfo(name, region["parent"], region["deadline_ns"], ops)


def _op(node: NodeProto, types: dict[str, Type]) -> OpInfo:
    meta = onnx_tools.metadata(node)
    return OpInfo(
        name=node.op_type,
        domain=node.domain or keys.ONNX,
        slot=meta.get(keys.SLOT, ""),
        inputs=tuple(node.input),
        outputs=_ports(node.output, types),
        attributes={n: _plain(v) for n, v in onnx_tools.attributes(node).items()},
        placed=meta.get(keys.PLACED, ""),
        after=tuple(onnx_tools.meta_list(node, keys.AFTER)),
        order=tuple(onnx_tools.meta_list(node, keys.ORDER)),
        source=meta.get(keys.SOURCE, ""),
    )


def _ports(names: Iterable[str], types: dict[str, Type]) -> tuple[PortInfo, ...]:
    return tuple(PortInfo(name, str(types.get(name, "any"))) for name in names)


def _plain(value: Any) -> Any:
    """Return an attribute as JSON can hold it; large ones and arrays by their kind and shape."""
    if isinstance(value, str | int | float | bool):
        return value
    known: Any = value  # the type checkers would know less after the next line
    if isinstance(value, list) and len(known) <= _LONGEST:
        return [_plain(item) for item in known]
    shape: Any = getattr(known, "shape", None)
    return f"{type(known).__name__}{'' if shape is None else list(shape)}"


def _edges(rows: Sequence[dict[str, Any]]) -> tuple[EdgeInfo, ...]:
    """Return the edges, each after the one that it answers."""
    depth = {row["name"]: row["answers"] for row in rows}

    def chain(name: str) -> int:
        return 1 + chain(depth[name]) if depth.get(name) else 0

    return tuple(_edge(row) for row in sorted(rows, key=lambda row: chain(row["name"])))


def _edge(row: dict[str, Any]) -> EdgeInfo:
    sizes = [_size(parse_type(text)) for _, text in row["ports"]]
    return EdgeInfo(
        name=row["name"],
        id=row["id"],
        source_class=row["from"],
        target_class=row["to"],
        answers=row["answers"],
        ports=tuple(PortInfo(name, text) for name, text in row["ports"]),
        payload_bytes=sum(s for s in sizes if s is not None) if None not in sizes else None,
        deadline_ns=row["deadline_ns"],
        source=row.get("source", ""),
    )


def _size(value: Type) -> int | None:
    """Return the bytes of a value's data, when its type says them."""
    if value.kind in _BYTES:
        return _BYTES[value.kind]
    if value.kind == "tensor" and value.dtype and value.shape is not None:
        dims = [dim for dim in value.shape if isinstance(dim, int)]
        digits = "".join(c for c in value.dtype if c.isdigit())
        bits = _DTYPE_BITS.get(value.dtype) or int(digits or 0)
        return prod(dims) * bits // 8 if bits and len(dims) == len(value.shape) else None
    if value.kind in ("record", "params") and value.items is not None:
        sizes = [_size(item) for _, item in value.items]
        return None if None in sizes else sum(s for s in sizes if s is not None)
    return None


def _changes(before: ModelProto, after: ModelProto) -> tuple[str, ...]:
    """Say in words what differs between two models; nothing when they are equal."""
    if before.SerializeToString(deterministic=True) == after.SerializeToString(deterministic=True):
        return ()
    counts = (
        ("functions", len(before.functions), len(after.functions)),
        ("ops", _count(before), _count(after)),
    )
    said = [f"{b} -> {a} {what}" for what, b, a in counts if a != b]
    for where, old, new in (
        ("ops", _notes_of_ops(before), _notes_of_ops(after)),
        ("functions", _notes_of_functions(before), _notes_of_functions(after)),
        ("the model", _notes(before.metadata_props), _notes(after.metadata_props)),
    ):
        said += _differences(where, old, new)
    old_types, new_types = _types(before), _types(after)
    if any(old_types[name] != new_types.get(name, old_types[name]) for name in old_types):
        said.append("narrows types of values")
    if before.graph != after.graph:
        said.append("draws the main graph")
    return tuple(said)


def _differences(where: str, old: dict[str, set[str]], new: dict[str, set[str]]) -> list[str]:
    stamped = sorted(new.keys() - old.keys())
    removed = sorted(old.keys() - new.keys())
    changed = sorted(key for key in old.keys() & new.keys() if new[key] - old[key])
    return [
        f"{verb} {', '.join(names)} {on} {where}"
        for verb, names, on in (
            ("stamps", stamped, "on"), ("removes", removed, "from"), ("completes", changed, "on")
        )
        if names
    ]  # fmt: skip


def _count(model: ModelProto) -> int:
    return sum(len(function.node) for function in model.functions)


def _notes_of_ops(model: ModelProto) -> dict[str, set[str]]:
    return _notes(p for f in model.functions for n in f.node for p in n.metadata_props)


def _notes_of_functions(model: ModelProto) -> dict[str, set[str]]:
    return _notes(p for f in model.functions for p in f.metadata_props)


def _notes(entries: Iterable[StringStringEntryProto]) -> dict[str, set[str]]:
    """Return all values of each kind of metadata."""
    found: dict[str, set[str]] = {}
    for entry in entries:
        kind = entry.key.removeprefix(keys.PREFIX).partition(".")[0]
        found.setdefault(kind, set()).add(entry.value)
    return found


def _types(model: ModelProto) -> dict[str, str]:
    values = (onnx_tools.types_of(f) for f in model.functions)
    return {name: str(type_) for types in values for name, type_ in types.items()}
