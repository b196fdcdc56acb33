"""What each stage of the compiler changed, in words."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import ModelProto, StringStringEntryProto

from bb_compiler.explain._info import StageInfo
from bb_compiler.passes import Pass
from bb_ir import keys, onnx_tools

__all__ = ["trace"]


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
