"""Who is invoked, when a round of theirs ended, and when all rounds are over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bb_ir import keys
from bb_runtime import BlockEnded, FrameEnded, Node
from bb_sim._events import LOCAL, NEVER
from bb_sim._installing import inputs_of
from bb_sim._peer import Peer
from bb_sim._reading import duration
from bb_sim._world import World
from bb_sim.errors import BadScenario

__all__ = ["Rounds"]


class Rounds:
    """The rounds that a scenario asks for.

    Attributes:
        roots: The peers that are invoked.
        left: Those of them whose rounds are not over.
        ended: Of each round, how many of them ended it.
        ends: How many of them ended any round.
        end_ns: By when it is known that all rounds ended, however late Nodes run.
    """

    def __init__(self, world: World) -> None:
        scenario, main = world.scenario, world.main
        if scenario.rounds is not None and scenario.rounds < 1:
            raise BadScenario(f"rounds is {scenario.rounds}", expected="at least 1")
        self._world = world
        self._pause = duration(scenario.pause, "pause")
        blocks = {r.name for r in main.regions if r.kind.capitalize() in keys.ROOT_BLOCKS}
        self._blocks = len(blocks)
        self._regions = blocks or {r.name for r in main.regions if not r.opened_in}
        self._wanted = scenario.rounds or (0 if blocks else 1)
        self._inputs: dict[str, Any] = inputs_of(main, scenario.inputs, world.population)
        members = world.population.members(main.cls)
        self.roots = set(members if scenario.start == "all" else members[:1])
        self.left = set(self.roots)
        self.ended: dict[int, int] = {}
        self.ends = 0
        self.end_ns = 0
        self._blocks_left: dict[int, int] = {}
        #: Rounds that peers had begun when they stopped.
        self._reached: dict[int, int] = {}

    def plan(self, peer: Peer, when: int) -> None:
        """Have a peer invoked at an instant."""
        peer.invoke_at = when
        self._world.events.push(when, LOCAL, peer.number)

    def invoke(self, peer: Peer, node: Node, when: int) -> None:
        """Invoke a peer for its next round."""
        peer.round += 1
        self._world.recorder.started(peer.round, when)
        self._blocks_left[peer.number] = self._blocks
        node.invoke(self._world.main.short, self._inputs)

    def note(self, peer: Peer, when: int, step: FrameEnded | BlockEnded) -> None:
        """See whether a round ended on an invoked peer, and what follows."""
        if step.target != self._world.main.short or peer.number not in self.left:
            return
        if isinstance(step, BlockEnded):
            self._blocks_left[peer.number] -= 1
            if self._blocks_left[peer.number] <= 0:
                self._leave(peer.number, max(when, peer.floor))
        elif step.region in self._regions and step.how != "interrupted":  # that was counted
            self._end(peer, when, step.how)

    def came_back(self, peer: Peer, when: int, *, restored: bool) -> None:
        """Let a peer that is invoked go on with the round after the one in which it stopped."""
        peer.round = self._reached.get(peer.number, 0)
        if restored and self._blocks:
            peer.round += 1  # its program goes on by itself
        else:
            self.plan(peer, when)

    def stopped(self, number: int, when: int, peer: Peer | None) -> None:
        """Note that a peer stopped, as it was then if it was ever needed."""
        if peer is not None:
            self._reached[number] = peer.round
        if number not in self.left:
            return
        if peer is not None and peer.round and peer.invoke_at == NEVER:
            self._count_end(peer.round, when, "crashed")
            if self._wanted and peer.round >= self._wanted:
                self._leave(number, when)
        moves = self._world.table.moves
        if not any(move.peer == number and move.up and move.at > when for move in moves):
            self._leave(number, when)

    def state(self) -> dict[str, Any]:
        """Return how far all are, as plain data."""
        return {
            "left": sorted(self.left),
            "ended": list(self.ended.items()),
            "end_ns": self.end_ns,
            "blocks_left": list(self._blocks_left.items()),
            "reached": list(self._reached.items()),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.left = set(state["left"])
        self.ended = dict(state["ended"])
        self.end_ns = state["end_ns"]
        self._blocks_left = dict(state["blocks_left"])
        self._reached = dict(state["reached"])

    def go_on(self, peers: Mapping[int, Peer]) -> None:
        """Let peers go on whose rounds were over, if more are wanted than were then."""
        for number in sorted(self.roots - self.left):
            peer = peers.get(number)
            if peer is None or not self._wanted or peer.round >= self._wanted:
                continue
            self.left.add(number)
            if self._blocks:
                peer.round += 1
            else:
                self.plan(peer, self._world.events.now_ns + self._pause)

    def _end(self, peer: Peer, when: int, how: str) -> None:
        self._count_end(peer.round, when, how)
        if self._wanted and peer.round >= self._wanted:
            self._leave(peer.number, max(when, peer.floor))
        elif self._blocks:
            peer.round += 1  # it starts with what it sends, if there is another one
        else:
            self.plan(peer, when + self._pause)

    def _count_end(self, number: int, when: int, how: str) -> None:
        self._world.recorder.ended(number, when, how)
        self.ended[number] = self.ended.get(number, 0) + 1
        self.ends += 1

    def _leave(self, number: int, when: int) -> None:
        """Note that all rounds of a peer are over, and by when that is known."""
        self.left.discard(number)
        self.end_ns = max(self.end_ns, when)
