"""Gossip: peers without a server come to agree by exchanges between two of them.

What is exchanged and what it changes is the business of `protocol.gossip`, a plugin; this records
who sends it where. The slot's ops are those that the installed plugin declares.

Sources: Kempe, Dobra, Gehrke, "Gossip-based computation of aggregate information", FOCS 2003
(push-sum); Jelasity, Montresor, Babaoglu, "Gossip-based aggregation in large dynamic networks",
ACM TOCS 2005 (push-pull); Blot et al., "Gossip training for deep learning", 2016, and Assran et
al., "Stochastic gradient push", ICML 2019 (learning).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, get_args

import bb_dsl as dsl
from bb_dsl.errors import BadOption
from bb_ir.types import PARAMS, Type, scalar
from bytesandbrains.programs._plugin_slots import PluginHandle

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

__all__ = ["GossipAveraging", "GossipLearning"]

Mode = Literal["push", "push-pull", "push-sum"]
#: Records what is done on a Node whose estimate has changed: given a trigger, returns nothing.
Changed = Callable[["Output"], None]

_FLOAT: Final = scalar("float64")


class _GossipHandle(PluginHandle):
    """Records ops of gossip by their names."""

    plugin = "gossip"

    @property
    def known(self) -> Mapping[str, Type]:
        """The type of the values that are averaged."""
        return {"any": _FLOAT if self._facts["value"] == "float64" else PARAMS}

    def estimate(self, g: Graph, *, after: Output | None = None) -> Output:
        """Record what a Node takes for the mean."""
        return self.call(g, "Estimate", after=after)[0]


class _Gossip(dsl.slots.Slot[_GossipHandle]):
    """A slot for `protocol.gossip`."""

    handle = _GossipHandle

    def __init__(self, value: Type) -> None:
        super().__init__()
        self.facts = {"value": str(value)}


class _Gossiping(dsl.Module):
    """What both programs share: when peers exchange, with whom, and how."""

    peer_class = "peer"
    #: What `bb compile`, `bb run` and `bb sim` bind where nothing else is said.
    bindings: ClassVar[dict[str, str]] = {"peers": "random", "gossip": "gossip"}
    peers = dsl.slots.PeerSelector(of="peer")

    def __init__(
        self,
        mode: Mode = "push-sum",
        *,
        every: str = "1s",
        jitter: str = "200ms",
        deadline: str = "500ms",
        retries: int = 0,
    ) -> None:
        super().__init__()
        if mode not in get_args(Mode):
            raise BadOption(f"mode={mode!r}", expected=" or ".join(map(repr, get_args(Mode))))
        self.mode = mode
        self.every = every
        self.jitter = jitter
        self.deadline = deadline
        self.retries = retries

    def exchange(self, g: Graph, gossip: _GossipHandle, changed: Changed) -> None:
        """Record one exchange with a neighbour that is drawn; the cursor is back here then."""
        drawn = self.peers.sample(g, 1)
        if self.mode == "push":
            pushed = g.net_out("push", drawn, gossip.estimate(g), retries=self.retries)
            changed(gossip.call(g, "Mix", pushed)[0])
            return
        begin, take, end = _STEPS[self.mode]
        to, *sent = gossip.call(g, begin, drawn)
        arrived: tuple[Output, ...] = g.net_out("exchange", to, *sent, retries=self.retries)
        taken = gossip.call(g, take, *arrived)
        changed(taken[0])
        replied: Any = g.net_out("receipt", g.sender(arrived[0]), *taken)
        replies: tuple[Output, ...] = replied if len(taken) > 1 else (replied,)
        [ended] = gossip.call(g, end, *replies)
        if self.mode == "push-pull":
            changed(ended)
        g.gather(ended, deadline=self.deadline, on_short="continue")


#: What a mode does here, at the neighbour, and here again.
_STEPS: Final = {
    "push-sum": ("Share", "Receive", "Confirm"),
    "push-pull": ("Ask", "Answer", "Settle"),
}


class GossipAveraging(_Gossiping):
    """Peers find the mean of their numbers.

    Each peer begins with the number that its slot `gossip` is configured with, `value`, and
    exchanges with a neighbour by its own clock, until somebody stops it. Outputs, at each tick:
    `estimate` (what the peer takes for the mean, a float64) and `status` (what it holds).

    Args:
        mode: `"push-sum"` and `"push-pull"` find the mean exactly; with `"push"` the peers agree
            on a number near it.
        every: Time between two exchanges that a peer begins.
        jitter: By how much they are put off, drawn for each.
        deadline: How long an exchange is waited for; less than `every`, else ticks are skipped.
            What was lost is made good by the next exchange with the same neighbour.
        retries: How often a message is sent again until it is acknowledged.
    """

    gossip = _Gossip(_FLOAT)

    def body(self, g: Graph) -> None:
        """Record the ticks."""
        with g.every(self.every, jitter=self.jitter):
            g.output("estimate", self.gossip.estimate(g))
            g.output("status", self.gossip.call(g, "Status")[0])
            self.exchange(g, self.gossip, _nothing)


class GossipLearning(_Gossiping):
    """Peers train a model each on its own data, and average the models as they go.

    At each tick a peer trains, and exchanges its parameters with a neighbour. Outputs: `train`
    (metrics of the passes, at each tick) and, with `evaluate`, `test` (metrics of the model on the
    slot `test` before training).

    Args:
        mode: As for `GossipAveraging`.
        epochs: Passes over a peer's data at each tick.
        every: Time between two ticks of a peer.
        jitter: By how much they are put off, drawn for each.
        deadline: How long an exchange is waited for; less than `every`, else ticks are skipped.
        retries: How often a message is sent again until it is acknowledged.
        evaluate: Whether a peer measures its model on its `test` data source at each tick.
    """

    gossip = _Gossip(PARAMS)
    model = dsl.slots.Model()
    data = dsl.slots.DataSource()
    test = dsl.slots.DataSource()

    def __init__(
        self,
        mode: Mode = "push-sum",
        *,
        epochs: int = 1,
        every: str = "5s",
        jitter: str = "1s",
        deadline: str = "3s",
        retries: int = 0,
        evaluate: bool = False,
    ) -> None:
        super().__init__(mode, every=every, jitter=jitter, deadline=deadline, retries=retries)
        self.epochs = epochs
        self.evaluate = evaluate

    def bootstrap(self, g: Graph) -> None:
        """Record what comes first: a neighbour may be faster than this peer's own clock."""
        self.gossip.call(g, "Put", self.model.params(g))

    def body(self, g: Graph) -> None:
        """Record the ticks."""
        with g.every(self.every, jitter=self.jitter):
            if self.evaluate:
                g.output("test", self.model.evaluate(g, self.test.batches(g)))
            g.output("train", self.model.fit(g, self.data.batches(g, epochs=self.epochs)))
            self.gossip.call(g, "Put", self.model.params(g))
            self.exchange(g, self.gossip, lambda done: self._take(g, done))

    def _take(self, g: Graph, done: Output) -> None:
        """Record that the model goes on with the estimate."""
        self.model.load_params(g, self.gossip.estimate(g, after=done))


def _nothing(_done: Output) -> None:
    """Record nothing."""
