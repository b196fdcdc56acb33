"""What must hold in every world, from what was seen and from the accounts.

Every check returns sentences; none means that all holds. A Node that crashed was cut off in the
middle of things, so of its life only that nothing happened twice can be said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bb_runtime import FrameId
from bb_sim import Simulation
from bb_sim.chaos import violations
from swarming.learning import learned
from swarming.ledger import Fold
from swarming.programs import Case
from swarming.watch import Life, Message, Watch

__all__ = ["check"]

#: What may make an op fail in these worlds: quorums, deadlines, and lies that parts refuse.
EXPECTED = frozenset(
    {
        "DeadlineExceeded", "MetricsError", "NothingContributed", "OpError", "PeersError",
        "QuorumNotMet", "StaleSequence", "UpdateMismatch", "UpdateOutOfRange", "WrongShape",
    }
)  # fmt: skip
#: Dropped after its frame was to open: the envelope was counted as taken.
AFTER_TAKEN = ("bad_value", "abandoned")


def check(case: Case, simulation: Simulation, watch: Watch) -> list[str]:
    """Return what does not hold after a run, when all is quiet."""
    found = violations(simulation)
    found += [one for life in watch.lives.values() for one in life.wrong]
    found += _authentic(simulation, watch)
    found += _twice(watch)
    found += _out_of_order(case, watch)
    names = simulation.population.name
    numbers = simulation.population.numbers
    alive = {node.peer: node for node in simulation.nodes.values()}
    for (peer, incarnation), life in watch.lives.items():
        name = names(numbers[peer])
        found += [f"{name}: {one}" for one in _gathers(life)]
        found += [f"{name}: {one}" for one in _errors(life)]
        node = alive.get(peer)
        if node is not None and node._engine.incarnation == incarnation:
            found += [f"{name}: {one}" for one in _accounts(case, life, watch)]
    for (peer, number), fold in watch.ledger.folds.items():
        where = f"{names(numbers[peer])}, round {number.number}"
        found += [f"{where}: {one}" for one in _folds(case, fold, watch, peer, number)]
        node = alive.get(peer)
        whole = node is not None and node._engine.incarnation == number.incarnation
        if whole and fold.parts and not fold.sums and not fold.abandoned:
            found.append(f"{where}: {len(fold.parts)} updates are neither folded nor abandoned")
    if case.learns:
        found += learned(simulation, watch)
    return found


# Messages


def _authentic(simulation: Simulation, watch: Watch) -> Iterator[str]:
    """What was accepted under a source was sent by it, as it was sent."""
    names, numbers = simulation.population.name, simulation.population.numbers
    for one in watch.accepted:
        message = one.message
        number = numbers[message.source]
        lies = watch.lies.get((number, message.incarnation, message.number), ())
        if watch.sent.get((message, one.to)) != one.digest and one.digest not in lies:
            yield (
                f"{names(numbers[one.to])} accepted message {message.number} on {one.edge!r} as "
                f"from {names(number)}, which never sent it"
            )


def _twice(watch: Watch) -> Iterator[str]:
    """A message opens one frame in a life of its receiver."""
    taken: Counter[tuple[object, int, Message]] = Counter(
        (one.to, one.life, one.message) for one in watch.accepted
    )
    for (_, _, message), count in taken.items():
        if count > 1:
            yield f"message {message.number} of {message.source} was accepted {count} times"


def _out_of_order(case: Case, watch: Watch) -> Iterator[str]:
    """What one life of a peer sends on an edge that keeps an order is opened in that order."""
    edges = case.artifact.edges
    last: dict[tuple[object, ...], int] = {}
    for one in watch.accepted:
        if not edges[one.edge].ordered:
            continue
        message = one.message
        line = one.to, one.life, one.edge, message.source, message.incarnation
        if message.number < last.get(line, 0):
            yield f"message {message.number} on {one.edge!r} was opened after {last[line]}"
        last[line] = message.number


# Frames


def _gathers(life: Life) -> Iterator[str]:
    for (frame, index), count in life.fired.items():
        if count > 1:
            yield f"gather {index} of frame {frame} fired {count} times"
    engine = life.engine
    wanted = {
        bound.program.info.name: [info.index for info in bound.program.gathers]
        for bound in engine.bounds
    }
    for frame, (region, how) in life.ended.items():
        if how != "done":
            continue
        missing = [index for index in wanted.get(region, ()) if not life.fired[frame, index]]
        if missing:
            yield f"frame {frame} of {region!r} is done, and its gathers {missing} never fired"


def _errors(life: Life) -> Iterator[str]:
    for code, count in life.failed.items():
        if code not in EXPECTED:
            yield f"{count} ops failed with {code}"
    for reason, count in life.dropped.items():
        if reason.startswith("abandon_failed"):
            yield f"{reason}, {count} times"


def _accounts(case: Case, life: Life, watch: Watch) -> Iterator[str]:
    """All that a Node took in is accounted for."""
    engine = life.engine
    opened, lines = sum(engine.numbers), sum(len(bound.queue) for bound in engine.bounds)
    if opened != len(life.ended) + lines:
        yield f"{opened} frames opened, {len(life.ended)} ended, {lines} stand in line"
    edges = [edge for edge in engine.artifact.edges if edge in engine.regions]
    taken = sum(flow[2] for edge, flow in engine.metrics.flows.items() if edge in edges)
    frames = sum(region in edges for region, _ in life.ended.values())
    refused = life.held + sum(life.dropped[reason] for reason in AFTER_TAKEN)
    if taken != frames + refused:
        yield f"{taken} envelopes taken, {frames} frames for them, {refused} refused afterwards"
    if not case.folds:
        return
    folded = sum(
        len(fold.parts)
        for (peer, number), fold in watch.ledger.folds.items()
        if peer == engine.peer and number.incarnation == engine.incarnation
    )
    ends = Counter(how for region, how in life.ended.values() if region == case.folds)
    least, broken = ends["done"] * case.parts, ends.total() - ends["done"]
    # One that breaks off may have contributed, but for its last part.
    if not least <= folded <= least + broken * (case.parts - 1):
        yield f"frames of {case.folds!r} ended {dict(ends)}, and {folded} updates were contributed"


# Rounds


def _folds(case: Case, fold: Fold, watch: Watch, peer: object, number: FrameId) -> Iterator[str]:
    yield from fold.wrong
    if fold.sums > 1:
        yield f"aggregated {fold.sums} times"
    own = watch.ledger.made.get(peer, set()) if case.parts > 1 else set()
    came: Counter[tuple[object, bytes]] = Counter(
        (one.message.source, digest)
        for one in watch.accepted
        if (one.to, one.life) == (peer, number.incarnation)
        for digest in one.params
    )
    taken = Counter((part.sender, part.digest) for part in fold.parts)
    for (sender, digest), count in taken.items():
        if digest not in own and count > came[sender, digest]:
            yield f"{count} times folded what came {came[sender, digest]} times from {sender}"
    if case.parts == 1:
        senders = Counter(part.sender for part in fold.parts)
        for sender, count in senders.items():
            if count > case.asks:
                yield f"folded {count} updates of {sender}, who was asked {case.asks} times"
