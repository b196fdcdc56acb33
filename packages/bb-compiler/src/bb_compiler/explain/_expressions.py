"""How ops read: plain calculations as Python would write them, settings without what goes unsaid.

A number that the program itself holds, and a calculation that one other op takes, stand where they
are used; the ops that make them are marked, so that nobody lists them again. JSON has all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from bb_ir import keys
from bb_ir.durations import format_duration

if TYPE_CHECKING:
    from bb_compiler.explain._info import OpInfo

__all__ = ["expression", "settings", "with_inputs_shown"]

_SIGNS = {
    "add": "+", "subtract": "-", "multiply": "*", "divide": "/", "modulo": "%", "power": "**",
    "equal": "==", "less": "<", "less_or_equal": "<=", "greater": ">", "greater_or_equal": ">=",
    "and": "&", "or": "|",
}  # fmt: skip
#: What a setting is when nothing is said of it; of blocks, how many values they hand over.
_UNSAID: dict[str, dict[str, Any]] = {
    keys.GATHER: {"on_late": "drop", "on_short": "fail", "values": 0, "wait": "quorum"},
    "Rounds": {"width": 1, "on_fail": "stop"},
    "Every": {"jitter_ns": 0, "overlap": "skip"},
    "On": {"overlap": "queue"},
}
_NOISE = {"captured", "items"}
#: Ops that take numbers and truth values as the program writes them.
_TAKERS = {
    "Calculate", "Record", "When", "Loop", "Rounds", "Item", keys.UNTIL, keys.METRIC, keys.OUTPUT,
}  # fmt: skip


def with_inputs_shown(ops: Iterable[OpInfo]) -> list[OpInfo]:
    """Return ops with their inputs as they are shown, and mark those that stand in another one."""
    given = list(ops)
    readers = Counter(name for op in given for name in (*op.inputs, *op.after))
    inside = Counter(name for op in given if _takes(op) for name in op.inputs)
    shown: dict[str, str] = {}
    made: list[OpInfo] = []
    for op in given:
        texts = (shown.get(name, name) if _takes(op) else name for name in op.inputs)
        told = replace(
            op, shown=tuple(_bracketed(t) if op.name == "Calculate" else t for t in texts)
        )
        name = op.outputs[0].name if op.outputs else ""
        # A value of which the program itself is the result keeps a line of its own.
        alone = readers[name] == inside[name] > 0
        if alone and (op.name == "Scalar" or (op.name == "Calculate" and readers[name] == 1)):
            shown[name] = expression(told)
            told = replace(told, inlined=True)
        made.append(told)
    return made


def _takes(op: OpInfo) -> bool:
    return op.domain == keys.SYSCALL and op.name in _TAKERS


def expression(op: OpInfo) -> str:
    """Return an op as an expression of Python, or nothing for one that is a call."""
    if op.domain != keys.SYSCALL:
        return ""
    taken = op.shown or op.inputs
    how = str(op.attributes.get("how", ""))
    if op.name == "Scalar":
        return repr(op.attributes.get("value"))
    if op.name == "Calculate" and how in _SIGNS and len(taken) == 2:
        return f" {_SIGNS[how]} ".join(taken)
    if op.name == "Calculate" and how == "not" and taken:
        return f"~{taken[0]}"
    if op.name == "Field" and taken:
        return f'{taken[0]}["{op.attributes.get("name", "")}"]'
    names = op.attributes.get("names")
    if op.name == "Record" and isinstance(names, list):
        names = cast("list[str]", names)
        return f"{{{', '.join(f'{n}: {text}' for n, text in zip(names, taken, strict=False))}}}"
    return ""


def _bracketed(text: str) -> str:
    """Put brackets around a calculation that is a part of another one."""
    return f"({text})" if " " in text and not text.startswith(("'", '"')) else text


def settings(op: OpInfo) -> list[str]:
    """Return the settings of an op that its program has said, or that matter."""
    unsaid = _UNSAID.get(op.name, {}) if op.domain == keys.SYSCALL else {}
    noise = _NOISE if op.domain == keys.SYSCALL else set[str]()
    return [
        f"{name}={_shown(name, value)}"
        for name, value in op.attributes.items()
        if name not in noise and unsaid.get(name, _UNSAID) != value
    ]


def _shown(name: str, value: Any) -> str:
    if name.endswith("_ns") and isinstance(value, int) and value > 0:
        return format_duration(value)
    if name == "quorum" and isinstance(value, str):
        return _quorum(value)
    return str(value)


def _quorum(text: str) -> str:
    """Return a quorum as a program writes it: a number of peers, or a share of them."""
    if text.startswith("#"):
        return text[1:]
    try:
        return str(float(Fraction(text)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return text  # of an artifact that is not ours
