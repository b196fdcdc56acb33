"""Pluggy's markers."""

from __future__ import annotations

import pluggy

PROJECT = "bytesandbrains"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
