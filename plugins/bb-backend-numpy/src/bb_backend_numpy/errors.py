"""The error of this plugin; nothing else stands here, so that catching it costs no numpy."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["KernelError"]


class KernelError(BytesAndBrainsError):
    """An op is asked for in a way that the ONNX standard does not allow.

    Raised at install for attributes and the number of outputs, at run time for inputs that only
    then are known, such as the lengths of `Split`.
    """
