"""A compiled model, read once into plain data that many Nodes can share.

After this module nothing touches protobuf. It checks the passport and the tables that the
compiler wrote; whether components exist is install's business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir import keys
from bb_ir.errors import SourceLine
from bb_ir.types import Type, parse_type
from bb_runtime.errors import (
    IncompatibleCompiledVersion,
    InvalidArtifact,
    InvalidBindingTable,
    NotCompiled,
    SlotBindingConflict,
    UnknownTarget,
)

if TYPE_CHECKING:
    from onnx import FunctionProto, ModelProto, NodeProto

__all__ = ["Artifact", "Edge", "Op", "RegionInfo", "Row", "Target", "load_artifact"]


@dataclass(frozen=True, slots=True)
class Op:
    """One op of a target."""

    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    region: str
    slot: str
    scope: str
    edge: str
    after: tuple[str, ...]
    order: tuple[str, ...]
    source: SourceLine | None


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One region of a target."""

    name: str
    parent: str
    opened_in: str
    answers: str
    deadline_ns: int


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the binding table."""

    slot: str
    role: str
    component: str


@dataclass(frozen=True, slots=True)
class Edge:
    """One network edge, as every Node of the artifact knows it.

    Attributes:
        name: Compile-time name.
        id: The 64-bit number that travels.
        source_class: Class of the peers that may send it.
        target_class: Class of the peers that receive it.
        sent_in: Region that sends it.
        parent: Region whose frames its frames are children of; empty when it opens root frames.
        answers: Edge whose return addresses it is sent to.
        answered: Whether another edge answers it, so that it must carry a return address.
        ports: Name and type of each value, in order.
        deadline_ns: How long an answer may take.
    """

    name: str
    id: int
    source_class: str
    target_class: str
    sent_in: str
    parent: str
    answers: str
    answered: bool
    ports: tuple[tuple[str, Type], ...]
    deadline_ns: int


@dataclass(frozen=True)
class Target:
    """One installable function."""

    name: str
    short: str
    cls: str
    phase: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    regions: tuple[RegionInfo, ...]
    types: dict[str, Type]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Artifact:
    """A compiled program.

    Attributes:
        program: SHA-256 of the program, without bindings, in hex.
        targets: Targets by full name.
        edges: Edges by name.
        slots: What was declared about each slot: its role, and for a peer selector the class
            `of` the peers it selects.
        programs: Kept by whoever prepares a target for running; no part of the artifact.
    """

    program: str
    targets: dict[str, Target]
    edges: dict[str, Edge]
    slots: dict[str, dict[str, str]]
    programs: dict[str, object] = field(
        default_factory=dict[str, object], repr=False, compare=False
    )

    def target(self, name: str) -> Target:
        """Return a target by its full name, or by the part before `#`.

        Raises:
            UnknownTarget: There is none of that name.
        """
        if name in self.targets:
            return self.targets[name]
        for target in self.targets.values():
            if target.short == name:
                return target
        raise UnknownTarget(
            f"the artifact has no target {name!r}",
            expected=f"one of {', '.join(t.short for t in self.targets.values())}",
            fix="name a target as `bb explain` lists it",
        )

    @cached_property
    def edges_by_id(self) -> dict[int, Edge]:
        """Edges by the number that travels."""
        return {edge.id: edge for edge in self.edges.values()}

    @property
    def classes(self) -> tuple[str, ...]:
        """All peer classes."""
        return tuple(dict.fromkeys(target.cls for target in self.targets.values()))


def load_artifact(source: ModelProto | Artifact | bytes | str | Path) -> Artifact:
    """Read a compiled model from a message, a file or its bytes.

    Raises:
        InstallError: It is not a compiled model of a version that this runtime understands.
    """
    if isinstance(source, Artifact):
        return source
    model = _model(source)
    _check_passport(model)
    from bb_ir import onnx_tools

    meta = onnx_tools.metadata(model)
    rows = _rows(model)
    try:
        targets = {f.name: _target(f, rows.get(f.name, ())) for f in model.functions}
        edges = {e.name: e for e in map(_edge, json.loads(meta[keys.EDGES]))}
        program = meta[keys.PROGRAM]
        bytes.fromhex(program)
        slots = json.loads(meta[keys.SLOTS])
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidArtifact(
            f"the artifact's tables cannot be read: {type(error).__name__}: {error}",
            expected="what this version's compiler writes",
            fix="compile the program again",
        ) from error
    return Artifact(program, targets, edges, slots)


def _model(source: ModelProto | bytes | str | Path) -> ModelProto:
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    if isinstance(source, ModelProto):
        return source
    name = "the bytes given" if isinstance(source, bytes) else str(source)
    try:
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        return ModelProto.FromString(data)
    except FileNotFoundError as error:
        raise InvalidArtifact(f"there is no file {name}", fix="check the path") from error
    except (DecodeError, OSError) as error:
        raise InvalidArtifact(
            f"{name} cannot be read as an ONNX model: {error}",
            fix="compile the program again with `bb compile`",
        ) from error


def _check_passport(model: ModelProto) -> None:
    from bb_ir import onnx_tools

    version = onnx_tools.get_meta(model, keys.COMPILED)
    if not version:
        raise NotCompiled(
            "the model has no passport",
            expected="what Compiler().compile(...) returned",
            fix="compile it: Compiler().bind_...().compile(MyModule().build()), or `bb compile`",
        )
    if version != keys.COMPILED_VERSION:
        raise IncompatibleCompiledVersion(
            f"the artifact was compiled for {version!r}",
            expected=repr(keys.COMPILED_VERSION),
            fix="compile it again with this version",
        )


def _rows(model: ModelProto) -> dict[str, tuple[Row, ...]]:
    found: dict[str, dict[str, Row]] = {}
    for entry in model.metadata_props:
        if not entry.key.startswith(keys.BINDING):
            continue
        target, slash, slot = entry.key.removeprefix(keys.BINDING).partition("/")
        parts = entry.value.split("|")
        if not slash or not slot or len(parts) != 3 or parts[0] not in keys.ROLES:
            raise InvalidBindingTable(
                f"{entry.key} = {entry.value!r}",
                expected="binding.<target>/<slot> = <role>|<component>|<slot id or -1>",
                fix="compile the program again",
            )
        rows = found.setdefault(target, {})
        if slot in rows:
            raise SlotBindingConflict(
                f"slot {slot!r} of {target} has two rows: {rows[slot].component} and {parts[1]}",
                fix="compile the program again",
            )
        rows[slot] = Row(slot, parts[0], parts[1])
    return {target: tuple(rows.values()) for target, rows in found.items()}


def _target(function: FunctionProto, rows: tuple[Row, ...]) -> Target:
    from bb_ir import onnx_tools

    meta = onnx_tools.metadata(function)
    regions = json.loads(meta[keys.REGIONS])
    return Target(
        name=function.name,
        short=function.name.partition("#")[0],
        cls=meta[keys.CLASS],
        phase=meta.get(keys.PHASE, "body"),
        inputs=tuple(function.input),
        outputs=tuple(function.output),
        ops=tuple(_op(node) for node in function.node),
        regions=tuple(
            RegionInfo(r["name"], r["parent"], r["opened_in"], r["answers"], r["deadline_ns"])
            for r in regions
        ),
        types=onnx_tools.types_of(function),
        rows=rows,
    )


def _op(node: NodeProto) -> Op:
    from bb_ir import onnx_tools

    meta = onnx_tools.metadata(node)

    def listed(key: str) -> tuple[str, ...]:
        return tuple(meta[key].split(",")) if key in meta else ()

    source = meta.get(keys.SOURCE)
    return Op(
        domain=node.domain or keys.ONNX,
        name=node.op_type,
        inputs=tuple(node.input),
        outputs=tuple(node.output),
        attributes=onnx_tools.attributes(node),
        region=meta[keys.REGION],
        slot=meta.get(keys.SLOT, ""),
        scope=meta.get(keys.SCOPE, ""),
        edge=meta.get(keys.EDGE, ""),
        after=listed(keys.AFTER),
        order=listed(keys.ORDER),
        source=SourceLine.parse(source) if source else None,
    )


def _edge(row: dict[str, Any]) -> Edge:
    return Edge(
        name=row["name"],
        id=int(row["id"], 16),
        source_class=row["from"],
        target_class=row["to"],
        sent_in=row["sent_in"],
        parent=row["parent"],
        answers=row["answers"],
        answered=row["answered"],
        ports=tuple((name, parse_type(type_)) for name, type_ in row["ports"]),
        deadline_ns=row["deadline_ns"],
    )
