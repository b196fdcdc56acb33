"""The base of every error that this project raises on purpose.

An error says what was found, where, what was expected and how to mend it. This module holds the
base and the errors of `bb_ir` itself; each package defines its own families on top of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "AddressError",
    "BytesAndBrainsError",
    "DumpError",
    "IdError",
    "ModelTextError",
    "OpSchemaError",
    "ParameterSetError",
    "SourceLine",
    "TypeTextError",
    "WireError",
    "closest",
    "did_you_mean",
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


#: How much two names have to have in common, from 0 to 1: `modle` and `model` have 0.8, `codek` and
#: `model` 0.6.
_CLOSE = 0.7
#: Letters of a name of which one may be wrong, or that is the beginning of another: `eval`.
_SHORTEST = 3


def closest(wanted: str, known: Iterable[str]) -> str:
    """Return the one of some names that another was probably meant to be, or an empty text.

    Args:
        wanted: What was written.
        known: What could have been.
    """
    near = [(_likeness(wanted, name), name) for name in known]
    likeness, name = max(near, key=lambda pair: pair[0], default=(0.0, ""))
    return name if likeness >= _CLOSE else ""


def _likeness(wanted: str, name: str) -> float:
    """Return how alike two names are, from 0 to 1."""
    from difflib import SequenceMatcher

    ratio = SequenceMatcher(None, name, wanted).ratio()
    short, long = sorted((wanted, name), key=len)
    # Letters that changed places, one that is another, or a name that was not written to its end.
    one_off = len(short) == len(long) and sum(map(str.__ne__, short, long)) == 1
    almost = sorted(short) == sorted(long) or one_off or long.startswith(short)
    plural = long == short + "s"
    return max(ratio, _CLOSE) if plural or (almost and len(short) >= _SHORTEST) else ratio


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return the question for a name that is almost one of those known, or an empty text."""
    close = closest(wanted, known)
    return f"did you mean {close!r}?" if close else ""


def _quoted(place: SourceLine | str) -> str:
    """Return the user's line, when its file can still be found."""
    if isinstance(place, str):
        return ""
    import linecache

    try:
        return linecache.getline(place.file, place.line).strip()
    except ValueError:  # an artifact may name any file, also one that no system can have
        return ""


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
    """A peer id or key cannot be read.

    Met where ids and keys are read from text, files or messages: `PeerId.parse`,
    `KeyPair.from_pem`. Copy the id or key again, whole; an id begins with `12D3KooW` or `Qm`.
    """


class AddressError(BytesAndBrainsError):
    """A multiaddr cannot be read or written.

    Met at `Address.parse` and wherever a peer's address is read. Write one protocol after the
    other, each with its value: `/ip4/10.0.0.7/tcp/4001`.
    """


class ParameterSetError(BytesAndBrainsError):
    """The bytes of a parameter set are damaged, or the tensors cannot form one.

    Met when a safetensors file or a message with parameters is read, and when tensors are put
    together. A file that was cut off has to be copied again; what a peer sent is dropped.
    """


class OpSchemaError(BytesAndBrainsError):
    """The schema of an op contradicts itself, or its text cannot be read.

    Met by authors of protocols and of other components with ops of their own, when the module
    is imported or the program is compiled. Correct the `OpSchema`.
    """


class DumpError(BytesAndBrainsError):
    """A value cannot be written to a dump, or bytes are no dump or a damaged one.

    Met where state is saved and read back. Save plain data, tensors and parameters; read with
    the version that wrote, and take an older copy where a file is damaged.
    """


class TypeTextError(BytesAndBrainsError):
    """The text of a type cannot be read, or a type has a part that does not exist.

    Met wherever a type is said: `g.input`, `bb.tensor`, `ComponentSpec`. Types read like
    `tensor(float32)[n,8]`, `params`, `record(loss:float64)`, `list(int64)`.
    """


class ModelTextError(BytesAndBrainsError):
    """The text form of a model cannot be read.

    Met by tools and tests that write models as text for `parse_model`. The error names line and
    character.
    """


class WireError(BytesAndBrainsError):
    """Bytes or a value do not fit the wire, or the type that the program declares.

    Met when a value is encoded for an edge, and when bytes from outside are decoded. Send a
    value of the declared type, or declare the type that is sent; bytes that a peer sent wrongly
    are dropped and counted.
    """
