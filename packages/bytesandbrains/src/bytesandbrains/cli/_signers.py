"""Whose signatures an artifact carries, and which of them hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Signers", "signers_in", "signers_of"]


class Signers(NamedTuple):
    """The peer ids of those who signed an artifact, sorted.

    Attributes:
        held: Whose signature is of the artifact as it is.
        broken: Whose signature is of something else: it was changed since, or never was theirs.
    """

    held: list[str]
    broken: list[str]

    def lines(self) -> list[str]:
        """Return what a person is told; nothing where nobody signed."""
        told = [f"signed by {', '.join(self.held)}"] if self.held else []
        return told + [
            f"the signature of {one} does not hold: the artifact was changed after it"
            for one in self.broken
        ]


def signers_of(model: ModelProto, content: str) -> Signers:
    """Return who signed an artifact.

    Args:
        model: The artifact.
        content: Its full hash, which covers data in files beside it.
    """
    from bb_ir.signing import signatures, verify

    signers = Signers([], [])
    for peer, made in sorted(signatures(model).items(), key=lambda one: str(one[0])):
        (signers.held if verify(content, peer, made) else signers.broken).append(str(peer))
    return signers


def signers_in(file: Path) -> Signers:
    """Return who signed the artifact in a file.

    Raises:
        InvalidArtifact: It holds none.
    """
    from onnx import ModelProto

    from bb_ir.signing import full_hash
    from bb_runtime import load_artifact

    whole = ModelProto.FromString(load_artifact(file).data)
    return signers_of(whole, full_hash(whole))
