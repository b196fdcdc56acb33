"""The base of every error that this project raises on purpose.

An error says what was found, where, what was expected and how to mend it. This module holds the
base and the errors of `bb_ir` itself; each package defines its own families on top of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "AddressError",
    "BytesAndBrainsError",
    "IdError",
    "ModelTextError",
    "ParameterSetError",
    "SourceLine",
    "TypeTextError",
    "WireError",
]


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A place in a user's file.

    Attributes:
        file: Path as Python reports it.
        line: Line number, counted from 1.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"

    @classmethod
    def parse(cls, text: str) -> SourceLine:
        """Read back what `str` wrote."""
        file, _, line = text.rpartition(":")
        return cls(file, int(line))


def _quoted(place: SourceLine | str) -> str:
    """Return the user's line, when its file can still be found."""
    if isinstance(place, str):
        return ""
    import linecache

    return linecache.getline(place.file, place.line).strip()


class BytesAndBrainsError(Exception):
    """Base of every error raised on purpose.

    Args:
        found: What is wrong, in one sentence, with the offending value in it.
        expected: What would have been right; may be empty.
        fix: What the reader should do; may be empty.
        where: The places the error is about, the most important one first.
    """

    #: Stable name of the kind of error; tools may compare it, prose may change.
    code: ClassVar[str] = "error"

    def __init__(
        self,
        found: str,
        *,
        expected: str = "",
        fix: str = "",
        where: SourceLine | str | tuple[SourceLine | str, ...] = (),
    ) -> None:
        self.found = found
        self.expected = expected
        self.fix = fix
        self.where: tuple[SourceLine | str, ...] = where if isinstance(where, tuple) else (where,)
        super().__init__(found)

    def __str__(self) -> str:
        lines = [self.found]
        for place in self.where:
            lines.append(f"  --> {place}")
            lines += [f"   |  {text}" for text in (_quoted(place),) if text]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in vars(cls):
            cls.code = cls.__name__


class IdError(BytesAndBrainsError):
    """A peer id or key that cannot be read."""


class AddressError(BytesAndBrainsError):
    """A multiaddr that cannot be read or written."""


class ParameterSetError(BytesAndBrainsError):
    """A safetensors image that is damaged, or tensors that cannot form one."""


class TypeTextError(BytesAndBrainsError):
    """The text of a type that cannot be read."""


class ModelTextError(BytesAndBrainsError):
    """The text of a model that cannot be read."""


class WireError(BytesAndBrainsError):
    """Bytes from outside that are not a valid envelope of this program."""
