"""Pass 6: from slots to bindings, for every class on which a slot is used."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import Any

from onnx import ModelProto

from bb_compiler.errors import Findings, UnboundSlot, UnknownSlot, WrongRole
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine

Row = dict[str, Any]


def resolve_slots(model: ModelProto) -> ModelProto:
    """Stamp the model with the component of each slot on each class.

    Raises:
        CompileError: A slot is unbound, a binding names no slot, or its role is another.
    """
    findings = Findings()
    bound: list[Row] = json.loads(onnx_tools.get_meta(model, keys.BINDINGS, "[]"))
    slots: dict[str, dict[str, str]] = json.loads(onnx_tools.get_meta(model, keys.SLOTS, "{}"))
    _check_bindings(bound, slots, findings)
    table: dict[str, dict[str, Row]] = {}
    for (cls, slot), line in _uses(model).items():
        row = _row_of(bound, cls, slot)
        if row is None:
            findings.add(_unbound(slot, cls, slots[slot]["role"], line))
        else:
            table.setdefault(cls, {})[slot] = row
    findings.done()
    result = ModelProto()
    result.CopyFrom(model)
    onnx_tools.set_meta(result, keys.RESOLVED, json.dumps(table, sort_keys=True))
    return result


def _uses(model: ModelProto) -> dict[tuple[str, str], SourceLine | None]:
    """Return each (class, slot) in use with the first line that uses it."""
    found: dict[tuple[str, str], SourceLine | None] = {}
    for function in model.functions:
        for node in function.node:
            slot = onnx_tools.get_meta(node, keys.SLOT)
            if slot:
                key = (onnx_tools.get_meta(node, keys.CLASS), slot)
                found.setdefault(key, onnx_tools.source_of(node))
    return found


def _row_of(bound: list[Row], cls: str, slot: str) -> Row | None:
    """Return the binding of a slot on a class: one made for that class wins."""
    rows = [row for row in bound if row["slot"] == slot and row["on"] in ("", cls)]
    return max(rows, key=lambda row: bool(row["on"]), default=None)


def _check_bindings(bound: list[Row], slots: dict[str, dict[str, str]], findings: Findings) -> None:
    needed = {slot for row in bound for slot in row["depends"]}
    for row in bound:
        slot = row["slot"]
        if slot in needed and slot not in slots:
            continue
        if slot not in slots:
            close = get_close_matches(slot, list(slots), n=1)
            findings.add(
                UnknownSlot(
                    f"no slot {slot!r} is used in this program",
                    expected=f"one of {', '.join(sorted(slots))}",
                    fix=f"did you mean {close[0]!r}?" if close else "remove the binding",
                )
            )
        elif slots[slot]["role"] != row["role"]:
            findings.add(
                WrongRole(
                    f"slot {slot!r} is bound to {row['component']!r}, a {row['role']}",
                    expected=f"a component of role {slots[slot]['role']}",
                    fix=f"use bind_{slots[slot]['role']}",
                )
            )


def _unbound(slot: str, cls: str, role: str, line: SourceLine | None) -> UnboundSlot:
    return UnboundSlot(
        f"slot {slot!r} ({role}) is used on class {cls!r} and not bound",
        expected="a component for every slot",
        fix=f'Compiler().bind_{role}("{slot}", "<component>"); `bb plugins` lists components',
        where=() if line is None else line,
    )
