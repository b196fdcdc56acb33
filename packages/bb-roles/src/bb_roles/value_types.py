"""What a plugin writes to add a type of values: a codec.

The declaration that names it is `bb_roles.TypeSpec`. Nothing here knows the wire.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

__all__ = ["TypeCodec"]

V = TypeVar("V")


class TypeCodec(ABC, Generic[V]):
    """Turns values of one type, in one version, into bytes and back.

    Built once per Node, without arguments, and keeps nothing: the same value gives the same bytes.
    Values are immutable, as all values are: nobody may change one that was sent or received.
    """

    @abstractmethod
    def encode(self, value: V) -> bytes | memoryview:
        """Return the bytes of a value, at most `TypeSpec.max_bytes` of them.

        A memoryview of the value's own memory is sent without being copied.

        Args:
            value: Of the class that the `TypeSpec` names.
        """

    @abstractmethod
    def decode(self, data: memoryview) -> V:
        """Return the value that `encode` was given.

        The bytes may come from anybody. Raise `ValueError` for those that are no value, and make
        nothing that is large for a mere claim in them.

        Args:
            data: At most `TypeSpec.max_bytes` bytes, read-only. The value may refer to them.
        """

    def is_instance(self, value: V) -> bool:
        """Whether an object of the class is a value of the type; all are unless this says more."""
        del value
        return True
