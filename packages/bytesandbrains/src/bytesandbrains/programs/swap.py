"""Hot swaps: replicas answer requests with one version of a model while the next is staged.

What a version is and how it is brought is the business of `protocol.swap`, a plugin; this records
who sends what where. The two phases are those of Gray, "Notes on data base operating systems",
1978: all that are ready flip, and nobody flips before it was decided.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import bb_dsl as dsl
from bb_ir.types import Type
from bytesandbrains.programs._plugin_slots import PluginHandle
from bytesandbrains.programs.fedavg import FederatedAveraging

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

__all__ = ["HotSwap", "ServedAveraging"]


#: All messages of a swap are sent again until they are acknowledged: what is lost costs a round.
_RETRIES: Final = 2


class _SwapHandle(PluginHandle):
    """Records ops of swaps by their names."""

    plugin = "swap"


class _Swap(dsl.slots.Slot[_SwapHandle]):
    """A slot for `protocol.swap`."""

    handle = _SwapHandle


class _Serving(dsl.Module):
    """What both programs share: the replicas, what they are asked, and the swap."""

    replicas = dsl.slots.PeerSelector(of="replica")
    model = dsl.slots.Model()
    swap = _Swap()

    # What the programs are told; they set it in `__init__`.
    inputs: Type | str
    swap_quorum: float
    swap_deadline: str

    def bootstrap(self, g: Graph) -> None:
        """Record what a replica does with a request: an event of the topic `request`."""
        with g.at("replica"), g.on("request", self.inputs) as x:
            g.output("answer", self.model.forward(g, x))
            g.output("version", self.swap.call(g, "Held")[0])

    def flip(self, g: Graph, params: Output) -> None:
        """Record how the replicas take over parameters, staged first and committed together."""
        version = self.swap.call(g, "Manifest", params)[0]
        asked = self.replicas.current_view(g)
        told = g.net_out("offer", asked, version, retries=_RETRIES)
        held = self.swap.call(g, "Held", after=told)[0]
        back = g.net_out("held", g.sender(told), held, retries=_RETRIES)
        # At the publisher, once for each replica: what differs from the version that it has.
        planned = self.swap.call(g, "Plan", back)
        arrived = g.net_out("plan", g.sender(back), *planned, retries=_RETRIES)
        ready = self.swap.call(g, "Ready", *arrived)[0]
        said = g.net_out("ready", g.sender(arrived[0]), ready, retries=_RETRIES)
        voted = self.swap.call(g, "Vote", said)[0]
        # Each replica's own exchange comes to its end, then all of them to theirs.
        ended = g.gather(voted, deadline=self.swap_deadline)
        done = g.gather(
            ended.count, quorum=self.swap_quorum, deadline=self.swap_deadline, wait="all"
        )
        flipping, decision = self.swap.call(g, "Decide", asked, after=done)
        decided = g.net_out("commit", flipping, decision, retries=_RETRIES)
        fresh, receipt = self.swap.call(g, "Commit", decided)
        loaded = self.model.load_params(g, fresh)
        kept = g.net_out(
            "receipt", g.sender(decided), g.gate(receipt, after=loaded), retries=_RETRIES
        )
        g.output("decision", decision)
        g.output("receipt", kept)


class HotSwap(_Serving):
    """Replicas take over the publisher's model without stopping.

    One invocation publishes the parameters that the slot `model` has on the publisher. Replicas
    answer requests meanwhile: `node.publish("request", x)` on a replica gives the outputs `answer`
    (what the model makes of x) and `version` (root and epoch of what is served). Outputs on the
    publisher: `decision` (root and epoch) and one `receipt` of each replica that flipped.

    Args:
        inputs: Type of a request, such as `"tensor(float32)[?,64]"`.
        quorum: Share of the replicas that must be ready; with fewer nobody flips.
        deadline: How long the publisher waits for them.
    """

    peer_class = "publisher"
    #: What `bb compile` and `bb run` bind where nothing else is said.
    bindings: ClassVar[dict[str, str]] = {"replicas": "static", "swap": "swap"}

    def __init__(self, inputs: Type | str, *, quorum: float = 0.5, deadline: str = "30s") -> None:
        super().__init__()
        self.inputs = inputs
        self.swap_quorum = quorum
        self.swap_deadline = deadline

    def body(self, g: Graph) -> None:
        """Record one swap."""
        self.flip(g, self.model.params(g))


class ServedAveraging(_Serving, FederatedAveraging):
    """Federated averaging whose model is served by replicas, which flip after each round.

    Outputs are those of `FederatedAveraging` and of `HotSwap`.

    Args:
        cohort: As for `FederatedAveraging`.
        inputs: As for `HotSwap`.
        epochs: As for `FederatedAveraging`.
        quorum: As for `FederatedAveraging`.
        deadline: As for `FederatedAveraging`.
        evaluate: As for `FederatedAveraging`.
        swap_quorum: Share of the replicas that must be ready to flip.
        swap_deadline: How long they are waited for.
    """

    bindings: ClassVar[dict[str, str]] = {
        **FederatedAveraging.bindings, "replicas": "static", "swap": "swap",
    }  # fmt: skip

    def __init__(
        self,
        cohort: int,
        inputs: Type | str,
        *,
        epochs: int = 1,
        quorum: float = 0.8,
        deadline: str = "30s",
        evaluate: bool = False,
        swap_quorum: float = 0.5,
        swap_deadline: str = "30s",
    ) -> None:
        super().__init__(cohort, epochs=epochs, quorum=quorum, deadline=deadline, evaluate=evaluate)
        self.inputs = inputs
        self.swap_quorum = swap_quorum
        self.swap_deadline = swap_deadline

    def body(self, g: Graph) -> None:
        """Record one round, and the swap that follows it."""
        super().body(g)
        self.flip(g, self.model.params(g))
