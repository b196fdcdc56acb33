"""Errors of plugins and of their configuration."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["ConfigError", "MissingConfigError", "PluginError", "UnknownPluginError"]


class PluginError(BytesAndBrainsError):
    """A plugin is broken, doubly provided, or written for another version of the contract."""


class UnknownPluginError(PluginError):
    """No installed distribution provides what was asked for."""


class ConfigError(BytesAndBrainsError):
    """A value in a component's configuration has the wrong name or type."""


class MissingConfigError(ConfigError):
    """A component's configuration lacks a field that has no default."""
