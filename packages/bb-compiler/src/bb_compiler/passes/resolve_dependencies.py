"""Pass 7: the sibling slots that bound components need."""

from __future__ import annotations

import json
from typing import Any

from onnx import ModelProto

from bb_compiler._bind_lines import line_of_row, places
from bb_compiler.errors import DependencyMissing, Findings
from bb_compiler.passes.resolve_slots import row_of
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine


def resolve_dependencies(model: ModelProto) -> ModelProto:
    """Add to each class the slots that its components depend on.

    Raises:
        DependencyMissing: A needed slot is not bound, or to a component of another role.
    """
    findings = Findings()
    bound: list[dict[str, Any]] = json.loads(onnx_tools.get_meta(model, keys.BINDINGS, "[]"))
    table: dict[str, dict[str, Any]] = json.loads(onnx_tools.get_meta(model, keys.RESOLVED, "{}"))
    for cls, rows in table.items():
        waiting = list(rows.items())
        while waiting:
            slot, row = waiting.pop()
            for needed, role in sorted(row["depends"].items()):
                found = rows.get(needed) or row_of(bound, cls, needed)
                if found is None or found["role"] != role:
                    what = f"{row['component']!r} in slot {slot!r} needs slot {needed!r}"
                    where = [_line_of(model, cls, slot), line_of_row(row)]
                    where += [] if found is None else [line_of_row(found)]
                    findings.add(_missing(what, (needed, role), found, places(*where)))
                elif needed not in rows:
                    rows[needed] = found
                    waiting.append((needed, found))
    findings.done()
    result = ModelProto()
    result.CopyFrom(model)
    onnx_tools.set_meta(result, keys.RESOLVED, json.dumps(table, sort_keys=True))
    return result


def _line_of(model: ModelProto, cls: str, slot: str) -> SourceLine | None:
    """Return the first line that uses a slot on a class; none uses what only components need."""
    nodes = (node for function in model.functions for node in function.node)
    used = (n for n in nodes if onnx_tools.get_meta(n, keys.SLOT) == slot)
    here = (n for n in used if onnx_tools.get_meta(n, keys.CLASS) == cls)
    return next(map(onnx_tools.source_of, here), None)


def _missing(
    what: str,
    dependency: tuple[str, str],
    found: dict[str, Any] | None,
    where: tuple[SourceLine, ...],
) -> DependencyMissing:
    needed, role = dependency
    bound = "is not bound" if found is None else f"is bound to a {found['role']}"
    return DependencyMissing(
        f"{what}, which {bound}",
        expected=f"a component of role {role}",
        fix=f'bind_{role}("{needed}", "<component>"); `bb plugins` lists what is installed',
        where=where,
    )
