"""The slot for gossip: `gossip = Gossip()` in a Module, then `self.gossip.put(g, params)`.

This is the one module of the plugin that needs the recorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from bb_dsl.errors import BadOption
from bb_dsl.slots import ProtocolHandle, Slot
from bb_ir.types import Type, parse_type
from bb_protocol_gossip._ops import OPS

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = ["Gossip", "GossipHandle"]


class GossipHandle(ProtocolHandle):
    """Ops of gossip. What is sent where, the program says with `g.net_out`."""

    ops = OPS

    def put(self, g: Graph, value: Output, *, after: After = None) -> Output:
        """Record taking a value as this Node's own; returns a trigger."""
        return self._record(g, "Put", value, after=after)[0]

    def estimate(self, g: Graph, *, after: After = None) -> Output:
        """Record what this Node takes for the mean."""
        return self._record(g, "Estimate", after=after, types=[self._value])[0]

    def status(self, g: Graph, *, after: After = None) -> Output:
        """Record a record of the weight held, what is unconfirmed, and with how many peers."""
        return self._record(g, "Status", after=after)[0]

    def reclaim(self, g: Graph, gone: Output, *, after: After = None) -> Output:
        """Record taking back what peers that are gone for good did not confirm; a trigger."""
        return self._record(g, "Reclaim", gone, after=after)[0]

    def mix(self, g: Graph, value: Output, *, after: After = None) -> Output:
        """Record averaging a value with this Node's own (push); returns a trigger."""
        return self._record(g, "Mix", value, after=after)[0]

    def share(
        self, g: Graph, drawn: Output, *, after: After = None
    ) -> tuple[Output, Output, Output]:
        """Record taking off half for one peer (push-sum).

        Returns:
            To whom it goes, the drawn peer or one that has not confirmed; note and value to send.
        """
        types = [drawn.type, OPS["Share"].outputs[1].type, self._value]
        to, note, value = self._record(g, "Share", drawn, after=after, types=types)
        return to, note, value

    def receive(self, g: Graph, note: Output, value: Output, *, after: After = None) -> Output:
        """Record adding what arrived; send the receipt that it returns back."""
        return self._record(g, "Receive", note, value, after=after)[0]

    def confirm(self, g: Graph, receipt: Output, *, after: After = None) -> Output:
        """Record that what was sent has arrived; returns a trigger."""
        return self._record(g, "Confirm", receipt, after=after)[0]

    def ask(self, g: Graph, drawn: Output, *, after: After = None) -> tuple[Output, Output, Output]:
        """Record asking one peer for its value (push-pull).

        Returns:
            To whom it goes, the drawn peer or one that has not answered; note and value to send.
        """
        types = [drawn.type, OPS["Ask"].outputs[1].type, self._value]
        to, note, value = self._record(g, "Ask", drawn, after=after, types=types)
        return to, note, value

    def answer(
        self, g: Graph, note: Output, value: Output, *, after: After = None
    ) -> tuple[Output, Output]:
        """Record answering what arrived; send receipt and value back."""
        types = [OPS["Answer"].outputs[0].type, self._value]
        receipt, own = self._record(g, "Answer", note, value, after=after, types=types)
        return receipt, own

    def settle(self, g: Graph, receipt: Output, value: Output, *, after: After = None) -> Output:
        """Record taking an answer in; returns a trigger."""
        return self._record(g, "Settle", receipt, value, after=after)[0]

    @property
    def _value(self) -> Type:
        return parse_type(self._facts["value"])


class Gossip(Slot[GossipHandle]):
    """A slot for gossip.

    Args:
        value: Type of the values: `params`, `float64` for plain numbers, or that of a tensor, such
            as `bb.tensor("float32", (64,))`.

    Raises:
        BadOption: Values of that type cannot be averaged.
        TypeTextError: The text is no type.
    """

    handle = GossipHandle

    def __init__(self, value: Type | str = "params") -> None:
        super().__init__()
        known = value if isinstance(value, Type) else parse_type(value)
        if known.kind not in ("params", "tensor", "float64"):
            raise BadOption(
                f"a slot for gossip of {known}",
                expected="params, a tensor or float64",
                fix="gossip of plain numbers is of float64",
            )
        self.facts = {"value": str(known)}
