"""Which component fills which slot: what the Module says, and `--bind` over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from bb_ir.errors import BytesAndBrainsError, closest
from bytesandbrains.cli._config import Fixed, fixed_configuration, read_config
from bytesandbrains.cli._errors import CliError, flatten
from bytesandbrains.cli._program import Program

if TYPE_CHECKING:
    from onnx import ModelProto

    from bb_compiler import Compiler
    from bb_compiler.explain import Explanation

__all__ = ["How", "compile_program", "explain_program"]

#: So many components are named one by one; of more, the reader is to choose.
_FEW = 5


class AlreadyCompiled(CliError):
    """Bindings are given for a model whose slots are bound.

    An artifact keeps the components that it was compiled with. Compile the Module again with
    others.
    """


class How(NamedTuple):
    """What a command line says about compiling a program.

    Attributes:
        binds: Slot, or class and slot, to component; wins over the Module's own `bindings`.
        stages: Names of stages of plugins.
        config_file: What components are configured with.
    """

    binds: Mapping[str, str]
    stages: Sequence[str] = ()
    config_file: Path | None = None


def compile_program(program: Program, how: How) -> ModelProto:
    """Return the artifact of a program; one that is compiled already is returned as it is.

    Raises:
        BytesAndBrainsError: A binding names nothing, or the compiler objects.
    """
    if program.compiled:
        _refuse(how)
        return program.model
    found = read_config(how.config_file)
    with _advised(program):
        return _compiler(program, how, found).compile(program.model)


def explain_program(
    program: Program, how: How, *, cohort: Mapping[str, int], dims: Mapping[str, int]
) -> Explanation:
    """Return what is in a program's artifact, and what each stage did when it is compiled here.

    Raises:
        BytesAndBrainsError: A binding, class or dimension names nothing, or the compiler objects.
    """
    from bb_compiler.explain import explain

    if program.compiled:
        _refuse(how)
        with program.blamed():
            return explain(program.model, cohort=cohort, dims=dims)
    found = read_config(how.config_file)
    with _advised(program):
        return _compiler(program, how, found).explain(program.model, cohort=cohort, dims=dims)


def _refuse(how: How) -> None:
    given = [f"--bind {name}=..." for name in how.binds]
    given += [f"--stage {name}" for name in how.stages]
    given += ["--config"] if how.config_file else []
    if given:
        raise AlreadyCompiled(
            f"{given[0]} for an artifact, which is compiled",
            fix="compile the Module again: bb compile FILE.py:NAME ...",
        )


@contextmanager
def _advised(program: Program) -> Generator[None]:
    """Let errors name the program, and say what a command line can do about them."""
    try:
        with program.blamed():
            yield
    except BytesAndBrainsError as error:
        _advise(error, program.model)
        raise


def _compiler(program: Program, how: How, found: Mapping[str, Any]) -> Compiler:
    """Return a compiler with all bindings, configured with what was found, and with all stages."""
    slots = _slots(program.model)
    bound = {
        _split(key, slots): _component(component)
        for key, component in {**program.bindings, **how.binds}.items()
    }
    compiler = _bind(bound, slots, {})
    if found:
        # Which class uses which slot is known when the program was compiled, so this is done twice.
        artifact = compiler.compile(program.model)
        compiler = _configured(bound, slots, artifact, found, str(how.config_file))
    for stage in how.stages:
        compiler.insert_stage(stage)
    return compiler


#: (Class or "", slot) -> component.
Bound = dict[tuple[str, str], Any]
#: (Class or "", slot) -> what is known about its configuration.
Configs = dict[tuple[str, str], Fixed]


def _bind(bound: Bound, slots: Mapping[str, Any], configs: Configs) -> Compiler:
    from bb_compiler import Compiler

    compiler = Compiler()
    for (on, slot), component in bound.items():
        known = configs.get((on, slot), Fixed({}, {}))
        bind = partial(compiler.bind, slot, component, role=slots[slot]["role"], on=on)
        left = _bind_configured(bind, known)
        if left:
            many = "s" * (len(left) > 1)
            click.echo(
                f"note: field{many} {', '.join(left)} of {slot!r}{f' on {on!r}' if on else ''} "
                f"{'are' if many else 'is'} left to the run, as what differs from Node to Node is "
                "needed beside; give `bb run` the same --config",
                err=True,
            )
    return compiler


def _bind_configured(bind: Callable[..., object], known: Fixed) -> list[str]:
    """Bind a slot with those of the known fields that make a configuration.

    Fields may need each other, such as the part of a data set and the number of parts. What is
    known of a field is bound if it stands alone, or beside others that do.

    Returns:
        The known fields that are not bound.
    """
    from bb_compiler.errors import BadConfig

    try:
        bind(config=known.fields or None)
    except BadConfig:
        if known.fields == known.sample:
            raise
        bind(config=known.sample)  # which says what is wrong besides what is missing
    else:
        return []
    kept: dict[str, Any] = {}
    for name, value in known.fields.items():
        try:
            bind(config={**kept, name: value}, replace=True)
        except BadConfig:
            continue
        kept[name] = value
    bind(config=kept or None, replace=True)
    return [name for name in known.fields if name not in kept]


def _configured(
    bound: Bound,
    slots: Mapping[str, Any],
    artifact: ModelProto,
    found: Mapping[str, Any],
    file: str,
) -> Compiler:
    """Return a compiler whose bindings hold what a file says about all Nodes of a class.

    A binding for all classes becomes one for each where the file does not say the same of all.
    """
    from bb_compiler.errors import BadConfig
    from bb_runtime import load_artifact

    known = fixed_configuration(load_artifact(artifact), found, file)
    split: Bound = {}
    configs: Configs = {}
    for (on, slot), component in bound.items():
        served = {
            cls: fixed
            for (cls, name), fixed in known.items()
            if name == slot and (cls == on or (not on and (cls, slot) not in bound))
        }
        first = next(iter(served.values()), Fixed({}, {}))
        if all(fixed == first for fixed in served.values()):
            served = {on: first}
        for cls, fixed in served.items():
            split[cls, slot] = component
            configs[cls, slot] = fixed
    try:
        return _bind(split, slots, configs)
    except BadConfig as error:
        error.where = (file, *error.where)
        raise


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

    close = closest(key, list(slots))
    raise UnknownSlot(
        f"no slot {key!r} is used in this program",
        expected=f"one of {', '.join(sorted(slots)) or 'none'}, or <class>.<slot>",
        fix=f"did you mean {close!r}?" if close else "remove the binding",
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
            some = names if 0 < len(names) <= _FEW else ["<component>"]
            one.fix = " or ".join(f"--bind {slot}={name}" for name in some)
            one.expected = f"a component of role {facts['role']}; installed: " + (
                ", ".join(names) or "none"
            )
