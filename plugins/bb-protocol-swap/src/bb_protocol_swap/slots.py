"""The slot for swaps: `swap = Swap()` in a Module, then `self.swap.manifest(g, params)`.

This is the one module of the plugin that needs the recorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from bb_dsl.slots import ProtocolHandle, Slot
from bb_protocol_swap._ops import OPS

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = ["Swap", "SwapHandle"]


class SwapHandle(ProtocolHandle):
    """Ops of a swap. What is sent where, the program says with `g.net_out`."""

    ops = OPS

    def manifest(self, g: Graph, params: Output, *, after: After = None) -> Output:
        """Record publishing parameters as a version; returns what it is known by."""
        return self._record(g, "Manifest", params, after=after)[0]

    def plan(self, g: Graph, held: Output, *, after: After = None) -> tuple[Output, Output]:
        """Record planning for a Node by what it holds; returns plan and bytes to send."""
        plan, spans = self._record(g, "Plan", held, after=after)
        return plan, spans

    def vote(self, g: Graph, ready: Output, *, after: After = None) -> Output:
        """Record taking down that a Node is ready; returns a trigger."""
        return self._record(g, "Vote", ready, after=after)[0]

    def decide(self, g: Graph, asked: Output, *, after: After = None) -> tuple[Output, Output]:
        """Record deciding; returns who flips, and the decision to send to them."""
        types = [asked.type, OPS["Decide"].outputs[1].type]
        ready, decision = self._record(g, "Decide", asked, after=after, types=types)
        return ready, decision

    def held(self, g: Graph, *, after: After = None) -> Output:
        """Record root and epoch of the version that this Node serves."""
        return self._record(g, "Held", after=after)[0]

    def ready(self, g: Graph, plan: Output, spans: Output, *, after: After = None) -> Output:
        """Record staging a version; returns what is ready."""
        return self._record(g, "Ready", plan, spans, after=after)[0]

    def commit(self, g: Graph, decision: Output, *, after: After = None) -> tuple[Output, Output]:
        """Record serving what is staged; returns parameters for the model, and a receipt."""
        params, receipt = self._record(g, "Commit", decision, after=after)
        return params, receipt


class Swap(Slot[SwapHandle]):
    """A slot for swaps."""

    handle = SwapHandle
