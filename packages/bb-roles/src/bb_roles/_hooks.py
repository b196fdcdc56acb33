"""Pluggy's markers and the name of the entry-point group."""

from __future__ import annotations

import pluggy

#: The group's name carries the contract's major version: an engine of v1 does not even look at a
#: plugin that was written for v2.
ENTRY_POINT_GROUP = "bytesandbrains.v1"

PROJECT = "bytesandbrains"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
