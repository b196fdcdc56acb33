"""What gossip refuses, and why. Every refusal leaves the Node's part of the sum as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "InvalidMessage",
    "InvalidSetting",
    "MixedModes",
    "NoSender",
    "NoValue",
    "NotFinite",
    "NotOneNeighbour",
    "StaleSequence",
    "StateMismatch",
    "TooManyPeers",
    "ValueMismatch",
    "WeightExhausted",
]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of the configuration is out of its range.

    Met when the component is built. The error says what may stand there.
    """


class InvalidMessage(BytesAndBrainsError, ValueError):
    """A note or a receipt says what no gossip wrote, such as a weight of zero.

    The message is refused, and nothing is mixed in. A peer runs another version, or is not honest.
    """


class NotFinite(BytesAndBrainsError, ValueError):
    """A value holds NaN or an infinity, which a mean would spread to everybody.

    The error names the peer that sent it, or says that it is this Node's own. Of a model it means
    that training diverged: lower the learning rate.
    """


class ValueMismatch(BytesAndBrainsError, ValueError):
    """A value has another shape, dtype or kind than the one that this Node holds.

    All peers average the same kind of value: the same tensors with the same shapes and dtypes.
    """


class NoValue(BytesAndBrainsError, RuntimeError):
    """This Node has no value yet that could be averaged.

    Record `put` before, in the bootstrap for one, or configure `value`.
    """


class NoSender(BytesAndBrainsError, ValueError):
    """An op that answers a message ran where no message had arrived.

    Whose part it is says the channel. Send with `g.net_out`, and receive where it arrives.
    """


class NotOneNeighbour(BytesAndBrainsError, ValueError):
    """An exchange was begun with nobody, or with several peers at once.

    A part of the sum belongs to one peer. Draw one with `sample(g, 1)`, and see that the peer
    selector knows somebody.
    """


class StaleSequence(BytesAndBrainsError, ValueError):
    """A question arrived that was overtaken by a later one of the same peer.

    It is dropped, and nothing is lost: its answer was given before.
    """


class TooManyPeers(BytesAndBrainsError, RuntimeError):
    """More different peers take part in exchanges with this Node than it keeps account of.

    Raise `max_peers`, or let peers gossip with fewer neighbours.
    """


class MixedModes(BytesAndBrainsError, RuntimeError):
    """Push or push-pull is used where push-sum has moved weight.

    They average values of equal weight. Use one of the modes for a slot, on all peers.
    """


class WeightExhausted(BytesAndBrainsError, ArithmeticError):
    """This Node has given nearly all of its weight away and received none.

    Nobody sends to it, so its estimate can learn nothing from others. Let each peer be a
    neighbour of another one.
    """


class StateMismatch(BytesAndBrainsError, ValueError):
    """A saved state is damaged, or of another component.

    Load what `save()` of gossip returned.
    """
