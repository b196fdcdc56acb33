"""Plans in the JSON of the schema `bw.stack`, which went before `bb.plan.v1`.

Files of that form have no version and no digest, and other programs read them, so the writer keeps
to them field by field: the same names in the same order, defaults included, numbers as numbers, two
blanks of indent, no line feed at the end. It has no words for what was added since: those fields
are left out, and kinds of moves that are newer are refused.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, TypeVar, cast

from bb_ir.plan._fitting import fit
from bb_ir.plan.errors import PlanFormatError
from bb_ir.plan.messages import (
    CachePlan,
    FileChunk,
    KvPageRef,
    SwapPlan,
    SwapWindow,
    TransferKind,
    TransferOp,
    WeightManifest,
)
from bb_ir.plan.text import read_object

__all__ = ["from_earlier_json", "to_earlier_json"]

P = TypeVar("P", CachePlan, SwapPlan)

#: Fields of each message in their order: name there, name here.
_SHAPES: Final[dict[type[Any], tuple[tuple[str, str], ...]]] = {
    cls: tuple((name, "from_" if name == "manifest_from" else name.removeprefix("manifest_"))
               for name in names.split())
    for cls, names in {
        FileChunk: "path offset length sha256",
        WeightManifest: "model_id version files",
        SwapWindow: "t_start_ns t_deadline_ns",
        KvPageRef: "tensor page head layer",
        TransferOp: "kind src dst length src_offset dst_offset kv_refs note",
        CachePlan: "plan_id ops prefetch evict",
        SwapPlan: "plan_id manifest_from manifest_to ops window",
    }.items()
}  # fmt: skip
#: Other names that its reader took, which are also the schema's own.
_ALIASES: Final = {
    "from": "manifest_from",
    "to": "manifest_to",
    "start_ns": "t_start_ns",
    "deadline_ns": "t_deadline_ns",
}
_ITEMS: Final[dict[str, type[Any]]] = {
    "ops": TransferOp,
    "kv_refs": KvPageRef,
    "prefetch": KvPageRef,
    "evict": KvPageRef,
    "files": FileChunk,
}
_PARTS: Final[dict[str, type[Any]]] = {
    "manifest_from": WeightManifest,
    "manifest_to": WeightManifest,
    "window": SwapWindow,
}
_KINDS: Final = ("H2D", "D2H", "P2P", "STORAGE2H")


def to_earlier_json(plan: CachePlan | SwapPlan) -> str:
    """Return a plan in the earlier form; what that form has no field for is left out.

    Raises:
        PlanFormatError: A value does not fit its field, or an op is of a kind that came later.
    """
    return json.dumps(_plain(fit(plan)), indent=2)


def from_earlier_json(cls: type[P], text: str | bytes) -> P:
    """Read a plan in the earlier form.

    As its own reader did, this takes missing fields for empty ones, a missing kind for
    `STORAGE2H`, and the names `from`, `to`, `start_ns` and `deadline_ns`. Unlike it, a name that
    means nothing is an error.

    Args:
        cls: `CachePlan` or `SwapPlan`.
        text: The text, or its bytes in UTF-8.

    Raises:
        PlanFormatError: It is no JSON, or no such plan.
    """
    found: P = _read(cls, read_object(text), "$")
    return fit(found)


def _plain(message: Any) -> dict[str, Any]:
    shape = _SHAPES[type(message)]
    return {told: _told(told, getattr(message, name)) for told, name in shape}


def _told(name: str, value: Any) -> Any:
    if name == "kind":
        if value.name not in _KINDS:
            raise PlanFormatError(
                f"the earlier form has no word for an op of kind {value.name}",
                expected=f"one of {', '.join(_KINDS)}",
                fix="write it with bb_ir.plan.to_json",
            )
        return value.name
    if name in _PARTS:
        return _plain(_PARTS[name]() if value is None else value)
    return [_plain(one) for one in value] if name in _ITEMS else value


def _read(cls: type[Any], found: Any, at: str) -> Any:
    if not isinstance(found, dict):
        raise PlanFormatError(f"`{at}` is a {type(found).__name__}", expected="an object", where=at)
    here = dict(_SHAPES[cls])
    given: dict[str, Any] = {here[told]: part() for told, part in _PARTS.items() if told in here}
    if cls is TransferOp:
        given["kind"] = TransferKind.STORAGE2H
    for told, value in cast("dict[str, Any]", found).items():
        name = told if told in here else _ALIASES.get(told, told)
        if name not in here or (name != told and name in found):
            raise PlanFormatError(
                f"the earlier form of a {cls.__name__} has no field {told[:80]!r} here",
                expected=f"each of {', '.join(here)} once",
                where=at,
            )
        given[here[name]] = _value(name, value, f"{at}.{told[:80]}")
    return cls(**given)


def _value(name: str, value: Any, at: str) -> Any:
    if name in _PARTS:
        return _read(_PARTS[name], value, at)
    if name in _ITEMS:
        if not isinstance(value, list):
            raise PlanFormatError(
                f"`{at}` is a {type(value).__name__}", expected="a list", where=at
            )
        listed = cast("Sequence[Any]", value)
        return tuple(_read(_ITEMS[name], one, f"{at}[{i}]") for i, one in enumerate(listed))
    return _kind(value, at) if name == "kind" else value


def _kind(value: Any, at: str) -> TransferKind:
    if value is None or value == "":
        return TransferKind.STORAGE2H
    if not isinstance(value, str) or value.upper() not in _KINDS:
        raise PlanFormatError(
            f"`{at}` is no kind of move", expected=f"one of {', '.join(_KINDS)}", where=at
        )
    return TransferKind[value.upper()]
