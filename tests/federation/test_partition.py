"""Where a program is cut changes nothing of what it computes.

A drawn program passes one tensor through statements on two models and a backend, some of them in
blocks. It is recorded twice: whole, on one class, and cut, with everything marked `far` sent to
another class and its result brought back. The cut one runs on two Nodes, and on one that is both.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_runtime import Artifact, install
from bb_testing.programs import Wire

Step = Callable[[bb.Output, bb.Output], bb.Output]
START = np.array([1.0, -2.0, 3.0])


class Plain(NamedTuple):
    """One op, or a few on one slot.

    Attributes:
        kind: What it does.
        number: Which earlier value it reads beside the last one.
        far: Whether it runs on the other class.
        child: Whether what follows runs in the reply itself, not after a gather.
    """

    kind: str
    number: int
    far: bool
    child: bool


class Block(NamedTuple):
    """A block around statements; all of it runs on the other class when `far`."""

    kind: str
    inside: list[Any]
    far: bool
    child: bool


PLAIN = st.builds(
    Plain,
    st.sampled_from(["add", "double", "negate", "forward", "backward", "fit", "reload", "part"]),
    st.integers(0, 5),
    st.booleans(),
    st.booleans(),
)
STATEMENTS = st.lists(
    st.recursive(
        PLAIN,
        lambda inner: st.builds(
            Block,
            st.sampled_from(["loop", "until", "yes", "no", "each"]),
            st.lists(inner, min_size=1, max_size=3),
            st.booleans(),
            st.booleans(),
        ),
        max_leaves=6,
    ),
    min_size=1,
    max_size=5,
)


class Part(bb.Module):
    """Changes a model that it is handed, turn by turn."""

    model = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", "tensor")
        with g.loop(2) as turn:
            y = self.model.backward(g, x)
            with g.when(turn > 1):
                self.model.forward(g, y)
        g.output("y", g.last(y))


class Drawn(bb.Module):
    """The statements, cut or whole; a drawn number of rounds may come last."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    near = bb.slots.Model()
    far = bb.slots.Model()
    near_data = bb.slots.DataSource()
    far_data = bb.slots.DataSource()
    backend = bb.slots.Backend()

    def __init__(self, statements: list[Any], rounds: list[Any], *, cut: bool) -> None:
        super().__init__()
        self.statements = statements
        self.rounds = rounds
        self.cut = cut
        self.count = 0
        self.near_part = Part(model=self.near)
        self.far_part = Part(model=self.far)

    def body(self, g: bb.Graph) -> None:
        self.count = 0
        x = g.input("x", tensor("float64", (3,)))
        x = self.run(g, self.statements, [x], here="", deep=False)
        g.output("whole", x)
        if self.rounds:
            with g.at(x):
                block = g.rounds(2)
            with block:
                g.output("round", self.run(g, self.rounds, [x], here="", deep=True))

    def run(
        self, g: bb.Graph, statements: list[Any], known: list[bb.Output], *, here: str, deep: bool
    ) -> bb.Output:
        """Record statements; returns the last value.

        Args:
            g: The recording.
            statements: The statements.
            known: Values made so far, of which the last is passed on.
            here: `far` on the other class, where everything is far and nothing is cut.
            deep: Whether they stand in a block, which a reply cannot leave.
        """
        for one in statements:
            far = one.far or here == "far"
            other = known[one.number % len(known)] if isinstance(one, Plain) else known[-1]
            step = self.step(g, one, known, here="far" if far else "", cut=far and not here)
            if self.cut and far and not here:
                known.append(self.sent(g, step, known[-1], other, child=one.child and not deep))
            else:
                known.append(step(known[-1], other))
        return known[-1]

    def step(
        self, g: bb.Graph, one: Plain | Block, known: Sequence[bb.Output], *, here: str, cut: bool
    ) -> Step:
        """Return what records one statement where its values stand."""
        if isinstance(one, Plain):
            return lambda x, other: self.op(g, one.kind, x, other, far=here == "far")
        # What stands elsewhere cannot be read there.
        around = [] if cut else list(known)
        return lambda x, _: self.block(g, one, [*around, x], here=here)

    def op(self, g: bb.Graph, kind: str, x: bb.Output, other: bb.Output, *, far: bool) -> bb.Output:
        """Record one op."""
        model, data = (self.far, self.far_data) if far else (self.near, self.near_data)
        if kind == "add":
            return x + other
        if kind == "double":
            return x * 2
        if kind == "negate":
            return -x
        if kind == "fit":
            model.fit(g, data.batches(g, after=x))
        if kind == "reload":
            model.load_params(g, model.params(g, after=x))
        if kind == "part":
            return (self.far_part if far else self.near_part)(g, x=x)["y"]
        return model.backward(g, x) if kind == "backward" else model.forward(g, x)

    def block(self, g: bb.Graph, one: Block, known: list[bb.Output], *, here: str) -> bb.Output:
        """Record a block; returns what its last turn gave, or the value before it."""
        x = known[-1]
        with g.at(x):
            flag = g.scalar(one.kind == "yes")
            opened: Any
            if one.kind == "each":
                opened = g.each(x)
            elif one.kind in ("yes", "no"):
                opened = g.when(flag)
            else:
                opened = g.loop(2 if one.kind == "loop" else None)
        turn: Any
        with opened as turn:
            inside = [*known, x + turn] if one.kind == "each" else list(known)
            y = self.run(g, one.inside, inside, here=here, deep=True)
            if one.kind == "until":
                turn.until(turn >= 2)
        return g.last(y, x)

    def sent(
        self, g: bb.Graph, step: Step, x: bb.Output, other: bb.Output, *, child: bool
    ) -> bb.Output:
        """Record a step on the other class."""
        self.count += 1
        with g.at(x):
            whom = self.peers.sample(g, 1)
        got, beside = g.net_out(f"ask{self.count}", whom, x, other)
        back = g.net_out(f"back{self.count}", g.sender(got), step(got, beside))
        if child:
            return back
        done = g.gather(back, values=True)
        with g.each(done.values) as value:
            same = value + 0
        return g.last(same)


