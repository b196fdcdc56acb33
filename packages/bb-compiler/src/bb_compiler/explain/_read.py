"""Reads a compiled model into an `Explanation`.

An artifact may be a stranger's: its tables are believed as far as they can be read, and what
cannot be read is an error, not a crash.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx import FunctionProto, ModelProto, NodeProto

from bb_compiler._sizes import edge_bytes, symbols
from bb_compiler.errors import CompileError
from bb_compiler.explain._explanation import Explanation
from bb_compiler.explain._expressions import with_inputs_shown
from bb_compiler.explain._info import (
    Binding,
    EdgeInfo,
    OpInfo,
    PortInfo,
    RegionInfo,
    StageInfo,
    TargetInfo,
)
from bb_compiler.explain._traffic import Counts, Place, count, sum_up
from bb_ir import keys, onnx_tools
from bb_ir.errors import BytesAndBrainsError, closest
from bb_ir.types import Type, parse_type

__all__ = ["NotAnArtifact", "WrongAssumption", "explain"]

#: Longer lists are shown by their kind only.
_LONGEST = 16
#: Texts that the rows of the tables hold.
_REGION_TEXTS = ("name", "parent", "opened_in", "answers")
_EDGE_TEXTS = ("name", "id", "from", "to", "sent_in", "answers")
#: Texts that a row may lack.
_LEFT_OUT = ("source",)
#: What every region's row holds; the rest are options of its kind, and left out when empty.
_REGION = {"name", "cls", "parent", "opened_in", "answers", "deadline_ns"}
#: What the op of a block says that is told of its region.
_BLOCK = ("times", "width", "period_ns", "topic")


class NotAnArtifact(CompileError):
    """A model was recorded and not compiled, or is none of ours.

    `explain` reads artifacts. Compile the program first, or let `bb explain FILE.py:NAME` do
    it.
    """


class WrongAssumption(CompileError):
    """A size is assumed of a class or dimension that the program does not have.

    Met at `explain(model, cohort=..., dims=...)` and at `--cohort` and `--dim`. The error lists
    the names that there are.
    """


def explain(
    model: ModelProto,
    *,
    cohort: Mapping[str, int] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Explanation:
    """Read a compiled model, and work out what it sends.

    Args:
        model: What `Compiler.compile` returned.
        cohort: How many peers of a class one send addresses, by class. Where nothing is said it
            is the `n` of `sample`, and 1 where the program leaves it open.
        dims: Lengths of dimensions that the program leaves open, by name; the first axis of a
            value `batch` without a name is `batch[0]`.

    Raises:
        NotAnArtifact: The model was not compiled by this version.
        WrongAssumption: `cohort` or `dims` name something that the program does not have.
    """
    _check(model)
    try:
        return _explain(model, dict(cohort or {}), dict(dims or {}))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise _unreadable(error) from error
    except BytesAndBrainsError as error:
        if isinstance(error, CompileError):
            raise
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> NotAnArtifact:
    return NotAnArtifact(
        f"the artifact's tables cannot be read: {type(error).__name__}: {error}"[:500],
        expected="what this version's compiler writes",
        fix="compile the program again",
    )


def _check(model: Any) -> None:
    compile_it = "compile it: Compiler().bind_...().compile(MyModule().build()), or `bb compile`"
    if not isinstance(model, ModelProto):
        raise NotAnArtifact(
            f"a {type(model).__name__} is no artifact",
            expected="the ModelProto that Compiler().compile(...) returned",
            fix="read a file with onnx.load(path)",
        )
    version = onnx_tools.get_meta(model, keys.COMPILED)
    if version != keys.COMPILED_VERSION:
        what = f"was compiled for {version!r}" if version else "has no passport"
        raise NotAnArtifact(
            f"the model {what}",
            expected=f"an artifact of version {keys.COMPILED_VERSION!r}",
            fix=compile_it,
        )


def _explain(model: ModelProto, cohort: dict[str, int], dims: dict[str, int]) -> Explanation:
    onnx_tools.check_texts(model)
    meta = onnx_tools.metadata(model)
    functions = list(onnx_tools.targets(model))
    rows = {row["name"]: row for row in _table(meta.get(keys.EDGES, "[]"), _EDGE_TEXTS)}
    tables = {
        f.name: _table(onnx_tools.get_meta(f, keys.REGIONS, "[]"), _REGION_TEXTS) for f in functions
    }
    phases = {f.name: onnx_tools.get_meta(f, keys.PHASE, "body") for f in functions}
    classes = {onnx_tools.get_meta(f, keys.CLASS) for f in functions}
    _check_assumptions(cohort, classes, "cohort", "a class of this program")
    ports = {n: [(_named(p), parse_type(t)) for p, t in row["ports"]] for n, row in rows.items()}
    open_dims = set[str]().union(*(symbols(carried) for carried in ports.values()))
    _check_assumptions(dims, open_dims, "dims", "a dimension that an edge leaves open")
    regions = {(phases[f], r["name"]): r["parent"] for f, table in tables.items() for r in table}
    counts = count(functions, rows, regions, cohort)
    edges = _edges(rows, ports, counts, dims)
    return Explanation(
        module=meta.get(keys.ROOT, model.graph.name),
        program=meta.get(keys.PROGRAM, ""),
        targets=tuple(_target(f, model, tables[f.name], edges, counts) for f in functions),
        edges=edges,
        stages=tuple(
            StageInfo(n, origin=meta.get(keys.STAGE + n, ""))
            for n in meta.get(keys.STAGES, "").split(",")
            if n
        ),
        round=sum_up([e for e in edges if e.phase != "bootstrap"], lambda edge: edge.per_round),
        start=sum_up([e for e in edges if e.phase == "bootstrap"], lambda edge: edge.per_round),
        cohort=cohort,
        dims=dims,
    )


def _table(text: str, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Read the rows of a table; each has these texts and a deadline.

    Raises:
        ValueError: It is something else.
    """
    rows: list[dict[str, Any]] = json.loads(text)
    for row in rows:
        odd = [key for key in texts if not isinstance(row[key], str)]
        odd += [key for key in _LEFT_OUT if not isinstance(row.get(key, ""), str)]
        if odd or type(row["deadline_ns"]) is not int:
            raise ValueError(f"a row has no usable {odd[0] if odd else 'deadline_ns'}")
    return rows


