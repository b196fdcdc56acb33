"""Pass 6: from slots to bindings, for every class on which a slot is used."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from onnx import ModelProto

from bb_compiler._bind_lines import line_of_row, places
from bb_compiler.errors import CompileError, Findings, UnboundSlot, UnknownSlot, WrongRole
from bb_compiler.passes._own_ops import check_own_ops
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine, closest

Row = dict[str, Any]
#: (class, slot) -> the first line that uses the slot on the class
Uses = dict[tuple[str, str], SourceLine | None]


def resolve_slots(model: ModelProto) -> ModelProto:
    """Stamp the model with the component of each slot on each class.

    Raises:
        CompileError: A slot is unbound, a binding names no slot, its role is another, or its
            component lacks an op.
    """
    findings = Findings()
    bound: list[Row] = json.loads(onnx_tools.get_meta(model, keys.BINDINGS, "[]"))
    slots: dict[str, dict[str, str]] = json.loads(onnx_tools.get_meta(model, keys.SLOTS, "{}"))
    uses = _uses(model)
    unbound: dict[str, list[str]] = {}
    for cls, slot in uses:
        if row_of(bound, cls, slot) is None:
            unbound.setdefault(slot, []).append(cls)
    misnamed = _misnamed(bound, slots, set(unbound))
    for slot, classes in unbound.items():
        role = slots.get(slot, {}).get("role", "")
        line = uses[classes[0], slot]
        named = misnamed.get(slot, "")
        where = (line, *(line_of_row(row) for row in bound if row["slot"] == named))
        findings.add(_unbound(slot, classes, role, named, where))
    _check_bindings(bound, slots, uses, set(misnamed.values()), findings)
    findings.done()
    table: dict[str, dict[str, Row]] = {}
    for cls, slot in uses:
        table.setdefault(cls, {})[slot] = row_of(bound, cls, slot) or {}
    check_own_ops(model, table, findings)
    findings.done()
    result = ModelProto()
    result.CopyFrom(model)
    onnx_tools.set_meta(result, keys.RESOLVED, json.dumps(table, sort_keys=True))
    return result


def row_of(bound: list[Row], cls: str, slot: str) -> Row | None:
    """Return the binding of a slot on a class: one made for that class wins."""
    rows = [row for row in bound if row["slot"] == slot and row["on"] in ("", cls)]
    return max(rows, key=lambda row: bool(row["on"]), default=None)


def _uses(model: ModelProto) -> Uses:
    found: Uses = {}
    for function in model.functions:
        for node in function.node:
            slot = onnx_tools.get_meta(node, keys.SLOT)
            if slot:
                key = (onnx_tools.get_meta(node, keys.CLASS), slot)
                if key not in found:
                    found[key] = onnx_tools.source_of(node)
    return found


def _misnamed(bound: list[Row], slots: Iterable[str], unbound: set[str]) -> dict[str, str]:
    """Return slot -> the name in a binding that seems to mean it."""
    found: dict[str, str] = {}
    known = set(slots)
    for row in bound:
        close = closest(row["slot"], sorted(unbound - found.keys()))
        if row["slot"] not in known and close:
            found[close] = row["slot"]
    return found


def _check_bindings(
    bound: list[Row],
    slots: dict[str, dict[str, str]],
    uses: Uses,
    told: set[str],
    findings: Findings,
) -> None:
    needed = {slot for row in bound for slot in row["depends"]}
    classes = list(dict.fromkeys(cls for cls, _ in uses))
    for row in bound:
        slot, on = row["slot"], row["on"]
        if slot in told or (slot in needed and slot not in slots):
            continue
        if slot not in slots:
            findings.add(_unknown(row, slots))
        elif slots[slot]["role"] != row["role"]:
            line = next((line for (_, used), line in uses.items() if used == slot), None)
            findings.add(_wrong_role(row, slots[slot]["role"], line))
        elif on and slot not in needed and (on, slot) not in uses:
            findings.add(_unused_on(row, classes, [cls for cls, used in uses if used == slot]))


def _unbound(
    slot: str,
    classes: list[str],
    role: str,
    named: str,
    where: tuple[SourceLine | None, ...],
) -> CompileError:
    bind = f'Compiler().bind_{role}("{slot}", "<component>")'
    also = f"; a binding names {named!r}, which is no slot" if named else ""
    return UnboundSlot(
        f"slot {slot!r} is used on {_classes(classes)}, where no component is bound to it{also}",
        expected=f"a component of role {role}",
        fix=f"did you mean {slot!r} where {named!r} is bound?"
        if named
        else f"{bind}; `bb plugins` lists what is installed",
        where=places(*where),
    )


def _classes(names: list[str]) -> str:
    return f"class{'es' * (len(names) > 1)} {', '.join(map(repr, names))}"


def _unknown(row: Row, slots: dict[str, dict[str, str]]) -> CompileError:
    slot: str = row["slot"]
    close = closest(slot, list(slots))
    return UnknownSlot(
        f"a component is bound to slot {slot!r}, which this program does not have",
        expected=f"one of {', '.join(sorted(slots)) or 'none: it has no slots'}",
        fix=f"did you mean {close!r}?" if close else "remove the binding",
        where=places(line_of_row(row)),
    )


def _wrong_role(row: Row, role: str, line: SourceLine | None) -> CompileError:
    return WrongRole(
        f"slot {row['slot']!r} is a {role} slot and bound to {row['component']!r}, "
        f"of role {row['role']}",
        expected=f"a component of role {role}",
        fix=f'bind_{role}("{row["slot"]}", "<component>"); `bb plugins` lists what is installed',
        where=places(line, line_of_row(row)),
    )


def _unused_on(row: Row, classes: list[str], used: list[str]) -> CompileError:
    close = closest(str(row["on"]), classes)
    runs = f"used on {_classes(used)}" if used else "not used by any op"
    return UnknownSlot(
        f"a component is bound to slot {row['slot']!r} on class {row['on']!r}, but there the slot "
        f"is not used; it is {runs}",
        expected=f"a class of the program: {', '.join(classes)}",
        fix=f"did you mean on={close!r}?" if close else "remove the binding",
        where=places(line_of_row(row)),
    )
