"""Stages that are not the compiler's own: functions of a user, and those that plugins publish.

A plugin's stage runs only when somebody names it. Whatever such a function does wrong becomes an
error that names the stage. This module runs nothing by itself and knows no order of stages.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from onnx import ModelProto

from bb_compiler.errors import BadStage, CompileError, RefusedByStage, StageFailed, UnknownStage
from bb_compiler.passes import CANONICAL, Pass
from bb_ir.errors import BytesAndBrainsError, SourceLine, closest
from bb_roles.errors import UnknownPluginError
from bb_roles.registry import installed, stage_function, stage_spec

__all__ = ["CANONICAL_STAGES", "Stage", "own_stage", "plugin_stage", "unknown_stage"]


class Stage(NamedTuple):
    """One stage of a compiler.

    Attributes:
        name: The name that the artifact records.
        run: The stage itself.
        origin: Distribution and version that a plugin's stage comes from; else empty.
        before: The stage before which a plugin's stage runs unless somebody says otherwise.
        after: The same for the stage after which it runs.
    """

    name: str
    run: Pass
    origin: str = ""
    before: str = ""
    after: str = ""


CANONICAL_STAGES = tuple(Stage(stage.__name__, stage) for stage in CANONICAL)
_CANONICAL = frozenset(stage.name for stage in CANONICAL_STAGES)


def own_stage(function: object) -> Stage:
    """Return a stage that a user wrote.

    Raises:
        BadStage: It is no function, or has the name of a stage of the compiler.
    """
    if not callable(function) or isinstance(function, type):
        raise BadStage(
            f"{function!r} is inserted as a stage",
            expected="a function from model to model, or the name of an installed stage",
        )
    name = getattr(function, "__name__", type(function).__name__)
    if name in _CANONICAL:
        raise BadStage(
            f"a function that is inserted as a stage is called {name}, like one of the compiler",
            expected="a name of its own: the artifact records which stages ran",
            fix="rename the function",
        )
    return Stage(name, _checked(name, function))


def plugin_stage(name: str, present: Sequence[str]) -> Stage:
    """Import a plugin's stage.

    Args:
        name: What the plugin calls it.
        present: Names of the stages that the compiler has already.

    Raises:
        UnknownStage: No plugin provides it.
        BadStage: It has the name of a stage of the compiler, or is there already.
        PluginError: It is broken.
    """
    if name in _CANONICAL:
        owners = [one.distribution for one in installed("stage") if one.name == name]
        raise BadStage(
            f"stage {name!r} is one of the compiler",
            expected="a function, or the name of a stage that a plugin adds",
            fix=f"ask the author of {owners[0]} to give its stage another name"
            if owners
            else "leave it out: it runs unless without_stage removed it",
        )
    if name in present:
        raise BadStage(f"stage {name!r} is inserted twice", fix="insert it once")
    try:
        spec = stage_spec(name)
    except UnknownPluginError as error:
        raise unknown_stage(name, present) from error
    known = next(one for one in installed("stage") if one.name == name)
    run = _checked(name, stage_function(spec))
    origin = f"{known.distribution} {known.version}"
    return Stage(name, run, origin, spec.before, spec.after)


def unknown_stage(name: str, present: Sequence[str], fix: str = "") -> UnknownStage:
    """Return the error about a name that no stage here has.

    Args:
        name: The name.
        present: Names of the stages that the compiler has.
        fix: What to do about it, where more is known than the name.
    """
    there = [one.name for one in installed("stage")]
    close = closest(name, dict.fromkeys([*present, *there]))
    return UnknownStage(
        f"there is no stage {name!r}",
        expected=f"{', '.join(present)}; installed: {', '.join(there) or 'none'}",
        fix=fix or (f"did you mean {close!r}?" if close else "`bb plugins stage` lists them"),
    )


def _checked(name: str, stage: Any) -> Pass:
    """Return a stage whose failures are errors of the compiler that name it."""

    def run(model: ModelProto) -> ModelProto:
        try:
            result: object = stage(model)
        except CompileError:
            raise
        except BytesAndBrainsError as error:
            raise RefusedByStage(
                f"stage {name!r} refuses the program: {error.found}",
                expected=error.expected,
                fix=error.fix,
                where=error.where,
            ) from error
        except Exception as error:
            raise StageFailed(
                f"stage {name!r} raises {type(error).__name__}: {error}",
                fix="repair the stage, or leave it out",
                where=_raised_at(error),
            ) from error
        if isinstance(result, ModelProto):
            return result
        raise StageFailed(
            f"stage {name!r} returns {'nothing' if result is None else type(result).__name__}",
            expected="an onnx.ModelProto",
            fix="end it with `return model`, with the model it changed or the one it was given",
        )

    return run


def _raised_at(error: BaseException) -> tuple[SourceLine, ...]:
    """Return the innermost line of the stage's own folder that raised."""
    calls = traceback.extract_tb(error.__traceback__)[1:]
    home = Path(calls[0].filename).parent if calls else None
    own = [call for call in calls if Path(call.filename).parent == home]
    return tuple(SourceLine(call.filename, call.lineno or 0) for call in own[-1:])