def _named(port: object) -> str:
    """Return the name of a port."""
    if not isinstance(port, str):
        raise ValueError(f"a port is named {port!r:.80}")  # noqa: TRY004  # of a table, not a caller
    return port


def _check_assumptions(given: Mapping[str, int], known: set[str], what: str, kind: str) -> None:
    for name, size in given.items():
        close = closest(name, known)
        if name not in known:
            raise WrongAssumption(
                f"{what} {name!r} is not in this program",
                expected=f"{kind}: {', '.join(sorted(known)) or 'there is none'}",
                fix=f"did you mean {close!r}?" if close else "",
            )
        if type(size) is not int or size < 0:  # a bool is an int to `isinstance`
            raise WrongAssumption(f"{what} {name}={size!r}", expected="a number, 0 or more")


# --- targets ---------------------------------------------------------------------------------


def _target(
    function: FunctionProto,
    model: ModelProto,
    regions: list[dict[str, Any]],
    edges: tuple[EdgeInfo, ...],
    counts: Counts,
) -> TargetInfo:
    meta, own = onnx_tools.metadata(model), onnx_tools.metadata(function)
    fused = {f.name: f for f in model.functions if f.domain == keys.FUSED}
    types = onnx_tools.types_of(function)
    prefix = f"{keys.BINDING}{function.name}/"
    rows = {key.removeprefix(prefix): v for key, v in meta.items() if key.startswith(prefix)}
    bindings = (
        Binding(slot, *_row(row), config=meta.get(f"{keys.CONFIG}{function.name}/{slot}", ""))
        for slot, row in sorted(rows.items())
    )
    phase = own.get(keys.PHASE, "body")
    ops: dict[str, list[OpInfo]] = {}
    blocks: dict[str, dict[str, Any]] = {}
    made = with_inputs_shown(_op(n, node, types, fused) for n, node in enumerate(function.node))
    for op, node in zip(made, function.node, strict=True):
        ops.setdefault(onnx_tools.get_meta(node, keys.REGION), []).append(op)
        if node.domain == keys.SYSCALL and node.op_type in keys.BLOCKS:
            blocks[onnx_tools.get_meta(node, keys.OPENS)] = op.attributes
    mine = [edge for edge in edges if edge.phase == phase]
    return TargetInfo(
        name=function.name.partition("#")[0],
        hash=meta.get(keys.HASH + function.name, ""),
        peer_class=own.get(keys.CLASS, ""),
        phase=phase,
        inputs=_ports(function.input, types),
        outputs=_ports(function.output, types),
        bindings=tuple(bindings),
        regions=tuple(
            _region(
                {**row, **_said(blocks.get(row["name"], {}))},
                tuple(ops.get(row["name"], ())), mine, (phase, row["name"]), counts,
            )
            for row in regions
        ),
    )  # fmt: skip


