"""Nodes of a simulation write journals, which change nothing and can be replayed step for step."""

import pytest

from bb_runtime.replay import replay
from bb_sim import Scenario, Simulation, UnknownPeers
from bb_sim.scenario import Crash, Link

#: Envelopes are lost, doubled and late; a client and the server lose all that they hold.
CHAOS = {
    "rounds": 6,
    "pause": "200ms",
    "links": Link("20ms", "40ms", loss=0.02, duplicate=0.1, reorder=0.2, reorder_by="50ms"),
    "faults": (Crash("client[0]", "30ms", "100ms"), Crash("server", "300ms", "100ms")),
}


class Logs:
    """Keeps the records of Nodes by peer and life."""

    def __init__(self):
        self.of = {}

    def __call__(self, peer, life):
        return self.of.setdefault((peer, life), []).append


@pytest.fixture
def ran(artifact):
    """Simulate, and return what it brought."""

    def ran_(journal=None, journal_peers="", **scenario):
        given = Scenario(**{"peers": {"client": 5}, "rounds": 3, **scenario})
        config = {"data": lambda index: {"value": index + 1.0}}
        one = Simulation(
            artifact(5), given, config=config, journal=journal, journal_peers=journal_peers
        )
        try:
            return one.run()
        finally:
            one.close()

    return ran_


def test_journals_change_nothing_and_every_node_is_replayed(ran):
    logs = Logs()

    recorded = ran(logs, "server,client")

    assert recorded.digest == ran().digest
    assert {peer for peer, _ in logs.of} == {"server", *(f"client[{n}]" for n in range(5))}
    steps = {peer: replay(log).steps for (peer, _), log in logs.of.items()}
    assert min(steps.values()) >= 3
    assert steps["server"] >= 3 * 5


@pytest.mark.parametrize("seed", range(5))
def test_every_life_of_a_peer_has_a_journal_whatever_the_world_does(ran, seed):
    logs = Logs()

    recorded = ran(logs, "server,client", seed=seed, **CHAOS)

    assert recorded.digest == ran(seed=seed, **CHAOS).digest
    assert ("client[0]", 2) in logs.of
    assert ("server", 2) in logs.of
    for log in logs.of.values():
        replay(log)


def test_the_first_peer_of_each_class_writes_when_nobody_is_named(ran):
    logs = Logs()
    ran(logs)

    assert set(logs.of) == {("server", 1), ("client[0]", 1)}


def test_peers_that_there_are_not_are_named(ran):
    with pytest.raises(UnknownPeers, match="journal_peers names the class 'nobody'"):
        ran(Logs(), "nobody")
