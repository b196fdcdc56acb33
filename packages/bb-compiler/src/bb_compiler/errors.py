"""Everything the compiler can object to. Each error has a code: the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "AmbiguousPlacement",
    "ArtifactInvalid",
    "BadBinding",
    "CompileError",
    "ComponentTypeMisfit",
    "CrossClassDataflow",
    "DeadlineInversion",
    "DependencyMissing",
    "FanOutEscape",
    "Findings",
    "GatherOutsideFanOut",
    "MalformedRecording",
    "NotSendable",
    "QuorumUnreachable",
    "SenderOutsideMessage",
    "SeveralErrors",
    "SiblingRegions",
    "TypeMismatch",
    "UnboundSlot",
    "UnknownOp",
    "UnknownPeerClass",
    "UnknownSlot",
    "UnknownStage",
    "WrongRole",
]


class CompileError(BytesAndBrainsError):
    """A program that cannot be compiled."""


class SeveralErrors(CompileError):
    """Several errors of one pass.

    Attributes:
        errors: The errors, in the order of the program.
    """

    def __init__(self, errors: list[CompileError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{len(errors)} errors")

    def __str__(self) -> str:
        return "\n\n".join(f"{error.code}: {error}" for error in self.errors)


class Findings:
    """Collects the errors of one pass, to report them together."""

    def __init__(self) -> None:
        self.errors: list[CompileError] = []
        self._told: set[tuple[str, str]] = set()

    def add(self, error: CompileError) -> None:
        """Remember an error, unless the same was found before."""
        told = (error.code, str(error))
        if told not in self._told:
            self._told.add(told)
            self.errors.append(error)

    def done(self) -> None:
        """Raise what was found.

        Raises:
            CompileError: The one error, or `SeveralErrors`.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise SeveralErrors(self.errors)


class MalformedRecording(CompileError):
    """A recorded model that breaks the rules of the IR; not made by `Module.build`."""


class UnknownOp(CompileError):
    """An op that no role and no standard defines."""


class CrossClassDataflow(CompileError):
    """Values of two peer classes meet in one op without a network edge."""


class SiblingRegions(CompileError):
    """Values of two regions that no frame can see together meet in one op."""


class AmbiguousPlacement(CompileError):
    """An op without located inputs was placed by the cursor, but its uses stand elsewhere."""


class FanOutEscape(CompileError):
    """A value that exists once per reply is used where there is only one frame."""


class GatherOutsideFanOut(CompileError):
    """A gather over a value that is not in a region of replies."""


class SenderOutsideMessage(CompileError):
    """The sender of a value that no message brought."""


class UnknownPeerClass(CompileError):
    """Peers whose class is not known, or a class that has no region here."""


class DeadlineInversion(CompileError):
    """An inner gather may wait longer than the outer one that waits for it."""


class QuorumUnreachable(CompileError):
    """A gather wants more answers than peers are asked."""


class BadBinding(CompileError):
    """What is bound to a slot is no component, or none that an installer could find."""


class UnboundSlot(CompileError):
    """A slot that the program uses and nobody bound."""


class UnknownSlot(CompileError):
    """A binding of a slot that the program does not have."""


class WrongRole(CompileError):
    """A component of one role bound to a slot of another."""


class DependencyMissing(CompileError):
    """A component needs a sibling slot that is not bound, or not with the right role."""


class ComponentTypeMisfit(CompileError):
    """A component declares types that its role rules out; a defect of its plugin."""


class TypeMismatch(CompileError):
    """A value of one type is used where another is needed."""


class NotSendable(CompileError):
    """A value that only makes sense on its own Node, or of unknown type, crosses the network."""


class UnknownStage(CompileError):
    """A compiler stage that is not in the list."""


class ArtifactInvalid(CompileError):
    """The compiled model breaks the rules of ONNX or of the runtime; a defect of the compiler."""
