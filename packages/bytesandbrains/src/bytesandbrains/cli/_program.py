"""Finds the program that a command line names: in a user's file, a module, or an artifact.

Importing a user's file runs it; that is what was asked for. What goes wrong in it is reported with
the user's line, as is a body that raises while it is recorded.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from bb_ir.errors import BytesAndBrainsError, SourceLine, closest, did_you_mean
from bytesandbrains.cli._errors import CliError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Program", "import_file", "literal", "load_program"]

_HOW = "FILE.py:NAME, package.module:NAME, or an artifact FILE.onnx"


class NoSuchFile(CliError):
    """A file or module is named that is not there.

    A program is named as `FILE.py:NAME` or `package.module:NAME`, an artifact by its file.
    """


class NoSuchName(CliError):
    """The program's file does not have the name, or has several programs and none was named.

    Name a Module of it: `bb compile my.py:MyModule`.
    """


class NotAProgram(CliError):
    """What is named is neither a Module nor a model.

    Name a Module class, a Module, a function that returns one, or a model.
    """


class ProgramRaised(CliError):
    """Your own code raised while it was imported or recorded.

    The error names the deepest line of your file; `-vv` shows the whole traceback.
    """


class WrongArguments(CliError):
    """A Module is given arguments that it does not take, or lacks one.

    `--arg NAME=VALUE` fills the arguments of its `__init__`.
    """


@dataclass(frozen=True)
class Program:
    """A recorded or compiled program.

    Attributes:
        model: The ONNX model.
        compiled: Whether it has a passport.
        place: What the user named.
        bindings: What the Module itself says about its slots: the class attribute `bindings`.
    """

    model: ModelProto
    compiled: bool
    place: str
    bindings: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @contextmanager
    def blamed(self) -> Generator[None]:
        """Let errors that say no place name the program."""
        try:
            yield
        except BytesAndBrainsError as error:
            if not error.where and not getattr(error, "errors", ()):
                error.where = (self.place,)
            raise


def literal(text: str) -> Any:
    """Return a Python literal, or the text itself when it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def load_program(spec: str, arguments: Mapping[str, str]) -> Program:
    """Return the program that `spec` names; a Module is built with `arguments`.

    Raises:
        BytesAndBrainsError: It cannot be found, is no program, or its own code raised.
    """
    place, colon, name = spec.rpartition(":")
    if not colon:
        place, name = spec, ""
    path = Path(place)
    if path.suffix == ".py":
        return _program(import_file(path), name, str(path), arguments)
    if colon and not path.exists():
        return _program(_import_module(place), name, place, arguments)
    return _artifact(Path(spec), arguments)


def _artifact(path: Path, arguments: Mapping[str, str]) -> Program:
    if not path.is_file():
        raise _no_file(path, ".onnx")
    if arguments:
        raise WrongArguments(
            f"{path} is a model, which takes no arguments",
            fix="leave --arg out, or name the Module: FILE.py:NAME",
        )
    from google.protobuf.message import DecodeError
    from onnx import ModelProto

    from bb_runtime.errors import InvalidArtifact

    try:
        model = ModelProto.FromString(path.read_bytes())
    except (DecodeError, OSError) as error:
        raise InvalidArtifact(
            f"{path} cannot be read as an ONNX model: {error}",
            expected="a file that `bb compile` or onnx.save wrote",
            fix="compile the program again; the file may be cut off",
        ) from error
    return _of_model(model, str(path))


def _of_model(model: ModelProto, place: str) -> Program:
    from bb_ir import keys, onnx_tools

    return Program(model, bool(onnx_tools.get_meta(model, keys.COMPILED)), place)


def import_file(path: Path) -> ModuleType:
    """Import a Python file by its path; the same file is imported once.

    Raises:
        NoSuchFile: There is none.
        ProgramRaised: It raised while it was imported.
    """
    if not path.is_file():
        raise _no_file(path, ".py")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    name = _importable_name(path)
    known = sys.modules.get(name)
    if known is not None and Path(known.__file__ or "").resolve() == path.resolve():
        return known
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _raised(f"{path} cannot be imported", error, module) from error
    return module


def _importable_name(path: Path) -> str:
    """Return the file's name as a module, unless an installed module has that name."""
    own = path.resolve()
    known: Any = sys.modules.get(path.stem)
    if known is not None:
        origin = getattr(known, "__file__", None)
    else:
        spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
        origin = None if spec is None else spec.origin
    same = origin is not None and Path(origin).resolve() == own
    return path.stem if same else f"bb_file_{path.stem}"


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.split(".")[: error.name.count(".") + 1] == error.name.split("."):
            raise NoSuchFile(
                f"there is no module {name!r}",
                expected=_HOW,
                fix="check the name; a file is named with its ending: my.py:MyModule",
            ) from error
        raise _raised(f"module {name} cannot be imported", error, None) from error
    except Exception as error:
        raise _raised(f"module {name} cannot be imported", error, None) from error