def _said(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the op of a block says of its frames."""
    return {name: attributes[name] for name in _BLOCK if attributes.get(name)}


def _row(text: str) -> tuple[str, str]:
    role, _, rest = text.partition("|")
    return role, rest.partition("|")[0]


def _region(
    row: dict[str, Any],
    ops: tuple[OpInfo, ...],
    edges: list[EdgeInfo],
    place: Place,
    counts: Counts,
) -> RegionInfo:
    sent = [edge for edge in edges if edge.sent_in == row["name"]]
    return RegionInfo(
        name=row["name"],
        parent=row["parent"],
        opened_in=row["opened_in"],
        deadline_ns=row["deadline_ns"],
        options={k: v for k, v in sorted(row.items()) if k not in _REGION and v},
        frames=counts.frames.get(place, 0),
        sends=sum_up(sent, lambda edge: edge.per_frame),
        ops=ops,
    )


def _op(
    number: int, node: NodeProto, types: dict[str, Type], fused: Mapping[str, FunctionProto]
) -> OpInfo:
    meta = onnx_tools.metadata(node)
    body = fused.get(node.op_type) if node.domain == keys.FUSED else None
    return OpInfo(
        number=number,
        name=node.op_type,
        domain=node.domain or keys.ONNX,
        slot=meta.get(keys.SLOT, ""),
        edge=meta.get(keys.EDGE, ""),
        inputs=tuple(node.input),
        outputs=_ports(node.output, types),
        attributes={n: _plain(v) for n, v in onnx_tools.attributes(node).items()},
        placed=meta.get(keys.PLACED, ""),
        after=tuple(onnx_tools.meta_list(node, keys.AFTER)),
        order=tuple(onnx_tools.meta_list(node, keys.ORDER)),
        source=meta.get(keys.SOURCE, ""),
        inner=tuple(inner.op_type for inner in body.node) if body is not None else (),
    )


def _ports(names: Iterable[str], types: dict[str, Type]) -> tuple[PortInfo, ...]:
    return tuple(PortInfo(name, str(types.get(name, "any"))) for name in names)


def _plain(value: Any) -> Any:
    """Return an attribute as JSON can hold it; large ones and arrays by their kind and shape."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, str | int | float | bool):
        return value
    known: Any = value  # the type checkers would know less after the next line
    if isinstance(value, list) and len(known) <= _LONGEST:
        return [_plain(item) for item in known]
    shape: Any = getattr(known, "shape", None)
    if shape == () and type(known.item()) in (int, float, bool, str):
        return _plain(known.item())
    return f"{type(known).__name__}{'' if shape is None else list(shape)}"


# --- edges -----------------------------------------------------------------------------------


def _edges(
    rows: Mapping[str, dict[str, Any]],
    ports: Mapping[str, list[tuple[str, Type]]],
    counts: Counts,
    dims: Mapping[str, int],
) -> tuple[EdgeInfo, ...]:
    """Return the edges, each after the one that it answers."""
    granted = {name for name, row in rows.items() if row.get("granted")}
    measured = {row["answers"] for row in rows.values() if row.get("auto")}
    made = (
        _edge(
            name, row, ports[name], counts, dims,
            grants=(name in granted) + (row["answers"] in granted), auto=name in measured,
        )
        for name, row in rows.items()
    )  # fmt: skip
    return tuple(sorted(made, key=lambda edge: _depth(edge.name, rows)))


def _number(row: dict[str, Any], name: str) -> int:
    """Return a number of an edge that may have been left out, and is 0 then."""
    found = row.get(name, 0)
    return found if type(found) is int and found > 0 else 0


def _depth(name: str, rows: Mapping[str, dict[str, Any]]) -> int:
    """Return how many edges lie before one in its chain of answers."""
    seen: set[str] = set()
    while name in rows and name not in seen:
        seen.add(name)
        name = rows[name]["answers"]
    return len(seen)


def _edge(
    name: str,
    row: dict[str, Any],
    ports: list[tuple[str, Type]],
    counts: Counts,
    dims: Mapping[str, int],
    *,
    grants: int,
    auto: bool,
) -> EdgeInfo:
    fan_out = counts.fan_outs.get(name)
    return EdgeInfo(
        name=name,
        id=row["id"],
        source_class=row["from"],
        target_class=row["to"],
        sent_in=row["sent_in"],
        phase=counts.phases.get(name, "body"),
        answers=row["answers"],
        answered=row["answered"],
        ports=tuple(PortInfo(port, str(type_)) for port, type_ in ports),
        bytes=edge_bytes(
            ports,
            answered=bool(row["answered"]),
            answers=bool(row["answers"]),
            deadline_ns=row["deadline_ns"],
            dims=dims,
            grants=grants,
        ),
        grants=grants,
        per_frame=fan_out.count if fan_out else 0,
        per_round=counts.envelopes.get(name, 0),
        fan_out=fan_out.known_by if fan_out else "assumed",
        deadline_ns=row["deadline_ns"],
        max_payload=_number(row, "max_payload"),
        retries=_number(row, "retries"),
        replies=max(1, _number(row, "replies")),
        ordered=bool(row.get("ordered")),
        auto=auto,
        source=row.get("source", ""),
    )
