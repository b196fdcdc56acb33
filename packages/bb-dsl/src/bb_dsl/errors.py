"""Errors of recording: what a user wrote in `body` cannot mean anything."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "BadOption",
    "BuildError",
    "DuplicateName",
    "EmptyBlock",
    "EmptyModule",
    "ForeignValue",
    "MissingGraph",
    "NoBackendInScope",
    "NoValueYet",
    "NotAnOutput",
    "NotEntered",
    "RecursiveModule",
    "UnknownAttribute",
    "UnknownPort",
    "UnknownType",
    "UnnamedModule",
    "WrongPortType",
]


class BuildError(BytesAndBrainsError):
    """A Module cannot be recorded.

    What all errors of recording are kinds of; it is caught, never raised itself.
    """


class EmptyModule(BuildError):
    """The body of a Module records no op.

    A program that does nothing is taken for a mistake, such as a forgotten `g`. Call a method
    of a slot, or `g.output(...)`.
    """


class EmptyBlock(BuildError):
    """Nothing is recorded inside a block.

    A `with g.rounds(...)` or another block without ops is taken for a mistake. Indent the ops
    into it, or leave it out.
    """


class DuplicateName(BuildError):
    """The name of an edge, an input or an output is used twice in one Module.

    Names are how peers, hosts and other Modules refer to what is meant, so each stands for one
    thing. The first line is the second use, the one below it the first.
    """


class NotAnOutput(BuildError):
    """Something that is not a recorded value was handed to an op.

    While a program is recorded there are no numbers yet, only values to come. Hand in what
    another op returned, an input, or `g.constant(...)`.
    """


class NotEntered(BuildError, TypeError, AttributeError):
    """A block is used without `with`.

    `g.rounds(...)`, `g.loop(...)`, `g.when(...)` and their like make a block; only `with` opens
    it: `with g.rounds(10) as turn:`. The number of the turn is what stands behind `as`. It is a
    `TypeError` and an `AttributeError` too.
    """


class NoValueYet(BuildError, TypeError):
    """A recorded value is used as though the program ran already.

    `if`, `for`, `int(...)`, `len(...)`, `==` with a number and f-strings happen once, while the
    program is recorded, when there are no numbers yet. The error names what records the same. It
    is a `TypeError` too.
    """


class UnknownAttribute(BuildError, AttributeError):
    """A slot has no such method, or a value or a Module no such attribute.

    Most often a misspelt name. A field of a record is read by `metrics["loss"]`. It is an
    `AttributeError` too.
    """


class MissingGraph(BuildError, TypeError):
    """A method of a slot is called without `g`.

    Every method of a slot takes the graph that `body` is given as its first argument. It is a
    `TypeError` too.
    """


class ForeignValue(BuildError):
    """A value of another recording was used, or a recording that has ended.

    Each Module is recorded on its own. Declare an input in the sub-module and hand the value in
    by its name; keep no value from one `build()` for the next.
    """


class NoBackendInScope(BuildError):
    """Tensor maths on recorded values found no Backend slot, or several.

    `x + y` needs to know which component computes it. Give the Module one `bb.slots.Backend()`;
    with several, call the one you mean: `self.left.add(g, x, y)`.
    """


class UnknownType(BuildError):
    """Arithmetic on a value of which nobody knows whether it is a number or a tensor.

    Records that a component gives may have fields of which only the component knows. Say the type
    where the field is read, `g.field(metrics, "accuracy", "float64")`, or where an input is
    declared.
    """


class UnknownPort(BuildError):
    """A sub-module was called with an input that it does not declare, or without one that it does.

    The names in the call are those of `g.input(...)` in its body.
    """


class WrongPortType(BuildError):
    """A sub-module was given a value of a type that its input does not take.

    The first line is the call, the last one the declaration. Hand in another value, or declare
    another type.
    """


class UnnamedModule(BuildError):
    """A Module is used that is not an attribute of the Module that uses it.

    Slots and edges of a sub-module are named after its attribute, so that the names stay the
    same in every build. Keep it in `__init__`: `self.part = Part()`.
    """


class RecursiveModule(BuildError):
    """A Module calls itself while it is recorded.

    A program is finite. Say what is to be repeated with `g.rounds` or `g.loop`, or call another
    Module.
    """


class BadOption(BuildError):
    """An option of an op, a name or a type has a value that it cannot have.

    Met where it is written: a quorum, a deadline, the name of an edge, the type of an input.
    The error says what may stand there.
    """
