"""What this backend refuses, and what ONNX Runtime refused; nothing heavy is imported here."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["DtypeUnsupported", "InvalidSetting", "OpRefused", "RunFailed"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the backend's configuration is out of range.

    Met when the backend is configured. Give a value that the message lists.
    """


class OpRefused(BytesAndBrainsError, ValueError):
    """An op, or a graph of ops, is asked for in a way that ONNX or ONNX Runtime does not allow.

    Met at install: an attribute is unknown, missing or of another type, the op has fewer or more
    outputs than asked for, or ONNX Runtime does not load it. Correct the op where it is recorded.
    """


class DtypeUnsupported(BytesAndBrainsError, TypeError):
    """The backend does not have an op for tensors of this dtype.

    Met at install where the program declares its types, else when the op first runs. Cast before
    the op, or bind another backend, such as `backend.numpy`.
    """


class RunFailed(BytesAndBrainsError, ValueError):
    """An op was given tensors that it cannot work with, or ran out of memory.

    Met while a program runs, such as for shapes that do not fit. The message ends in what ONNX
    Runtime said.
    """
