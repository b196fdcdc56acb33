"""Errors of plugins and of their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bb_ir.errors import BytesAndBrainsError

if TYPE_CHECKING:
    from bb_roles.executor import Report

__all__ = [
    "BadWave",
    "ConfigError",
    "ConnectionLost",
    "ExecutorClosed",
    "InputMisfit",
    "MissingConfigError",
    "NotFinished",
    "OutsideWindow",
    "PlanFailed",
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


class PlanFailed(BytesAndBrainsError):
    """A plan was not carried out as a whole.

    Met at `Report.check()`. The error tells of the first op that failed and counts those that are
    not done; its `report` accounts for every op. What an op was to publish is not published. Mend
    the cause, and submit the plan again with `resume=` that report.

    Args:
        found: What is not done.
        expected: What is.
        fix: What to do.
        report: What has become of every op.
    """

    def __init__(self, found: str, *, expected: str, fix: str, report: Report) -> None:
        super().__init__(found, expected=expected, fix=fix)
        self.report = report


class NotFinished(BytesAndBrainsError):
    """A plan is still carried out when somebody stops waiting for it.

    Met at `Ticket.wait` with a timeout. The plan goes on: wait again, or cancel it.
    """


class ExecutorClosed(BytesAndBrainsError):
    """An executor is given work after it was closed.

    Met at `submit` and `submit_wave`. Nothing was moved. Build another executor, or submit before
    the `with` block ends.
    """


class BadWave(BytesAndBrainsError):
    """A product of matrices cannot be: sizes do not fit, or the executor computes none.

    Met at `Wave`, `submit_wave` and `set_weights`. Nothing was computed and no weights were set.
    """


class OutsideWindow(BytesAndBrainsError):
    """Weights were to be set at a token at which the wave does not allow it.

    Met at `set_weights`. The weights are as they were. Set them inside the wave's swap window.
    """
