"""Which peers there are at an instant: made when they are first needed, gone when they stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bb_runtime import Node, SnapshotError
from bb_sim._digest import joined
from bb_sim._draws import Draws
from bb_sim._installing import Installer
from bb_sim._liars import Deceit
from bb_sim._peer import Letter, Peer
from bb_sim._population import Population
from bb_sim._timetable import clock_of, clocks_of
from bb_sim._world import World
from bb_sim.scenario import Liar, Scenario

__all__ = ["Lives"]

#: So many ends of lives are remembered before it is looked which of them matter.
_SLACK = 64


class Lives:
    """The peers of a simulation.

    Attributes:
        peers: Those that were needed so far and are there.
        absent: Those that are not there.
        installed: All that were ever needed.
        bootstraps: Of each class, whether its peers have something to do before anything comes.
        kept: What peers last wrote down of themselves and when, to start again from.
    """

    def __init__(self, world: World, installer: Installer) -> None:
        self._world = world
        self._installer = installer
        self.peers: dict[int, Peer] = {}
        self.absent = set(world.table.absent)
        self.installed: set[int] = set()
        self.kept: dict[int, tuple[int, bytes]] = {}
        booted = {t.cls for t in world.artifact.targets.values() if t.phase == "bootstrap"}
        self.bootstraps = [cls in booted for cls in world.population.classes]
        self._clocks = clocks_of(world.scenario, world.population)
        self._liars = _find_liars(world.scenario, world.population, world.draws)
        #: How often each peer stopped.
        self.ends: dict[int, int] = {}
        #: When lives of peers ended, of which something may be on its way.
        self._stopped: dict[tuple[int, int], int] = {}
        self._most_stopped = _SLACK
        #: What peers did in lives that are over, by number: the last of these, and a chain of all.
        self._past: dict[int, tuple[int, bytes]] = {}

    def peer(self, number: int) -> Peer:
        """Return a peer, which is there."""
        peer = self.peers.get(number)
        if peer is not None:
            return peer
        world = self._world
        cls = world.population.classes[world.population.class_of[number]]
        liar = self._liars.get(number)
        slow = world.paces.is_slow(number)
        peer = self.peers[number] = Peer(
            number,
            self.ends.get(number, 0) + 1,
            clock_of(number, self._clocks.get(cls), world.draws),
            None if liar is None else Deceit(liar, number, world.draws),
            slow=slow,
            always=world.paces.always(number, slow=slow),
        )
        return peer

    def node(self, peer: Peer, when: int) -> Node:
        """Return a peer's Node.

        A new one has fresh state and its bootstraps started, or what it wrote down before a crash.
        """
        if peer.node is None:
            node = peer.node = self._installer.install(peer.number, peer.life, peer.shown(when))
            self.installed.add(peer.number)
            if peer.number in self.kept:
                node.restore(self.kept[peer.number][1], clean=False)
            else:
                node.run_bootstrap()
        return peer.node

    def keep(self, peer: Peer, when: int, every: int) -> None:
        """Let a peer write itself down, if the last time was so long ago.

        A Node that cannot be written now, as something in it is no data, is asked again later.
        """
        last = self.kept.get(peer.number)
        if peer.node is None or (last is not None and when < last[0] + every):
            return
        try:
            self.kept[peer.number] = when, peer.node.snapshot()
        except SnapshotError:
            self._world.recorder.round(peer.round).refused["snapshot"] += 1

    def introduce(self, peer: Peer, node: Node, source: int) -> None:
        """Tell a Node, before it hears a peer first, of which class that one is."""
        peer.met.add(source)
        population = self._world.population
        cls = population.classes[population.class_of[source]]
        if cls in node.sources:
            node.authorize(population.ids[source], cls)

    def has_bootstrap(self, number: int) -> bool:
        """Whether a peer does something by itself when it starts."""
        return self.bootstraps[self._world.population.class_of[number]]

    def stop(self, number: int, when: int) -> None:
        """Let a peer lose all that it holds."""
        self.absent.add(number)
        peer = self.peers.pop(number, None)
        if peer is not None:
            before = self._past.get(number)
            chain = peer.chain.state if before is None else joined(before[1], peer.chain.state)
            self._past[number] = peer.life, chain
            if peer.node is not None:
                peer.node.close()
        self.ends[number] = self.ends.get(number, 0) + 1
        self._stopped[number, self.ends[number]] = when
        if len(self._stopped) > self._most_stopped:
            self._forget_stopped()

    def _forget_stopped(self) -> None:
        """Forget when lives ended of which nothing is on its way any more."""
        flying = {
            (what.source, what.life)
            for *_, what in self._world.events.heap
            if isinstance(what, Letter)
        }
        self._stopped = {who: when for who, when in self._stopped.items() if who in flying}
        self._most_stopped = _SLACK + 2 * len(self._stopped)

    def never_left(self, letter: Letter) -> bool:
        """Whether the sender of an envelope stopped before it left it."""
        if not self._stopped:
            return False
        stopped = self._stopped.get((letter.source, letter.life))
        return stopped is not None and stopped < letter.departs

    def is_gone(self, letter: Letter) -> bool:
        """Whether the life that sent an envelope is over."""
        return letter.life <= self.ends.get(letter.source, 0)

    def restored(self, peer: Peer, now_ns: int, snapshot: bytes) -> Node:
        """Return a peer's Node as a snapshot says, as if it had never stopped."""
        node = self._installer.install(peer.number, peer.life, now_ns)
        node.restore(snapshot)
        return node

    def state(self) -> dict[str, Any]:
        """Return who is there and who was, as plain data; the peers themselves left out."""
        return {
            "absent": sorted(self.absent),
            "installed": sorted(self.installed),
            "ends": list(self.ends.items()),
            "stopped": [[*who, when] for who, when in self._stopped.items()],
            "past": [[number, *past] for number, past in self._past.items()],
            "kept": [[number, *kept] for number, kept in self.kept.items()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave."""
        self.absent = set(state["absent"])
        self.installed = set(state["installed"])
        self.ends = dict(state["ends"])
        self._stopped = {(number, life): when for number, life, when in state["stopped"]}
        self._past = {number: (life, chain) for number, life, chain in state["past"]}
        self.kept = {number: (when, data) for number, when, data in state["kept"]}

    def chains(self) -> list[tuple[int, int, bytes]]:
        """Return what all peers did: number, life and chain, of past lives and of this one."""
        past = [(number, *past) for number, past in self._past.items()]
        now = [(n, peer.life, peer.chain.state) for n, peer in self.peers.items() if peer.node]
        return [*past, *now]

    def close(self) -> None:
        """Close all Nodes."""
        for peer in self.peers.values():
            if peer.node is not None:
                peer.node.close()
                peer.node = None


def _find_liars(scenario: Scenario, population: Population, draws: Draws) -> dict[int, Liar]:
    found: dict[int, Liar] = {}
    for at, liar in enumerate(scenario.liars):
        for number in population.select(liar.peers, draws, f"[[liars]] number {at + 1}"):
            found[number] = liar
    return found