def _program(module: ModuleType, name: str, place: str, arguments: Mapping[str, str]) -> Program:
    from onnx import ModelProto

    from bb_dsl import Module

    found = _named(module, name, place)
    if isinstance(found, ModelProto):
        return _of_model(found, f"{place}:{name}")
    made = found
    if not isinstance(found, Module):
        if not callable(found):
            raise NotAProgram(
                f"{name!r} in {place} is of type {type(found).__name__}",
                expected="a Module class, a Module, a function that returns one, or a ModelProto",
            )
        made = _call(found, arguments, module)
    elif arguments:
        raise WrongArguments(
            f"{name!r} in {place} is a Module that was made already", fix="leave --arg out"
        )
    if isinstance(made, ModelProto):
        return _of_model(made, f"{place}:{name}")
    if not isinstance(made, Module):
        raise NotAProgram(
            f"{name}() in {place} returned a value of type {type(made).__name__}",
            expected="a Module or a ModelProto",
        )
    model = _record(made, module)
    return Program(model, compiled=False, place=place, bindings=_default_bindings(made, model))


def _default_bindings(made: Any, model: ModelProto) -> Mapping[str, Any]:
    """Return the Module's own bindings, without those of slots that it has and does not use."""
    from bb_ir import keys, onnx_tools

    given: Any = getattr(made, "bindings", {})
    if not isinstance(given, Mapping):
        raise NotAProgram(
            f"{type(made).__name__}.bindings is of type {type(given).__name__}",
            expected='a dict from slots to components: bindings = {"model": "mlp"}',
        )
    named = cast("Mapping[str, Any]", given)
    used = json.loads(onnx_tools.get_meta(model, keys.SLOTS, "{}"))
    idle = {handle.name for handle in made.slots_of()} - set(used)
    return {key: bound for key, bound in named.items() if key.rpartition(".")[2] not in idle}


def _named(module: ModuleType, name: str, place: str) -> Any:
    from bb_dsl import Module

    own = [
        key
        for key, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, Module)
        and value.__module__ == module.__name__
    ]
    listed = ", ".join(own) or "no Module at all"
    if not name and len(own) == 1:
        name = own[0]
    if not name:
        raise NoSuchName(
            f"{place} does not say which program",
            expected=f"{place}:NAME; it has {listed}",
            fix=f"write {' or '.join(f'{place}:{one}' for one in own)}"
            if own
            else "define a subclass of bb.Module in it",
        )
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            close = closest(name, own)
            raise NoSuchName(
                f"{place} has no {name!r}",
                expected=f"one of its Modules: {listed}",
                fix=f"did you mean {place}:{close}?" if close else "check the name",
            )
        found = getattr(found, part)
    return found


def _call(made_by: Any, arguments: Mapping[str, str], module: ModuleType) -> Any:
    given = {name: literal(text) for name, text in arguments.items()}
    name = getattr(made_by, "__name__", str(made_by))
    signature = inspect.signature(made_by)
    try:
        signature.bind(**given)
    except TypeError as error:
        known = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        needed = [p.name for p in known if p.default is p.empty and p.name not in given]
        options = " ".join(f"--arg {missing}=..." for missing in needed)
        raise WrongArguments(
            f"{name} cannot be made: {error}",
            expected=f"{name}({', '.join(map(_shown, known))})",
            fix=(options and f"add {options}") or _meant(given, signature),
        ) from error
    try:
        return made_by(**given)
    except Exception as error:
        raise _raised(f"{name}(...) raised", error, module) from error


def _meant(given: Mapping[str, Any], signature: inspect.Signature) -> str:
    """Return the question for an argument that is almost one of those taken, or nothing."""
    unknown = [name for name in given if name not in signature.parameters]
    return did_you_mean(unknown[0], signature.parameters) if unknown else ""


def _shown(parameter: inspect.Parameter) -> str:
    optional = parameter.default is not parameter.empty
    return f"{parameter.name}={parameter.default!r}" if optional else parameter.name


def _record(made: Any, module: ModuleType) -> ModelProto:
    try:
        model: ModelProto = made.build()
    except BytesAndBrainsError:
        raise
    except Exception as error:
        raise _raised(f"{type(made).__name__} cannot be recorded", error, module) from error
    return model


def _raised(what: str, error: Exception, module: ModuleType | None) -> ProgramRaised:
    """Return our error for one of the user's code, at the deepest line of the user's file."""
    if isinstance(error, SyntaxError) and error.filename:
        where = SourceLine(error.filename, error.lineno or 1)
        return ProgramRaised(f"{what}: {error.msg}", fix="correct the file", where=where)
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(module, "__file__", None)
    own = [frame for frame in frames if frame.filename == file] or frames[-1:]
    lines = tuple(SourceLine(f.filename, f.lineno or 1) for f in own[-1:])
    if isinstance(error, BytesAndBrainsError):  # it says itself what to do
        told = f"{what}: {error.code}: {error.found}"
        return ProgramRaised(told, expected=error.expected, fix=error.fix, where=lines)
    return ProgramRaised(
        f"{what}: {type(error).__name__}: {error}",
        where=lines,
        fix=f"{_misspelt(error) or 'correct the program'}; -vv shows the whole traceback",
    )


def _misspelt(error: Exception) -> str:
    """Return the question for a misspelt name, which Python puts only below a traceback."""
    if isinstance(error, AttributeError) and error.name:
        return did_you_mean(error.name, dir(error.obj))
    return ""


def _no_file(path: Path, suffix: str) -> NoSuchFile:
    kinds = {suffix} if path.suffix else {suffix, ".py"}  # `my` for `my.py`
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in kinds]
    except OSError:
        names = []
    whole = f"{path.name}.py"
    close = whole if whole in names else closest(path.name, names)
    return NoSuchFile(
        f"there is no file {str(path)!r}",
        expected=_HOW,
        fix=f"did you mean {path.parent / close}?" if close else "check the path",
    )
