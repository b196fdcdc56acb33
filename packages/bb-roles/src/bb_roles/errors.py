"""Errors of plugins and of their configuration."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "ConfigError",
    "InputMisfit",
    "MissingConfigError",
    "PluginError",
    "UnknownPluginError",
]


class PluginError(BytesAndBrainsError):
    """A plugin is broken, provided twice, or written for another version of the contract.

    Met when a component is bound and by `bb plugins --check`. Install a version that fits,
    uninstall one of the two that provide it, or tell its author; other plugins go on working.
    """


class UnknownPluginError(PluginError):
    """No installed distribution provides what was asked for.

    Met when a component is bound by a name. `bb plugins` lists what is installed; install the
    plugin with pip, or correct the name.
    """


class ConfigError(BytesAndBrainsError):
    """A value in a component's configuration has a wrong name or type.

    Met by those who call `build_config` themselves; the compiler says `BadConfig` and `install`
    says `ConfigTypeMismatch` for it. Correct the field.
    """


class MissingConfigError(ConfigError):
    """A component's configuration lacks a field that has no default.

    Met by those who call `build_config` themselves; `install` says `MissingConfig` for it. Give
    the field.
    """


class InputMisfit(BytesAndBrainsError):
    """An op is given values that its component, as it is configured, does not take.

    Raised by a component's `infer_types`, from types alone; the compiler says `TypeMismatch` for
    it, with both components, and `install` says `ConfigTypeMismatch`.
    """
