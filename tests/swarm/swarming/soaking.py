"""Runs one federation for very long in a bad world, and looks at how much memory it holds.

Three measures, each of which sees what the others miss:

- *objects*: how many the garbage collector knows. Exact, so one frame too many per hundred rounds
  shows; arrays and bytes are not in it.
- *traced*: bytes that Python and numpy hold, by `tracemalloc`. Exact too, and slow.
- *resident*: what the process has of the machine's memory. All is in it, also what the C library
  keeps of memory that was freed: after a crowded moment some megabytes, once. Where it can be told
  to give that back, it is, before each look.

When a round has ended some late and doubled envelopes are still on their way, each with a model in
it, so that from round to round all three go up and down by more than what is looked for. The least
of several looks in a row is a moment of quiet: that of the first looks after the warm-up is
compared with that of the last.

A simulation keeps a report: a record of each round, the spans of its timeline, who ended what. That
is what it was asked for, some 7 kB a round here, so the soak takes each round out of the report
as it comes, as a host that writes rounds to a file would.
"""

from __future__ import annotations

import ctypes
import gc
import linecache
import os
import sys
import tracemalloc
from collections import Counter
from typing import Any, NamedTuple

from bb_compiler import Compiler
from bb_runtime import Artifact, load_artifact
from bb_runtime.leftovers import leftovers
from bb_sim import Compute, Crash, Liar, Link, Scenario, Simulation
from bb_testing import programs as tiny
from bytesandbrains.programs import FederatedAveraging

__all__ = ["LOOKS", "Sample", "Soak"]

CLIENTS = 6
#: Elements of the model; enough that every kept update would show at once.
SIZE = 20_000
#: By which share each of the measures may grow after the warm-up.
MOST = 0.01
#: What has to happen, each in one round of a hundred at least.
EXPECTED = ("done", "answers", "lost", "refused", "failures", "nobody there")
#: How many looks in a row one moment of quiet is in.
LOOKS = 20


class _Quiet:
    """A part that does not write its calls down: it is to live long."""

    def _called(self, method: str, ctx: Any) -> None:
        """Write nothing."""


class Model(_Quiet, tiny.CountingModel):
    """A model whose parameters are 160 kB."""


class Source(_Quiet, tiny.ListSource):
    """Its data."""


class Peers(_Quiet, tiny.FixedPeers):
    """All clients."""


class Sample(NamedTuple):
    """What is held after a round.

    Attributes:
        round: After which.
        objects: Objects that the garbage collector knows.
        traced: Bytes that Python holds; 0 when it is not traced.
        resident: Bytes of the process.
        pooled: Bytes of the buffers that all Nodes share.
    """

    round: int
    objects: int
    traced: int
    resident: int
    pooled: int


