"""Inputs of an invocation, from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir.types import ANY, Type
from bytesandbrains.cli._errors import CliError
from bytesandbrains.cli._program import literal

if TYPE_CHECKING:
    from bytesandbrains.local import LocalFederation

__all__ = ["read_inputs"]


class BadInput(CliError):
    """An input cannot be read as what the program declares.

    `bb run --input NAME=VALUE` takes a Python literal or a file `@array.npy`.
    """


def read_inputs(federation: LocalFederation, given: Mapping[str, str]) -> dict[str, Any]:
    """Return the inputs as values of their declared types; those that are peers are filled in.

    Raises:
        BadInput: A text cannot be read as the declared type.
    """
    target = federation.main
    inputs = {name: _value(name, text, target.types.get(name, ANY)) for name, text in given.items()}
    for name in target.inputs:
        type_ = target.types.get(name, ANY)
        if name not in inputs and type_.kind == "peers":
            inputs[name] = tuple(federation.peers.get(type_.of, ()))
    return inputs


def _value(name: str, text: str, type_: Type) -> Any:
    import numpy as np

    try:
        if text.startswith("@"):
            return np.load(Path(text[1:]), allow_pickle=False)
        value = literal(text)
        if type_.kind == "tensor":
            return np.asarray(value, dtype=type_.dtype or None)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"input {name}={text} cannot be read: {error}",
            expected=f"a {type_}, as a Python literal or @file.npy",
            where=f"--input {name}",
        ) from error
    return value
