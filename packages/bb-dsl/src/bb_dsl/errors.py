"""Errors of recording: what a user wrote in `body` cannot mean anything."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "BadOption",
    "BuildError",
    "DuplicateName",
    "EmptyModule",
    "ForeignValue",
    "NoBackendInScope",
    "NotAnOutput",
    "RecursiveModule",
    "UnknownPort",
    "UnnamedModule",
    "WrongPortType",
]


class BuildError(BytesAndBrainsError):
    """A Module that cannot be recorded."""


class EmptyModule(BuildError):
    """The body records no op."""


class DuplicateName(BuildError):
    """An input, output or edge name is used twice in one Module."""


class NotAnOutput(BuildError):
    """Something was handed to an op that is not a recorded value."""


class ForeignValue(BuildError):
    """A value of another recording was used, or a recording that has ended."""


class NoBackendInScope(BuildError):
    """Tensor maths on values needs exactly one Backend slot in the Module."""


class UnknownPort(BuildError):
    """A sub-module was called with an input it does not declare, or lacks one that it does."""


class WrongPortType(BuildError):
    """A sub-module was given a value of a type that its input does not take."""


class UnnamedModule(BuildError):
    """A Module that is used is not an attribute of the Module that uses it."""


class RecursiveModule(BuildError):
    """A Module calls itself while it is recorded."""


class BadOption(BuildError):
    """An option of an op has a value that it cannot take."""
