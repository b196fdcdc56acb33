"""Finds the codecs of the types of values that plugins add, before anything of a Node is built."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from bb_ir.types import Type, custom_names
from bb_roles.errors import PluginError
from bb_roles.registry import type_point, type_spec, value_codec
from bb_runtime.artifact import Artifact, Target
from bb_runtime.errors import NotAllowed, UnresolvedType

if TYPE_CHECKING:
    from bb_ir.values import ValueCodec

__all__ = ["codecs_of"]


def codecs_of(
    artifact: Artifact, targets: Sequence[Target], allow: Collection[str] | None
) -> dict[str, ValueCodec]:
    """Return the codecs of all types of plugins that targets are given, send or receive.

    Raises:
        InstallError: A type's plugin is not installed, not allowed or broken.
    """
    found: dict[str, ValueCodec] = {}
    for target in targets:
        for place, declared in _places(artifact, target):
            for name in custom_names(declared):
                if name not in found:
                    found[name] = _codec(name, place, allow)
    return found


def _places(artifact: Artifact, target: Target) -> Iterator[tuple[str, Type]]:
    for name in target.inputs:
        if name in target.types:
            yield f"input {name!r} of {target.short}", target.types[name]
    for edge in dict.fromkeys(op.edge for op in target.ops if op.edge in artifact.edges):
        for port, declared in artifact.edges[edge].ports:
            yield f"{port!r} on edge {edge!r}", declared


def _codec(name: str, place: str, allow: Collection[str] | None) -> ValueCodec:
    point = type_point(name)
    if allow is not None and point not in allow:
        raise NotAllowed(
            f"{place} is of type {name}, whose plugin {point} is not allowed",
            expected=f"one of {', '.join(sorted(allow)) or 'none'}",
            fix="allow it, or install another artifact",
        )
    try:
        return value_codec(type_spec(name))
    except PluginError as error:
        raise UnresolvedType(
            f"{place} is of type {name}: {error.found}", expected=error.expected, fix=error.fix
        ) from error
