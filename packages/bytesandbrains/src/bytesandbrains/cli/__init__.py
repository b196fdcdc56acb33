"""The `bb` command, also installed as `bytesandbrains`."""

from __future__ import annotations

from bytesandbrains.cli._main import main

__all__ = ["main"]