class Soak:
    """One long run.

    Args:
        rounds: How many.
        warm: After how many of them memory is to stay what it is.
        traced: Whether to trace Python's memory.
        most: By which share each of the measures may grow.

    Attributes:
        first: What was held when it was warm: the looks at `LOOKS` moments.
        last: What was held in the end.
        seen: What happened, so that nobody believes that nothing did.
        left: What Nodes still held after all, by peer; empty when all is well.
    """

    def __init__(
        self, rounds: int, *, warm: int = 100, traced: bool = False, most: float = MOST
    ) -> None:
        assert rounds >= warm + 3 * LOOKS, "there is nothing to compare"
        self._rounds = rounds
        self._warm = warm
        self._traced = traced
        self._most = most
        self.first: list[Sample] = []
        self.last: list[Sample] = []
        self.seen: Counter[str] = Counter()
        self.left: dict[str, dict[str, int]] = {}

    def growth(self, what: str) -> float:
        """Return by which share a measure grew, from one moment of quiet to the other."""
        before = min(getattr(one, what) for one in self.first)
        return self._more(what) / before if before else 0.0

    def _more(self, what: str) -> int:
        first, last = (min(getattr(one, what) for one in some) for some in (self.first, self.last))
        return last - first

    def wrong(self) -> list[str]:
        """Return what a long run must not do and this one did."""
        found = [f"{name} holds {held}" for name, held in self.left.items()]
        shares = ["objects", "traced" if self._traced else "resident"]
        found += [
            f"{what} grew by {self.growth(what):.2%}"
            for what in shares
            if self.growth(what) > self._most
        ]
        if self._more("pooled") > 0:
            found.append(f"the pool of buffers grew by {self._more('pooled')} bytes")
        dull = [what for what in EXPECTED if self.seen[what] < self._rounds // 100]
        return [*found, *(f"hardly any {what}" for what in dull)]

    def run(self) -> None:
        """Run it to its end."""
        config = {"model": {"size": SIZE}}
        simulation = Simulation(_artifact(), _world(self._rounds), config=config)
        pool = simulation.root._engine.pool
        if self._traced:
            tracemalloc.start()
        try:
            for one in simulation.rounds():
                self._note(one)
                _drop_report(simulation, one.number)
                if one.number <= self._warm or len(simulation.nodes) <= CLIENTS:
                    continue  # in the second case one has crashed, and its model with it
                if len(self.first) < LOOKS:
                    self.first.append(self._sample(one.number, pool))
                elif one.number > self._rounds - 2 * LOOKS:
                    self.last.append(self._sample(one.number, pool))
        finally:
            if self._traced:
                tracemalloc.stop()
        assert simulation.done
        simulation.drain()
        for name, node in simulation.nodes.items():
            if held := leftovers(node):
                self.left[name] = held
            assert len(node._engine.peers.records) <= CLIENTS
        simulation.close()

    def _note(self, one: Any) -> None:
        self.seen.update(one.ended)
        self.seen["answers"] += one.answered
        self.seen["lost"] += one.lost.total()
        self.seen["refused"] += one.refused.total()
        self.seen["failures"] += one.failures.total()
        self.seen["nobody there"] += one.lost["nobody_there"]

    def _sample(self, number: int, pool: Any) -> Sample:
        _forget_caches()
        traced = tracemalloc.get_traced_memory()[0] if self._traced else 0
        # What a test run has frozen is held by the process as well.
        objects = len(gc.get_objects()) + gc.get_freeze_count()
        return Sample(number, objects, traced, _resident(), pool.held_bytes)


def _forget_caches() -> None:
    """Drop what Python keeps for speed, which grows for hundreds of rounds and then stays.

    Beside garbage that is the lines of each file that a traceback names; and the cache in which
    types find attributes, whose 4,096 entries each hold the name that was looked for, of the 60
    bytes of a text if C code made it for that.
    """
    gc.collect()
    linecache.clearcache()
    # Python 3.13 has the first, and a warning in the other.
    getattr(sys, "_clear_internal_caches", getattr(sys, "_clear_type_cache", gc.collect))()


def _drop_report(simulation: Simulation, number: int) -> None:
    """Take what was told of a finished round, and of those before it, out of the report."""
    recorder = simulation._world.recorder
    recorder.spans.clear()
    for ended in (recorder.rounds, simulation._rounds.ended):
        for one in [one for one in ended if one < number - 1]:  # the last may still get more
            del ended[one]


def _resident() -> int:
    """Return the bytes of this process; 0 where nobody knows."""
    if not sys.platform.startswith("linux"):
        return 0
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it
    if trim is not None:
        trim(0)
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # no path, a kernel's table
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _artifact() -> Artifact:
    compiler = Compiler().bind("aggregator", "fedavg", role="aggregator")
    for slot, part in (("peers", Peers), ("model", Model), ("data", Source), ("test", Source)):
        compiler.bind(slot, part)
    program = FederatedAveraging(CLIENTS, quorum=0.5, deadline="3s")
    return load_artifact(compiler.compile(program.build()))


def _world(rounds: int) -> Scenario:
    return Scenario(
        peers={"client": CLIENTS},
        rounds=rounds,
        seed=3,
        pause="100ms",
        links=Link(
            latency="10ms", jitter="20ms", loss=0.03, duplicate=0.05, reorder=0.1,
            reorder_by="100ms",
        ),
        compute={"client": Compute("50ms", "50ms", 0.2, 5.0)},
        liars=(
            Liar("client[1]", "nan", share=0.3),
            Liar("client[2]", "garbage", share=0.2),
            Liar("client[3]", "flood", share=0.1, times=3),
        ),
        faults=tuple(
            Crash(f"client[{n % CLIENTS}]", f"{7 * n + 1}s", "2s") for n in range(rounds // 12)
        ),
    )  # fmt: skip