def run(artifact: Artifact, *targets: Sequence[str]) -> Mapping[str, Any]:
    """Run a program on one Node for each group of targets; return what came of it."""
    ids = [PeerId.from_seed(b"partition", number) for number in range(len(targets))]
    config: dict[str, Mapping[str, Any]] = {
        "near": {"value": 2.0},
        "far": {"value": 5.0},
        "near_data": {"value": 1.0},
        "far_data": {"value": 3.0},
        "peers": {"peers": (ids[-1],)},
    }
    used = {row.slot for target in artifact.targets.values() for row in target.rows}
    given = {slot: one for slot, one in config.items() if slot in used}
    nodes = [
        install(peer, [], artifact, list(group), given)
        for peer, group in zip(ids, targets, strict=True)
    ]
    wire = Wire(*nodes)
    nodes[0].invoke("Drawn", {"x": START})
    wire.run()
    assert wire.failures() == []
    assert {end.how for end in wire.ended()} == {"done"}
    found = {name: [value.tolist() for value in wire.outputs(name)] for name in ("whole", "round")}
    slots = {
        target.short: [row.slot for row in target.rows] for target in artifact.targets.values()
    }
    for slot in ("near", "far"):
        held = zip(nodes, targets, strict=True)
        parts: list[Any] = [
            node.component(slot)
            for node, group in held
            if any(slot in slots[name] for name in group)
        ]
        found[slot] = [part.w.tolist() for part in parts if part.methods]
    return found


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(statements=STATEMENTS, rounds=st.just([]) | STATEMENTS)
def test_a_program_that_is_cut_gives_what_it_gives_whole(
    compiled: Callable[..., Artifact], statements: list[Any], rounds: list[Any]
) -> None:
    whole = compiled(Drawn(statements, rounds, cut=False))
    cut = compiled(Drawn(statements, rounds, cut=True))

    expected = run(whole, ["Drawn"])
    names = [target.short for target in cut.targets.values()]

    assert run(cut, names) == expected, "on one Node"
    assert run(cut, *([name] for name in names)) == expected, "on two Nodes"


@pytest.mark.parametrize("kind", ["loop", "until", "yes", "no", "each"])
@pytest.mark.parametrize("far", [False, True])
def test_each_kind_of_block_cut_inside_and_around(
    compiled: Callable[..., Artifact], kind: str, far: bool
) -> None:
    inside = [Plain("fit", 0, far=True, child=False), Plain("backward", 0, far=False, child=False)]
    statements = [Block(kind, inside, far, child=False), Plain("forward", 0, far=True, child=True)]
    cut = compiled(Drawn(statements, statements, cut=True))
    names = [target.short for target in cut.targets.values()]

    expected = run(compiled(Drawn(statements, statements, cut=False)), ["Drawn"])

    assert names == ["Drawn", "Drawn.client"]
    assert len(expected["round"]) == 2
    assert run(cut, names) == run(cut, *([name] for name in names)) == expected
