"""A compiled model, read once into plain data that many Nodes can share.

After this module nothing touches protobuf. It checks the passport and the tables that the
compiler wrote; whether components exist is install's business.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir import keys
from bb_ir.errors import OpSchemaError, SourceLine, TypeTextError, did_you_mean
from bb_ir.external_data import ExternalDataError, has_external_data, read_in
from bb_ir.ops import OpSchema, schema_of
from bb_ir.plugin_ops import plugin_schema
from bb_ir.types import Type, parse_type
from bb_roles.fused import FusedGraph
from bb_runtime._misread import MISREAD
from bb_runtime._tables import slots_of, text_of, truth_of, whole_of
from bb_runtime.errors import (
    IncompatibleCompiledVersion,
    InstallError,
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
    """One op of a target.

    Attributes:
        graph: Of a call that stands for several tensor ops, these as its backend is given them.
        inner: The same ops as they were recorded, in the order of the graph's nodes.
        declared: Of an op that a plugin carries out, the schema that it was recorded with.
    """

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
    schema: OpSchema | None = None
    opens: str = ""
    graph: FusedGraph | None = None
    inner: tuple[Op, ...] = ()
    declared: OpSchema | None = None


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """One region of a target."""

    name: str
    parent: str
    opened_in: str
    answers: str
    deadline_ns: int
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the binding table.

    Attributes:
        slot: Name of the slot.
        role: Role of the slot.
        component: What fills it, as plugins are named or as `module:Class`.
        config: JSON of the configuration that the program was compiled with; may be empty.
        value_types: JSON of the types of its values that follow from it; may be empty.
        inferred: JSON of what follows for ops from it and the types of what they are given: by op,
            pairs of types of inputs and types of outputs by port; may be empty. It is about the
            ops of one class, so rows that differ in nothing else are equal.
    """

    slot: str
    role: str
    component: str
    config: str = ""
    value_types: str = ""
    inferred: str = field(default="", compare=False)


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
        max_payload: Longest payload of one envelope; 0 where the Node's option decides.
        retries: How often an envelope is sent again until the peer says that it came.
        backoff_ns: How long to wait before that while the peer's round trips are not known.
        granted: Whether its return addresses carry grants that answers bring back.
        auto: Whether an answer on it is given up when it takes longer than they usually do.
        replies: How often a peer answers on it.
        ordered: Whether what a peer sends on it is opened in the order in which it was sent.
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
    max_payload: int = 0
    retries: int = 0
    backoff_ns: int = 10**9
    granted: bool = False
    auto: bool = False
    replies: int = 1
    ordered: bool = False


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
        hashes: SHA-256 of each target by its full name, in hex.
        data: The bytes of the model that it was read from.
        programs: Kept by whoever prepares a target for running; no part of the artifact.
    """

    program: str
    targets: dict[str, Target]
    edges: dict[str, Edge]
    slots: dict[str, dict[str, str]]
    hashes: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    data: bytes = field(default=b"", repr=False, compare=False)
    programs: dict[object, object] = field(
        default_factory=dict[object, object], repr=False, compare=False
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
            fix=did_you_mean(name, [target.short for target in self.targets.values()])
            or "name a target as `bb explain` lists it",
        )

    @cached_property
    def edges_by_id(self) -> dict[int, Edge]:
        """Edges by the number that travels."""
        return {edge.id: edge for edge in self.edges.values()}

    @property
    def classes(self) -> tuple[str, ...]:
        """All peer classes."""
        return tuple(dict.fromkeys(target.cls for target in self.targets.values()))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: targets, bindings and network edges."""
        from bb_runtime._notebook import html_of

        return html_of(self)


def load_artifact(source: ModelProto | Artifact | bytes | str | Path) -> Artifact:
    """Read a compiled model from a message, a file or its bytes.

    Raises:
        InstallError: It is not a compiled model of a version that this runtime understands.
    """
    if isinstance(source, Artifact):
        return source
    model = _model(source)
    data = source if isinstance(source, bytes) else model.SerializeToString(deterministic=True)
    if _EXTERNAL in data and has_external_data(model):
        _read_in(model, Path(source).parent if isinstance(source, (str, Path)) else None)
        data = model.SerializeToString(deterministic=True)
    _check_passport(model)
    from bb_ir import onnx_tools

    meta = onnx_tools.metadata(model)
    try:
        onnx_tools.check_texts(model)
        rows = _rows(model)
        fused = {f.name: f for f in model.functions if f.domain == keys.FUSED}
        targets = {
            f.name: _target(f, rows.get(f.name, ()), fused) for f in onnx_tools.targets(model)
        }
        edges = {e.name: e for e in map(_edge, json.loads(meta[keys.EDGES]))}
        program = meta[keys.PROGRAM]
        bytes.fromhex(program)
        slots = slots_of(json.loads(meta[keys.SLOTS]))
        hashes = {name: meta.get(keys.HASH + name, "") for name in targets}
    except (OpSchemaError, TypeTextError) as error:
        raise InvalidArtifact(
            error.found, expected=error.expected, fix="compile the program again"
        ) from error
    except InstallError:
        raise
    except MISREAD as error:
        raise InvalidArtifact(
            f"the artifact's tables cannot be read: {type(error).__name__}: {error}",
            expected="what this version's compiler writes",
            fix="compile the program again",
        ) from error
    return Artifact(program, targets, edges, slots, hashes, data)


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


