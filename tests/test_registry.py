"""Members of a registry across Nodes: joining, leaving, views, and who is believed."""

import pytest

import bytesandbrains as bb
from bb_protocol_registry.slots import Registry
from bb_roles import Protocol
from bb_testing import FakeContext

SECOND = 10**9
TABLE, A, B, C = (bb.PeerId.from_seed(b"registry", n) for n in range(4))
NAMES = {A: "a", B: "b", C: "c"}


class Club(bb.Module):
    """A member joins, and is told who else is there."""

    peer_class = "member"
    tables = bb.slots.PeerSelector(of="table")
    others = bb.slots.PeerSelector(of="member")
    registry = Registry()

    def bootstrap(self, g: bb.Graph) -> None:
        arrived = g.net_out("join", self.tables.current_view(g), self.registry.announce(g))
        lease = g.net_out("lease", g.sender(arrived), self.registry.register(g, arrived))
        self.registry.accept(g, lease)

    def body(self, g: bb.Graph) -> None:
        asked = g.net_out("ask", self.tables.current_view(g), self.registry.known(g))
        view = g.net_out("view", g.sender(asked), *self.registry.view(g, asked))
        learned = self.registry.learn(g, *view)
        g.output("others", self.others.current_view(g, after=learned))
        g.output("version", view[0])
        g.output("complete", view[1])


class Leaving(bb.Module):
    """A member says that it goes."""

    peer_class = "member"
    tables = bb.slots.PeerSelector(of="table")
    registry = Registry()

    def body(self, g: bb.Graph) -> None:
        arrived = g.net_out("leave", self.tables.current_view(g), self.registry.leave(g))
        self.registry.remove(g, arrived)


class Nothing(Protocol):
    """Has no ops."""


def build(module: bb.Module):
    compiler = bb.Compiler().bind_peer_selector("tables", "static")
    compiler.bind_protocol("registry", "registry")
    if isinstance(module, Club):
        compiler.bind_peer_selector("others", "registry")
    return compiler.compile(module.build())


def club(module: bb.Module, target: str, *members: bb.PeerId) -> bb.LocalBus:
    artifact, config = build(module), {"tables": {"peers": [TABLE]}}
    nodes = [bb.install(TABLE, [], artifact, [f"{target}.table"], config)]
    nodes += [bb.install(peer, [], artifact, [target], config) for peer in members]
    return bb.LocalBus(*nodes)


def settle(bus: bb.LocalBus) -> dict:
    """Run until quiet; return what each member published."""
    found: dict = {}
    for event in bus.run():
        if isinstance(event.step, bb.OpFailed):
            raise event.step.error
        if isinstance(event.step, bb.Emitted):
            found.setdefault(NAMES[event.peer], {})[event.step.name] = event.step.value
    return found


def others(found: dict) -> dict:
    return {name: "".join(NAMES[p] for p in out["others"]) for name, out in found.items()}


def ask(bus: bb.LocalBus) -> dict:
    for node in bus.nodes[1:]:
        node.invoke("Club")
    return settle(bus)


@pytest.fixture
def bus():
    made = club(Club(), "Club", A, B, C)
    for node in made.nodes:
        node.run_bootstrap()
    settle(made)
    return made


def test_members_discover_each_other_through_the_table(bus):
    first = ask(bus)
    second = ask(bus)

    assert others(first) == others(second) == {"a": "bc", "b": "ac", "c": "ab"}
    assert [out["complete"] for out in first.values()] == [True] * 3
    assert [out["complete"] for out in second.values()] == [False] * 3


def test_lease_that_ends_is_seen_by_all_at_the_next_view(bus):
    ask(bus)
    for node in bus.nodes:
        node.advance(60 * SECOND)
    for node in bus.nodes[1:3]:
        node.run_bootstrap()
    settle(bus)
    for node in bus.nodes:
        node.advance(100 * SECOND)

    assert others(ask(bus)) == {"a": "b", "b": "a", "c": "ab"}


class Calling(bb.Module):
    """The table calls all its members, without a peer selector."""

    peer_class = "table"
    registry = Registry(of="member")

    def body(self, g: bb.Graph) -> None:
        called = g.net_out("call", self.registry.members(g), g.input("n", bb.scalar("int64")))
        answer = g.net_out("answer", g.sender(called), called)
        done = g.gather(answer, quorum=1.0, deadline="1s", wait="all")
        g.output("count", done.count)


def test_table_sends_to_its_members():
    artifact = bb.Compiler().bind_protocol("registry", "registry").compile(Calling().build())
    table = bb.install(TABLE, [], artifact, ["Calling"])
    for peer in (A, C):
        told = {"sequence": 1, "ttl_ns": 90 * SECOND, "labels": []}
        table.component("registry").register(FakeContext(sender=peer), told)
    nodes = [bb.install(peer, [], artifact, ["Calling.member"]) for peer in (A, B, C)]
    bus = bb.LocalBus(table, *nodes)
    table.invoke("Calling", {"n": 7})

    [emitted] = [e.step for e in bus.run() if isinstance(e.step, bb.Emitted)]
    assert emitted.value == 2


def test_who_leaves_is_gone_at_once():
    artifact, config = build(Leaving()), {"tables": {"peers": [TABLE]}}
    table = bb.install(TABLE, [], artifact, ["Leaving.table"], config)
    member = bb.install(A, [], artifact, ["Leaving"], config)
    members, own = table.component("registry"), member.component("registry")
    members.register(FakeContext(sender=A), own.announce(FakeContext()))
    bus = bb.LocalBus(table, member)
    assert members.members(FakeContext()) == (A,)

    member.invoke("Leaving")
    settle(bus)

    assert members.members(FakeContext()) == ()
    assert not own.due(FakeContext(now_ns=10**15))


def test_slot_of_the_registry_needs_a_component_with_its_ops():
    compiler = bb.Compiler().bind_peer_selector("tables", "static")
    compiler.bind("registry", Nothing)

    with pytest.raises(bb.CompileError, match="slot 'registry' is used for Leave") as caught:
        compiler.compile(Leaving().build())

    assert "arrived = g.net_out(" in str(caught.value)


def test_peers_of_a_registry_need_a_registry():
    compiler = bb.Compiler().bind_peer_selector("peers", "registry")
    for slot, name in (("model", "mlp"), ("data_source", "digits")):
        compiler.bind(slot.removesuffix("_source"), name, role=slot)
    compiler.bind_aggregator("aggregator", "fedavg")

    with pytest.raises(bb.CompileError, match="needs slot 'registry', which is not bound"):
        compiler.compile(bb.programs.FederatedAveraging(2).build())


def test_registry_that_only_a_selector_uses_is_shared_with_it():
    artifact = build(Club())
    node = bb.install(A, [], artifact, ["Club"], {"tables": {"peers": [TABLE]}})

    selector = node.component("others")
    assert selector.env.dependencies["registry"] is node.component("registry")
