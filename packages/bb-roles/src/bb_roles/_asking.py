"""Asks one plugin for its declaration, and imports what a declaration names.

Whatever goes wrong in somebody else's code becomes a `PluginError` that names the plugin; this is
the one place where that happens.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import lru_cache
from traceback import walk_tb
from typing import Any

import pluggy

from bb_ir.errors import SourceLine, closest
from bb_roles import hookspecs
from bb_roles._hooks import PROJECT
from bb_roles.entry_points import find, installed, unprovided
from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.spec import API

__all__ = ["ask", "check_api", "import_named"]


def ask(point: str, hook: str) -> Any:
    """Import the module of an entry point, and no other, and return what its hook returns.

    Raises:
        UnknownPluginError: Nobody provides it.
        PluginError: It cannot be imported, is provided twice, or lacks the hook.
    """
    found = find(point)
    if not found:
        raise _unknown(point)
    if len(found) > 1:
        owners = ", ".join(one.distribution for one in found)
        raise PluginError(
            f"plugin {point} is provided by more than one distribution: {owners}",
            fix="uninstall all but one of them",
        )
    return _ask(point, found[0].value, hook, found[0].location)


@lru_cache(maxsize=512)
def _ask(point: str, value: str, hook: str, _path: str) -> Any:
    """Register one plugin with a pluggy manager of its own and call one hook."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(importlib.import_module(value), name=point)
        manager.check_pending()
        called: Callable[[], Any] = getattr(manager.hook, hook)
        answer = called()
    except pluggy.PluginValidationError as error:
        raise PluginError(
            f"plugin {point} does not load: {error}",
            expected=f"@hookimpl def {hook}(), in {value!r}",
            fix=f"give the function of the plugin that name, and no arguments: {hook}",
        ) from error
    except Exception as error:
        raise PluginError(
            f"plugin {point} does not load: {type(error).__name__}: {error}",
            fix=f"repair {value!r}, or uninstall the distribution that provides it",
            where=_raised_in(error, value),
        ) from error
    if answer is None:
        raise PluginError(f"plugin {point} has no hook {hook}", fix=f"add @hookimpl def {hook}()")
    return answer


def import_named(path: str, label: str) -> Any:
    """Import what `module:name` names; errors carry the plugin's label.

    Raises:
        PluginError: The module cannot be imported or lacks the name.
    """
    module, colon, name = path.partition(":")
    if not colon:
        raise PluginError(
            f"plugin {label} names {path!r}",
            expected="a module, a colon, and a name in it",
            fix=f"write {':'.join(path.rsplit('.', 1))!r}",
        )
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        fix = f"repair {module!r}, or uninstall the distribution that provides it"
        if isinstance(error, ImportError):
            fix = f"check that {path!r} exists and that its dependencies are installed"
        raise PluginError(
            f"plugin {label} cannot be imported: {type(error).__name__}: {error}",
            fix=fix,
            where=_raised_in(error, module),
        ) from error
    for part in name.split("."):
        known = found
        try:
            found = getattr(known, part)
        except AttributeError as error:
            close = closest(part, dir(known))
            raise PluginError(
                f"plugin {label} cannot be imported: {module!r} has no {name!r}",
                fix=f"did you mean {close!r}?" if close else f"put {part!r} there, or name another",
            ) from error
    return found


def _raised_in(error: BaseException, module: str) -> SourceLine | tuple[()]:
    """Return the last line of a plugin's own package that an exception came through, if any."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return SourceLine(error.filename, error.lineno)
    package = module.partition(".")[0]
    lines = [
        SourceLine(frame.f_code.co_filename, line)
        for frame, line in walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] == package
    ]
    return lines[-1] if lines else ()


def check_api(point: str, api: object) -> None:
    """Check the version of the contract that a plugin says it was written for.

    Raises:
        PluginError: This package does not speak it, or it is no version.
    """
    match api:
        case (int(major), int(minor)):
            fits = major == API[0] and 0 <= minor <= API[1]
            told = f"{major}.{minor}"
        case _:
            raise PluginError(
                f"plugin {point} was written for contract {api!r}, which is no version",
                expected=f"{API[0]}.0 to {API[0]}.{API[1]}, which this bb-roles speaks",
                fix=f"write api={API}",
            )
    if not fits:
        raise PluginError(
            f"plugin {point} was written for contract {told}",
            expected=f"{API[0]}.0 to {API[0]}.{API[1]}, which this bb-roles speaks",
            fix="install a bb-roles and a plugin that fit each other",
        )


def _unknown(point: str) -> UnknownPluginError:
    kind, _, short = point.partition(".")
    names = list(dict.fromkeys(one.name for one in installed(kind)))
    close = closest(short, names)
    hint = f"did you mean {close!r}? " if close else ""
    if os.environ.get("BB_PLUGINS"):
        hint += "BB_PLUGINS is set and hides all others; "
        for name, near in unprovided().items():
            meant = f" (did you mean {near!r}?)" if near else ""
            hint += f"it names {name!r}, which nobody provides{meant}; "
    return UnknownPluginError(
        f"no plugin provides {point}",
        expected=f"installed: {', '.join(names) or 'none'}",
        fix=f"{hint}`bb plugins` lists what is installed; plugins are installed with pip, those of "
        'the project by `pip install "bytesandbrains[all]"`',
    )
