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
        stops_at: From when on the only peer that is invoked is left alone, as its rounds are over.

    More rounds can be asked for when a run is over, and what follows is what would have followed
    had they been asked for at once. So the number of rounds decides nothing but when to stop: a
    program with rounds of its own goes on until all peers had theirs, and a peer that alone is
    invoked is left as it was when its next invocation would have come. Where several are invoked
    and wait for being so, those that are done do not begin another round while others still work,
    and more rounds make another run.
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
        self.stops_at = NEVER
        #: By when it is known that all ended a round, however late Nodes run, by round.
        self._known: dict[int, int] = {}
        #: And that a peer will end none any more, and how many it had ended then.
        self._gone: dict[int, tuple[int, int]] = {}
        self._blocks_left: dict[int, int] = {}
        #: Rounds that peers had begun when they stopped.
        self._reached: dict[int, int] = {}

    @property
    def end_ns(self) -> int:
        """By when it is known that all rounds ended, however late Nodes run."""
        short = (when for when, ended in self._gone.values() if ended < (self._wanted or NEVER))
        return max(self._known.get(self._wanted, 0), *short, 0)

    @property
    def goes_on(self) -> bool:
        """Whether the program has rounds of its own, which do not wait for an invocation."""
        return self._blocks > 0

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
        going = self.goes_on or peer.number in self.left
        if step.target != self._world.main.short or not going:
            return
        if isinstance(step, BlockEnded):
            self._blocks_left[peer.number] -= 1
            if self._blocks_left[peer.number] <= 0:
                self._give_up(peer.number, max(when, peer.floor), peer.round - 1)
        elif step.region in self._regions and step.how != "interrupted":  # that was counted
            self._end(peer, when, step.how)

    def came_back(self, peer: Peer, when: int, *, restored: bool) -> None:
        """Let a peer that is invoked go on with the round after the one in which it stopped."""
        peer.round = self._reached.get(peer.number, 0)
        if restored and self._blocks:
            peer.round += 1  # its program goes on by itself
        else:
            self.plan(peer, when)

    def leaves_alone(self, number: int, when: int) -> bool:
        """Whether a peer is kept as it was before an instant, for rounds that may follow."""
        return when >= self.stops_at and number in self.roots

    def let_go(self) -> None:
        """Let peers whose rounds are over take what comes to them."""
        self.stops_at = NEVER

    def stopped(self, number: int, when: int, peer: Peer | None) -> None:
        """Note that a peer stopped, as it was then if it was ever needed."""
        if peer is not None:
            self._reached[number] = peer.round
        if number not in self.left and not (self.goes_on and number in self.roots):
            return
        if peer is not None and peer.round and peer.invoke_at == NEVER:
            self._count_end(peer.round, when, "crashed")
            self._note_known(number, peer.round, when)
        if not self._comes_back(number, when):
            self._give_up(number, when, self._reached.get(number, 0))

    def state(self) -> dict[str, Any]:
        """Return how far all are, as plain data."""
        return {
            "left": sorted(self.left),
            "ended": list(self.ended.items()),
            "known": list(self._known.items()),
            "gone": [[peer, *gone] for peer, gone in self._gone.items()],
            "stops_at": self.stops_at,
            "blocks_left": list(self._blocks_left.items()),
            "reached": list(self._reached.items()),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.left = set(state["left"])
        self.ended = dict(state["ended"])
        self._known = dict(state["known"])
        self._gone = {peer: (when, ended) for peer, when, ended in state["gone"]}
        self.stops_at = state["stops_at"]
        self._blocks_left = dict(state["blocks_left"])
        self._reached = dict(state["reached"])

    def go_on(self, peers: Mapping[int, Peer]) -> None:
        """Let peers go on whose rounds were over, if more are wanted than were then."""
        for number in sorted(self.roots - self.left - set(self._gone)):
            peer = peers.get(number)
            if peer is None:  # it stopped, and will start again
                if self._reached.get(number, 0) < self._wanted:
                    self.left.add(number)
            elif self.goes_on:
                if peer.round <= self._wanted:
                    self.left.add(number)
            elif peer.round < self._wanted:
                self.left.add(number)
                now = self._world.events.now_ns
                self.plan(peer, now + self._pause if self.stops_at == NEVER else self.stops_at)
                self.stops_at = NEVER

    def _end(self, peer: Peer, when: int, how: str) -> None:
        self._count_end(peer.round, when, how)
        self._note_known(peer.number, peer.round, max(when, peer.floor))
        if self.goes_on:
            peer.round += 1  # it starts with what it sends, if there is another one
        elif peer.number in self.left:
            self.plan(peer, when + self._pause)
        elif len(self.roots) == 1:
            self.stops_at = when + self._pause

    def _count_end(self, number: int, when: int, how: str) -> None:
        self._world.recorder.ended(number, when, how)
        self.ended[number] = self.ended.get(number, 0) + 1
        self.ends += 1

    def _note_known(self, peer: int, number: int, when: int) -> None:
        """Note by when it is known that a peer ended a round, which may be its last."""
        self._known[number] = max(self._known.get(number, 0), when)
        if self.ended.get(number, 0) >= len(self.roots):  # nobody asks for fewer any more
            self._known = {n: known for n, known in self._known.items() if n >= number}
        if self._wanted and number >= self._wanted:
            self.left.discard(peer)

    def _give_up(self, peer: int, when: int, ended: int) -> None:
        """Note that a peer ends no more rounds, by when that is known, and how many it ended."""
        self.left.discard(peer)
        self._gone.setdefault(peer, (when, ended))

    def _comes_back(self, peer: int, when: int) -> bool:
        moves = self._world.table.moves
        return any(move.peer == peer and move.up and move.at > when for move in moves)
