"""Which component fills which slot: what the Module says, and `--bind` over it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from bb_ir.errors import BytesAndBrainsError
from bytesandbrains.cli._errors import CliError, flatten
from bytesandbrains.cli._program import Program

if TYPE_CHECKING:
    from onnx import ModelProto

    from bb_compiler import Compiler
    from bb_compiler.explain import Explanation

__all__ = ["compile_program", "explain_program"]


class AlreadyCompiled(CliError):
    """Bindings were given for a model whose slots are bound."""


def compile_program(program: Program, binds: Mapping[str, str]) -> ModelProto:
    """Return the artifact of a program; one that is compiled already is returned as it is.

    Raises:
        BytesAndBrainsError: A binding names nothing, or the compiler objects.
    """
    if program.compiled:
        _refuse(binds)
        return program.model
    try:
        with program.blamed():
            return _compiler(program, binds).compile(program.model)
    except BytesAndBrainsError as error:
        _advise(error, program.model)
        raise


def explain_program(program: Program, binds: Mapping[str, str]) -> Explanation:
    """Return what is in a program's artifact, and what each stage did when it is compiled here.

    Raises:
        BytesAndBrainsError: A binding names nothing, or the compiler objects.
    """
    from bb_compiler.explain import explain

    if program.compiled:
        _refuse(binds)
        with program.blamed():
            return explain(program.model)
    try:
        with program.blamed():
            return _compiler(program, binds).explain(program.model)
    except BytesAndBrainsError as error:
        _advise(error, program.model)
        raise


def _refuse(binds: Mapping[str, str]) -> None:
    if binds:
        raise AlreadyCompiled(
            f"--bind {next(iter(binds))}=... for an artifact, whose slots are bound",
            fix="compile the Module again: bb compile FILE.py:NAME --bind ...",
        )


def _compiler(program: Program, binds: Mapping[str, str]) -> Compiler:
    """Return a compiler with all bindings."""
    from bb_compiler import Compiler

    slots = _slots(program.model)
    compiler = Compiler()
    for key, component in {**program.bindings, **binds}.items():
        on, slot = _split(key, slots)
        compiler.bind(slot, _component(component), role=slots[slot]["role"], on=on)
    return compiler


def _slots(model: ModelProto) -> dict[str, dict[str, str]]:
    """Return the slots that a recorded model uses, with their roles."""
    from bb_ir import keys, onnx_tools

    found: dict[str, dict[str, str]] = json.loads(onnx_tools.get_meta(model, keys.SLOTS, "{}"))
    return found


def _split(key: str, slots: Mapping[str, Any]) -> tuple[str, str]:
    """Read `slot` or `class.slot`; names of slots may have dots themselves."""
    if key in slots:
        return "", key
    on, _, slot = key.partition(".")
    if slot in slots:
        return on, slot
    from bb_compiler.errors import UnknownSlot

    close = get_close_matches(key, list(slots), n=1)
    raise UnknownSlot(
        f"no slot {key!r} is used in this program",
        expected=f"one of {', '.join(sorted(slots)) or 'none'}, or <class>.<slot>",
        fix=f"did you mean {close[0]!r}?" if close else "remove the binding",
    )


def _component(given: Any) -> Any:
    """Return a component's name, or the class that `module:Class` names."""
    if isinstance(given, str) and ":" in given:
        from bb_roles.registry import import_named

        return import_named(given, given)
    return given


def _advise(error: BytesAndBrainsError, model: ModelProto) -> None:
    """Tell those who use the command line which option to add for an unbound slot."""
    from bb_compiler.errors import UnboundSlot
    from bb_roles.registry import installed

    for one in flatten(error):
        if not isinstance(one, UnboundSlot):
            continue
        for slot, facts in _slots(model).items():
            if not one.found.startswith(f"slot {slot!r} "):
                continue
            names = [found.name for found in installed(facts["role"])]
            only = names[0] if len(names) == 1 else "<component>"
            one.fix = f"--bind {slot}={only}"
            one.expected = f"a component of role {facts['role']}; installed: " + (
                ", ".join(names) or "none"
            )
