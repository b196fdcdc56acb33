"""Errors of plugins and of their configuration."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "ConfigError",
    "ConnectionLost",
    "InputMisfit",
    "MissingConfigError",
    "PluginError",
    "TransportError",
    "UnknownPluginError",
    "UnplannableRequest",
    "Unreachable",
    "WrongPeer",
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


class TransportError(BytesAndBrainsError):
    """A transport cannot do what it was asked for.

    What the errors of transports are kinds of; it is caught, never raised itself.
    """


class Unreachable(TransportError):
    """A transport cannot listen at an address, or nobody can be reached there.

    Met by the host of a Node when it listens or dials: the address is in use, of another scheme,
    nobody answers, or whoever does fails to prove who they are. Correct the address, or try later.
    """


class WrongPeer(TransportError):
    """Another peer answers at an address than the one that was expected there.

    Met by the host of a Node when it dials. The address book is out of date, or somebody is in
    between; nothing was sent.
    """


class ConnectionLost(TransportError):
    """A connection ended while something was sent or received.

    Met by the host of a Node, which drops what was half received and reports what it could not
    send. Dial again; what has an edge with `retries=` is then sent again.
    """


class UnplannableRequest(BytesAndBrainsError):
    """No plan can be made of a request.

    Raised by planners: the request contradicts itself, is of a kind that the planner makes no plans
    for, or asks for what cannot be, such as a chunk without a digest. Correct the request, or bind
    another planner.
    """
