"""The component: a Node's part of the sum, and the exchanges that change it.

A Node holds a sum `s` and a weight `w`; its estimate of the mean is `s / w`. Putting a value makes
the sum the value times the weight, which is 1 at first. Sums and weights only move between Nodes,
so that their totals stay what they were, and the estimates can agree on nothing but the mean.

- Push: a value is sent, and where it arrives the two are averaged. Nothing moves, so the peers
  come to agree, but on a value near the mean of all.
- Push-sum (Kempe, Dobra, Gehrke: "Gossip-based computation of aggregate information", FOCS 2003):
  half of sum and weight move to another Node.
- Push-pull (Jelasity, Montresor, Babaoglu: "Gossip-based aggregation in large dynamic networks",
  ACM TOCS 2005): two Nodes tell each other their values, and half of their difference moves. It is
  added and taken off as a difference, so that exchanges may overlap.

Nothing here sends; `_accounts` says why an exchange happens once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np

from bb_ir.ids import PeerId
from bb_protocol_gossip._accounts import Accounts, Open, Seen, number_of, weight_of
from bb_protocol_gossip._ops import OPS
from bb_protocol_gossip._states import read, written
from bb_protocol_gossip._values import Form, Vector, form_of
from bb_protocol_gossip.errors import (
    InvalidSetting,
    MixedModes,
    NoSender,
    NotFinite,
    NotOneNeighbour,
    NoValue,
    StaleSequence,
    WeightExhausted,
)
from bb_roles import Context, Environment, Protocol, State
from bb_roles.limits import Limits, check_limits

__all__ = ["Gossip", "GossipConfig"]

#: Least weight: below it, the product with a small value would lose digits.
_LEAST_WEIGHT: Final = 1e-100
_MOST_PEERS: Final = 1 << 31


@dataclass(frozen=True)
class GossipConfig:
    """What a Node begins with, and of how many peers it keeps account.

    Attributes:
        value: A number that this Node begins with, as if it had been put; none when left out.
        max_peers: Most peers whose exchanges this Node keeps account of, and the largest weight
            that it believes: all peers together have one each.
    """

    value: Annotated[float | None, Limits()] = None
    max_peers: Annotated[int, Limits(1, _MOST_PEERS, unit="peers")] = 10_000

    def __post_init__(self) -> None:
        check_limits(self, InvalidSetting)


class Gossip(Protocol):
    """Holds a Node's part of the sum. It takes the word of the channel for whose a part is."""

    Config = GossipConfig
    ops = OPS

    def __init__(self, config: GossipConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._form: Form | None = None
        self._sum: Vector = np.zeros(0, np.float64)
        self._weight = 0.0
        self._accounts = Accounts(config.max_peers)
        if config.value is not None:
            self._begin(config.value)

    # What this Node holds

    def put(self, ctx: Context, value: Any) -> None:
        """Take a value as this Node's own: the estimate is that value, and the weight stays.

        The first time, the Node gets a weight of 1.

        Args:
            ctx: The call.
            value: A number, a tensor, or a parameter set, of finite numbers; later ones of the same
                shapes and dtypes.

        Raises:
            NotFinite: It holds NaN or an infinity.
            ValueMismatch: It cannot be averaged, or is of another kind or shape than before.
        """
        if self._form is None:
            self._begin(value)
            return
        own = self._form.unpack(value, "of this Node")
        self._sum = _added(np.zeros_like(own), own, self._weight, "of this Node")

    def estimate(self, ctx: Context) -> Any:
        """Return what this Node takes for the mean, in the form of the values that were put.

        Raises:
            NoValue: There is none yet.
        """
        return self._estimate("Estimate")

    def status(self, ctx: Context) -> Mapping[str, Any]:
        """Return the weight held, what is unconfirmed, and with how many peers.

        `weight` and `unconfirmed` are weights: of what is here, and of parts that were sent and for
        which no receipt came. A part whose peer is gone stays unconfirmed; it is the mass that may
        be lost. `waiting` counts the peers from which a receipt or an answer is missing, `peers`
        those that began exchanges with this Node.
        """
        opened = self._accounts.opened
        return {
            "weight": self._weight,
            "unconfirmed": math.fsum(one.weight for one in opened.values()),
            "waiting": len(opened),
            "peers": len(self._accounts.seen),
        }

    def reclaim(self, ctx: Context, gone: Sequence[PeerId]) -> None:
        """Take back what peers have not confirmed that are gone for good, and forget them.

        It is exact for parts that never arrived. A part that did arrive, and of which the peer
        gave some away before it went, then counts twice.
        """
        for peer in gone:
            begun = self._accounts.opened.pop(peer, None)
            self._accounts.seen.pop(peer, None)
            if begun is not None and begun.weight and self._form is not None:
                sent = self._form.unpack(begun.value, "of this Node")
                self._sum = _added(self._sum, sent, begun.weight, "of this Node")
                self._weight += begun.weight

    # Push

    def mix(self, ctx: Context, value: Any) -> None:
        """Take the mean of a value and this Node's own as its own.

        Raises:
            MixedModes: Push-sum has moved weight here.
            NotFinite: It holds NaN or an infinity.
            NoValue: This Node has none yet.
            ValueMismatch: It is of another kind or shape than this Node's.
        """
        form = self._unit_form("Mix")
        whose = "of this Node" if ctx.sender is None else f"from {ctx.sender}"
        theirs = form.unpack(value, whose)
        self._sum = _added(0.5 * self._sum, theirs, 0.5, whose)

    # Push-sum

    def share(
        self, ctx: Context, drawn: Sequence[PeerId]
    ) -> tuple[Sequence[PeerId], Mapping[str, Any], Any]:
        """Take off half of sum and weight, to be sent to a peer.

        What a peer has not confirmed is given again instead, as it was, every other time.

        Args:
            ctx: The call.
            drawn: One peer, to which it goes if nothing is to be sent again.

        Returns:
            To whom it goes; a note with the weight; and the estimate. Weight and estimate together
            are the part that was taken off.

        Raises:
            MixedModes: Push-pull is in use.
            NotOneNeighbour: `drawn` is not one peer.
            NoValue: This Node has none yet.
            WeightExhausted: Hardly any weight is left.
        """
        accounts = self._accounts
        peer = accounts.whose_turn(_neighbour(drawn, "Share"))
        known = accounts.opened.get(peer)
        if known is None:
            begun = self._give_half(peer, ctx.now_ns)
        elif known.weight:
            begun = accounts.repeat(peer)
        else:
            raise self._mixed("Share")
        return (peer,), {"sequence": begun.sequence, "weight": begun.weight}, begun.value

    def receive(self, ctx: Context, note: Mapping[str, Any], value: Any) -> Mapping[str, Any]:
        """Add a part to this Node's; one that came before is not added again.

        Returns:
            A receipt, to be sent back to the sender.

        Raises:
            InvalidMessage: The note is none, or its weight is not above 0.
            NoSender: No message opened this frame.
            NotFinite: The value holds NaN or an infinity.
            NoValue: This Node has none yet; the sender keeps the part, and sends it again.
            TooManyPeers: There were `max_peers` others.
            ValueMismatch: The value is of another kind or shape than this Node's.
        """
        peer = _sender(ctx, "Receive")
        what = f"the note from {peer}"
        sequence = number_of(what, note)
        weight = weight_of(what, note, self.config.max_peers)
        form = self._known_form("Receive")
        seen = self._accounts.seen.get(peer)
        if seen is not None and sequence <= seen.sequence:
            return {"sequence": sequence}
        self._accounts.check_room(peer)
        whose = f"from {peer}"
        self._sum = _added(self._sum, form.unpack(value, whose), weight, whose)
        self._weight += weight
        self._accounts.seen[peer] = Seen(sequence, None)
        return {"sequence": sequence}

    def confirm(self, ctx: Context, receipt: Mapping[str, Any]) -> None:
        """Take note that a part has arrived; it is not sent again.

        Raises:
            InvalidMessage: It is no receipt, or for a part that was never sent.
            NoSender: No message opened this frame.
        """
        peer = _sender(ctx, "Confirm")
        ended = self._accounts.ended(peer, number_of(f"the receipt of {peer}", receipt))
        if ended is not None and ended.weight:
            del self._accounts.opened[peer]

    # Push-pull

    def ask(
        self, ctx: Context, drawn: Sequence[PeerId]
    ) -> tuple[Sequence[PeerId], Mapping[str, Any], Any]:
        """Return this Node's value, to be sent to a peer for its own.

        What a peer has not answered is asked again instead, as it was, every other time.

        Args:
            ctx: The call.
            drawn: One peer, to which it goes if nothing is to be asked again.

        Returns:
            To whom it goes; a note; and the estimate.

        Raises:
            MixedModes: Push-sum is in use.
            NotOneNeighbour: `drawn` is not one peer.
            NoValue: This Node has none yet.
        """
        form, accounts = self._unit_form("Ask"), self._accounts
        peer = accounts.whose_turn(_neighbour(drawn, "Ask"))
        known = accounts.opened.get(peer)
        if known is None:
            value = form.pack(self._sum, self.env.pool)
            begun = accounts.begin(peer, ctx.now_ns, 0.0, value)
        elif known.weight:
            raise self._mixed("Ask")
        else:
            begun = accounts.repeat(peer)
        return (peer,), {"sequence": begun.sequence}, begun.value

    def answer(
        self, ctx: Context, note: Mapping[str, Any], value: Any
    ) -> tuple[Mapping[str, Any], Any]:
        """Move half of the difference of two values here, and return what this Node had.

        A question that comes again gets the same answer again, and moves nothing.

        Returns:
            A receipt and the value, to be sent back to the sender, where they are settled.

        Raises:
            InvalidMessage: The note is none.
            MixedModes: Push-sum has moved weight here.
            NoSender: No message opened this frame.
            NotFinite: The value holds NaN or an infinity.
            NoValue: This Node has none yet.
            StaleSequence: A later question of the sender was answered before.
            TooManyPeers: There were `max_peers` others.
            ValueMismatch: The value is of another kind or shape than this Node's.
        """
        peer = _sender(ctx, "Answer")
        sequence = number_of(f"the note from {peer}", note)
        form = self._unit_form("Answer")
        seen = self._accounts.seen.get(peer)
        if seen is not None and sequence <= seen.sequence:
            return {"sequence": sequence}, _same_answer(peer, sequence, seen)
        self._accounts.check_room(peer)
        whose = f"from {peer}"
        theirs = form.unpack(value, whose)
        own = form.pack(self._sum, self.env.pool)
        half = _half_difference(theirs, form.unpack(own, "of this Node"))
        self._sum = _added(self._sum, half, 1.0, whose)
        self._accounts.seen[peer] = Seen(sequence, own)
        return {"sequence": sequence}, own

    def settle(self, ctx: Context, receipt: Mapping[str, Any], value: Any) -> None:
        """Take off here what was added where this Node asked; an older answer is passed over.

        Raises:
            InvalidMessage: It is no receipt, or for a question that was never asked.
            NoSender: No message opened this frame.
            NotFinite: The value holds NaN or an infinity.
            NoValue: This Node has none yet.
            ValueMismatch: The value is of another kind or shape than this Node's.
        """
        peer = _sender(ctx, "Settle")
        form = self._known_form("Settle")
        ended = self._accounts.ended(peer, number_of(f"the receipt of {peer}", receipt))
        if ended is None or ended.weight:
            return
        whose = f"from {peer}"
        theirs = form.unpack(value, whose)
        half = _half_difference(form.unpack(ended.value, "of this Node"), theirs)
        self._sum = _added(self._sum, half, -1.0, whose)
        del self._accounts.opened[peer]

    # State

    def save(self) -> State:
        """Return sum, weight and accounts; all values as vectors, which hold them exactly."""
        return written(self._form, self._sum, self._weight, self._accounts)

    def load(self, state: State) -> None:
        """Take over what `save` returned.

        Raises:
            StateMismatch: The state is damaged or of another component.
        """
        found = read(state, self.config.max_peers, self.env.pool)
        self._form, self._sum, self._weight, self._accounts = found

    # Inside

    def _begin(self, value: object) -> None:
        form = form_of(value, "of this Node")
        self._sum = form.unpack(value, "of this Node")
        self._form, self._weight = form, 1.0

    def _estimate(self, op: str) -> Any:
        form = self._known_form(op)
        return form.pack(self._sum / self._weight, self.env.pool)

    def _give_half(self, peer: PeerId, now_ns: int) -> Open:
        value, weight = self._estimate("Share"), self._weight / 2
        if weight < _LEAST_WEIGHT:
            raise WeightExhausted(
                f"this Node has a weight of {self._weight:g} left",
                expected="other peers that send to it as well",
                fix="let every peer be a neighbour of another one",
            )
        assert self._form is not None
        # What the other one adds, to the last bit: the estimate was rounded to its own dtype.
        sent = self._form.unpack(value, "of this Node")
        self._sum = _added(self._sum, sent, -weight, "of this Node")
        self._weight -= weight
        return self._accounts.begin(peer, now_ns, weight, value)

    def _known_form(self, op: str) -> Form:
        if self._form is not None:
            return self._form
        raise NoValue(
            f"{op} ran, and this Node has no value yet",
            expected="a value of its own, before anything is exchanged",
            fix="record `put` in the bootstrap, or configure `value`",
        )

    def _unit_form(self, op: str) -> Form:
        form = self._known_form(op)
        if self._weight == 1.0:
            return form
        raise self._mixed(op)

    def _mixed(self, op: str) -> MixedModes:
        return MixedModes(
            f"{op} ran where another mode is in use; this Node has a weight of {self._weight:g}",
            expected="push, push-pull or push-sum, and the same on all peers",
            fix="give each mode a slot of its own",
        )


def _added(held: Vector, value: Vector, weight: float, whose: str) -> Vector:
    """Return a sum with a value of some weight added; the value may be written to.

    Raises:
        NotFinite: The sum would not be finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        value *= weight
        value += held
    if np.isfinite(value).all():
        return value
    raise NotFinite(
        f"the value {whose} is too large: with it the sum is not finite",
        expected="numbers whose sums a float64 holds",
    )


def _half_difference(asked: Vector, answered: Vector) -> Vector:
    """Return what moves to the one who answered: the same bits on both Nodes."""
    half: Vector = 0.5 * asked
    half -= 0.5 * answered
    return half


def _same_answer(peer: PeerId, sequence: int, seen: Seen) -> Any:
    if sequence == seen.sequence and seen.answer is not None:
        return seen.answer
    raise StaleSequence(
        f"{peer} sent exchange {sequence}, and exchange {seen.sequence} is here already",
        expected="the last question, or a later one",
    )


def _neighbour(drawn: Sequence[PeerId], op: str) -> PeerId:
    if len(drawn) == 1:
        return drawn[0]
    raise NotOneNeighbour(
        f"{op} is to go to {len(drawn)} peers",
        expected="one neighbour",
        fix="draw one with sample(g, 1), and see that the peer selector knows somebody",
    )


def _sender(ctx: Context, op: str) -> PeerId:
    if ctx.sender is None:
        raise NoSender(
            f"{op} ran where no message had arrived",
            expected="the authenticated sender of a message",
            fix=f"send with g.net_out, and record {op.lower()} where it arrives",
        )
    return ctx.sender
