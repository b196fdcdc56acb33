"""The compiler: checks a recorded program across the network and splits it per kind of peer."""

from __future__ import annotations

from bb_compiler.compiler import Compiler
from bb_compiler.errors import CompileError, SeveralErrors

__all__ = ["CompileError", "Compiler", "SeveralErrors"]
