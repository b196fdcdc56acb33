"""Ops that a component adds to its role run like those of the role, and only those it declares."""

from dataclasses import replace
from typing import Any

import pytest
from onnx import ModelProto

import bb_dsl as bb
from bb_compiler import Compiler
from bb_dsl.slots import IndexHandle, ProtocolHandle, Slot
from bb_ir import keys, onnx_tools
from bb_ir.ids import PeerId
from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import record, scalar, tensor
from bb_roles import Index, Protocol
from bb_runtime import LocalBus, install, load_artifact
from bb_runtime.errors import InvalidArtifact, UnresolvedOp
from bb_runtime.steps import Emitted, OpFailed
from bb_testing.programs import FixedPeers

HERE, THERE = (PeerId.from_seed(b"own ops", n) for n in range(2))
CARD = record({"name": scalar("string"), "visits": scalar("int64")})
OPS = ops(
    OpSchema("Visit", "visit", (), (Port("card", CARD),), (Attribute("name", "nobody"),)),
    OpSchema("Welcome", "welcome", (Port("card", CARD),), (Port("seat", scalar("int64")),)),
    OpSchema("Sit", "sit_down", (Port("seat", scalar("int64")),)),
    OpSchema("Seats", "seats", (), (Port("seats", scalar("int64")),), effect="reads"),
)


class HallHandle(ProtocolHandle):
    """Names the ops."""

    ops = OPS

    def visit(self, g, name="nobody"):
        return self._record(g, "Visit", name=name)[0]

    def welcome(self, g, card):
        return self._record(g, "Welcome", card)[0]

    def sit(self, g, seat):
        return self._record(g, "Sit", seat)[0]

    def seats(self, g, after=None):
        return self._record(g, "Seats", after=after)[0]


class HallSlot(Slot):
    handle = HallHandle


class Hall(Protocol):
    """Guests are told a seat; a Node may be guest and hall."""

    ops = OPS

    def __init__(self, config, env):
        super().__init__(config, env)
        self.taken: list[Any] = []
        self.visits = 0

    def visit(self, ctx, *, name="nobody"):
        self.visits += 1
        return {"name": name, "visits": self.visits}

    def welcome(self, ctx, card):
        if card["name"] == "nobody":
            raise ValueError("who is it?")
        self.taken.append((ctx.sender, card))
        return len(self.taken)

    def sit_down(self, ctx, seat):
        self.taken.append(seat)

    def seats(self, ctx):
        return len(self.taken)


class Visiting(bb.Module):
    """A guest visits a hall on another Node, and sits down where it is told to."""

    peer_class = "guest"
    halls = bb.slots.PeerSelector(of="hall")
    hall = HallSlot()

    def __init__(self, name: str = "Ada") -> None:
        super().__init__()
        self.name = name

    def body(self, g: bb.Graph) -> None:
        arrived = g.net_out("card", self.halls.current_view(g), self.hall.visit(g, self.name))
        seat = g.net_out("seat", g.sender(arrived), self.hall.welcome(g, arrived))
        g.output("seat", seat)
        g.output("seats", self.hall.seats(g, after=self.hall.sit(g, seat)))


def build(name: str = "Ada") -> ModelProto:
    compiler = Compiler().bind_peer_selector("halls", FixedPeers).bind_protocol("hall", Hall)
    return compiler.compile(Visiting(name).build())


def both(artifact: ModelProto) -> LocalBus:
    config = {"halls": {"peers": [THERE]}}
    guest = install(HERE, [], artifact, ["Visiting"], config)
    return LocalBus(guest, install(THERE, [], artifact, ["Visiting.hall"], config))


def edited(text: str) -> ModelProto:
    """Return an artifact whose first op of the hall carries another schema."""
    model = build()
    for function in model.functions:
        for node in function.node:
            if node.op_type == "Visit":
                onnx_tools.set_meta(node, keys.SCHEMA, text)
    return model


def test_own_ops_run_across_the_network():
    bus = both(build())
    guest, hall = bus.nodes
    for _ in range(2):
        guest.invoke("Visiting")
        steps = [event.step for event in bus.run()]

    assert [(s.name, s.value) for s in steps if isinstance(s, Emitted)] == [
        ("seat", 2), ("seats", 2)
    ]  # fmt: skip
    cards = [{"name": "Ada", "visits": n} for n in (1, 2)]
    assert hall.component("hall").taken == [(HERE, card) for card in cards]
    assert guest.component("hall").taken == [1, 2]


def test_own_op_that_fails_is_told_like_any_other():
    bus = both(build("nobody"))
    bus.nodes[0].invoke("Visiting")

    [failed] = [e.step for e in bus.run() if isinstance(e.step, OpFailed)]

    assert (failed.op, failed.slot, str(failed.error)) == ("Welcome", "hall", "who is it?")
    assert failed.source is not None
    assert failed.source.file.endswith("test_own_ops.py")


def test_schema_is_read_once_with_the_artifact():
    artifact = load_artifact(build())

    schemas = {op.name: op.schema for t in artifact.targets.values() for op in t.ops}
    assert schemas.items() >= OPS.items()
    assert schemas["Send"] is None
    assert schemas["CurrentView"].method == "current_view"


@pytest.mark.parametrize("text", ["{}", "nonsense", '{"method":"__init__"}'])
def test_schema_that_cannot_be_read_is_an_invalid_artifact(text):
    with pytest.raises(InvalidArtifact, match="schema of op 'Visit' cannot be read"):
        load_artifact(edited(text))


@pytest.mark.parametrize("change", [{"method": "close"}, {"effect": "reads"}])
def test_op_that_the_component_declares_in_another_form_is_refused(change):
    config = {"halls": {"peers": [THERE]}}
    with pytest.raises(UnresolvedOp, match=r"Visit .* the component has another op Visit"):
        install(HERE, [], edited(replace(OPS["Visit"], **change).text()), ["Visiting"], config)


def test_op_that_the_component_does_not_declare_is_refused(monkeypatch):
    artifact = build()
    monkeypatch.setattr(Hall, "ops", {})

    with pytest.raises(UnresolvedOp, match=r"Visit .* the component has no op Visit\(name="):
        both(artifact)


class CountingHandle(IndexHandle):
    """An index that can be counted."""

    ops = ops(OpSchema("Count", "count", (), (Port("n", scalar("int64")),), effect="reads"))

    def count(self, g):
        return self._record(g, "Count")[0]


class CountingSlot(Slot):
    handle = CountingHandle


class Counting(Index):
    """Knows how many vectors it holds."""

    ops = CountingHandle.ops

    def __init__(self, config, env):
        super().__init__(config, env)
        self.held = 0

    def add(self, ctx, vectors):
        self.held += len(vectors)
        return vectors

    def search(self, ctx, queries, *, k=10):
        raise NotImplementedError

    def remove(self, ctx, ids):
        raise NotImplementedError

    def count(self, ctx):
        return self.held


class Counts(bb.Module):
    index = CountingSlot()

    def body(self, g: bb.Graph) -> None:
        self.index.add(g, g.input("x", tensor("float32", (None, 2))))
        g.output("n", self.index.count(g))


def test_components_of_any_role_may_add_ops_and_keep_the_order_of_effects():
    import numpy as np

    node = install(HERE, [], Compiler().bind_index("index", Counting).compile(Counts().build()),
                   ["Counts"])  # fmt: skip
    node.invoke("Counts", {"x": np.zeros((3, 2), np.float32)})

    assert [s.value for s in node.poll() if isinstance(s, Emitted)] == [3]
