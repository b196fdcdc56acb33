"""Leases of a registry in the simulator: they run by the Nodes' clocks, in a world with faults."""

import pytest

import bytesandbrains as bb
from bb_protocol_registry.slots import Registry
from bb_sim import Clock, Crash, Leave, Liar, Link, Scenario, Simulation


class Roll(bb.Module):
    """Members announce themselves every ten seconds; every five the table tells them how many."""

    peer_class = "table"
    tables = bb.slots.PeerSelector(of="table")
    registry = Registry(of="member")

    def bootstrap(self, g):
        self.announce(g, "announce")
        with g.every("10s"):
            self.announce(g, "renew")

    def announce(self, g, edge):
        with g.at("member"):
            tables, told = self.tables.current_view(g), self.registry.announce(g)
            # One that is not answered must not take the next one's time.
            told = g.net_out(edge, tables, told, deadline="8s", retries=2)
        lease = g.net_out(f"{edge}_lease", g.sender(told), self.registry.register(g, told))
        self.registry.accept(g, lease)

    def body(self, g):
        with g.every("5s"):
            members = self.registry.members(g)
            count = g.length(members)
            g.output("members", count)
            g.metric("members", g.net_out("called", members, count), "gauge")


def roll_call(ticks, **world):
    """Return how many members there were, by seconds, and which ops failed."""
    compiler = bb.Compiler().bind_peer_selector("tables", "static")
    artifact = compiler.bind_protocol("registry", "registry").compile(Roll().build())
    scenario = Scenario(peers={"member": 20}, rounds=ticks, seed=4, **world)
    config = {"registry": {"ttl_s": 30.0}}
    counts, failures = {}, set()
    for done in Simulation(artifact, scenario, config=config).rounds():
        counts[5 * (done.number - 1)] = done.outputs["members"].last
        failures |= done.failures.keys()
    return counts, failures


def test_members_that_crash_fall_out_when_their_leases_end():
    crash = Crash("member[0:6]", at="52s", back="60s")
    gone = Leave("member[19]", at="12s")
    counts, failures = roll_call(30, faults=(crash, gone), links=Link(latency="20ms"))

    assert counts[10] == 20
    assert counts[45] == 19, "the lease of the one that left has ended"
    assert counts[75] == 19, "theirs have not"
    assert counts[85] == 13
    assert counts[120] == 19, "they came back, and announced themselves"
    assert not failures


@pytest.mark.parametrize("drift", [0.0, 1e-3])
def test_leases_last_while_announcements_are_lost_and_late(drift):
    bad = Link(
        latency="50ms", jitter="400ms", loss=0.1, duplicate=0.2, reorder=0.2, reorder_by="1s"
    )
    clocks = {"member": Clock(offset="2s", drift=drift)}
    counts, failures = roll_call(60, links=bad, clocks=clocks)

    late = [count for seconds, count in counts.items() if seconds >= 30]
    assert min(late) >= 17
    assert sum(late) / len(late) > 18.5
    assert failures <= {"StaleSequence", "InvalidMessage"}, "what was overtaken is refused"


def test_who_replays_the_announcements_of_others_lives_on_its_own():
    replay = Liar("member[3]", "replay")
    counts, _ = roll_call(30, liars=(replay,), faults=(Leave("member[4]", at="12s"),))

    assert counts[10] == 20
    assert counts[60] <= 19, "nobody keeps another one's lease"