#: Stands in every model whose tensors lie in other files, and says where.
_EXTERNAL = b"location"


def _read_in(model: ModelProto, folder: Path | None) -> None:
    """Read in the tensors of a model that lie in other files of its folder."""
    try:
        read_in(model, folder)
    except ExternalDataError as error:
        raise InvalidArtifact(error.found, expected=error.expected, fix=error.fix) from error


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
    meta = {entry.key: entry.value for entry in model.metadata_props}
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
                f"slot {slot!r} of {target.partition('#')[0]} has two rows: "
                f"{rows[slot].component} and {parts[1]}",
                fix="compile the program again",
            )
        place = f"{target}/{slot}"
        tables = {key: meta.get(key + place, "") for key in _BESIDE}
        for key, text in tables.items():
            _check_table(key + place, text)
        rows[slot] = Row(slot, parts[0], parts[1], *tables.values())
    return {target: tuple(rows.values()) for target, rows in found.items()}


#: So many characters of what cannot be read are shown.
_SHOWN = 80
#: What stands beside a row, in the order of the fields of `Row`.
_BESIDE = (keys.CONFIG, keys.VALUE_TYPES, keys.INFERRED)


def _check_table(key: str, text: str) -> None:
    """Check the JSON that stands beside a row."""
    try:
        table: Any = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise InvalidBindingTable(
            f"{key} = {text[:_SHOWN]!r}",
            expected="a JSON object",
            fix="compile the program again",
        )


def _target(
    function: FunctionProto, rows: tuple[Row, ...], fused: dict[str, FunctionProto]
) -> Target:
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
        ops=tuple(_op(node, fused) for node in function.node),
        regions=tuple(map(_region, regions)),
        types=onnx_tools.types_of(function),
        rows=rows,
    )


def _op(node: NodeProto, fused: dict[str, FunctionProto]) -> Op:
    from bb_ir import onnx_tools

    meta = onnx_tools.metadata(node)

    def listed(key: str) -> tuple[str, ...]:
        return tuple(meta[key].split(",")) if key in meta else ()

    source = meta.get(keys.SOURCE)
    op = Op(
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
        schema=schema_of(node),
        opens=meta.get(keys.OPENS, ""),
        declared=plugin_schema(node),
    )
    return _with_inner(op, fused[op.name]) if op.domain == keys.FUSED else op


def _with_inner(call: Op, function: FunctionProto) -> Op:
    """Return a call of several tensor ops together with these."""
    from bb_ir import onnx_tools

    graph = FusedGraph.of(function)
    inner = tuple(
        replace(
            call,
            domain=keys.ONNX,
            name=node.op_type,
            inputs=node.inputs,
            outputs=node.outputs,
            attributes=dict(node.attributes),
            scope=onnx_tools.get_meta(proto, keys.SCOPE),
            after=(),
            order=(),
            source=onnx_tools.source_of(proto),
        )
        for node, proto in zip(graph.nodes, function.node, strict=True)
    )
    return replace(call, graph=graph, inner=inner)


def _edge(row: dict[str, Any]) -> Edge:
    return Edge(
        name=text_of(row, "name"),
        id=int(row["id"], 16),
        source_class=text_of(row, "from"),
        target_class=text_of(row, "to"),
        sent_in=text_of(row, "sent_in"),
        parent=text_of(row, "parent"),
        answers=text_of(row, "answers"),
        answered=truth_of(row, "answered"),
        ports=tuple((str(name), parse_type(type_)) for name, type_ in row["ports"]),
        deadline_ns=whole_of(row, "deadline_ns"),
        max_payload=whole_of(row, "max_payload", 0),
        retries=whole_of(row, "retries", 0),
        backoff_ns=whole_of(row, "backoff_ns", 10**9),
        granted=bool(row.get("granted")),
        auto=bool(row.get("auto")),
        replies=max(1, whole_of(row, "replies", 1)),
        ordered=bool(row.get("ordered")),
    )


def _region(row: dict[str, Any]) -> RegionInfo:
    name, parent, opened_in, answers, kind = (
        text_of(row, key) for key in ("name", "parent", "opened_in", "answers", "kind")
    )
    return RegionInfo(name, parent, opened_in, answers, whole_of(row, "deadline_ns"), kind)
