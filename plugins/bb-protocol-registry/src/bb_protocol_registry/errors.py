"""What the registry refuses, and why. Every refusal leaves it as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "InvalidMessage",
    "InvalidSetting",
    "NoSender",
    "RegistryFull",
    "StaleSequence",
    "StateMismatch",
]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range.

    Met when the registry is built. The error says what may stand there.
    """


class InvalidMessage(BytesAndBrainsError, ValueError):
    """An announcement, a lease, a departure or a view says what no registry wrote.

    The message is refused, and the registry stays as it was. A peer runs another version, or is
    not honest.
    """


class NoSender(BytesAndBrainsError, ValueError):
    """An op that answers a message ran where no message had arrived.

    The registry believes the channel, not the message. Send the announcement with `g.net_out`,
    and register where it arrives.
    """


class RegistryFull(BytesAndBrainsError, RuntimeError):
    """One member more than the registry has room for asks to join.

    Raise `max_members`, or wait until leases have ended.
    """


class StaleSequence(BytesAndBrainsError, ValueError):
    """A message was overtaken by a later one of the same member.

    It is dropped. A member that lost its state has to wait until its lease has ended, or keep
    its state.
    """


class StateMismatch(BytesAndBrainsError, ValueError):
    """A saved state is damaged, or of another component.

    Load what `save()` of a registry returned.
    """
