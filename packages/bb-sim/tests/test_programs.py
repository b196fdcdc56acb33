"""Programs of other kinds: gossip, rounds of their own, deferred work, bootstraps, inputs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import bb_dsl as dsl
from bb_ir.types import peers as peers_type
from bb_roles.registry import bound_class
from bb_sim import Compute, Crash, Liar, Link, Scenario, Simulation
from bb_sim.chaos import random_scenario
from bb_testing.programs import CountingModel

SECOND = 10**9


class Gossip(dsl.Module):
    peer_class = "peer"
    neighbour = dsl.slots.PeerSelector(of="peer")
    model = dsl.slots.Model()

    def body(self, g):
        with g.every("1s"):
            theirs = g.net_out("push", self.neighbour.sample(g, 1), self.model.params(g))
        self.model.load_params(g, theirs)
        g.output("got", theirs)


class Rounds(dsl.Module):
    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()

    def body(self, g):
        with g.rounds(4):
            asked = g.net_out("ask", self.peers.sample(g, 3), self.model.params(g))
            self.model.load_params(g, asked)
            reply = g.net_out("answer", g.sender(asked), self.model.params(g))
            done = g.gather(reply, deadline="5s")
            g.output("count", done.count)


class Parts(dsl.Module):
    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")

    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 3))
        with g.loop(4) as turn:
            part = g.net_out("part", g.sender(asked), turn, replies=4)
        g.output("count", g.gather(part, deadline="5s", quorum=2, wait="all").count)


class Twice(dsl.Module):
    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")

    def body(self, g):
        asked = g.net_out("ask", self.peers.sample(g, 3))
        first = g.net_out("first", g.sender(asked), asked)
        second = g.net_out("second", g.sender(asked), asked)
        g.output("first", g.gather(first, deadline="5s").count)
        g.output("second", g.gather(second, deadline="5s").count)


def neighbours():
    return {
        "gossip": bound_class("protocol", "gossip"),
        "peers": bound_class("peer_selector", "random"),
    }


class SlowModel(CountingModel):
    """Hands its training to the host."""

    defers = frozenset({"fit"})

    def fit(self, ctx, batches):
        return ctx.defer(lambda: {"examples": batches.examples, "loss": 0.0})


class Interrupted(CountingModel):
    """As if a user pressed Ctrl-C in the third round."""

    def load_params(self, ctx, params):
        if self.methods.count("load_params") == 2:
            raise KeyboardInterrupt
        super().load_params(ctx, params)


def gossip(compiled, **scenario):
    world = {"peers": {"peer": 6}, "start": "all", "rounds": 5, "until": "20s", **scenario}
    simulation = Simulation(compiled(Gossip()), Scenario(**world))
    return simulation, simulation.run()


def test_all_peers_gossip_by_their_own_clocks(compiled):
    _, result = gossip(compiled, links=Link("10ms"))

    assert result.complete
    assert [one.ended for one in result.rounds] == [{"done": 6}] * 5
    assert [one.envelopes for one in result.rounds] == [{"push": 6}] * 5
    assert result.rounds[0].started_ns == 0
    assert result.rounds[4].ended_ns == 5 * SECOND


def test_peer_that_was_gone_takes_up_its_clock_again(compiled):
    _, result = gossip(compiled, faults=(Crash("peer[2]", "1500ms", "1s"),))

    assert result.complete
    # It was in its second round, and began the third when it was back, at 2.5 s.
    assert result.rounds[1].ended == {"done": 5, "crashed": 1}
    assert [one.ended_ns for one in result.rounds[2:]] == [3.5e9, 4.5e9, 5.5e9]


def test_time_ends_what_never_ends(compiled):
    _, result = gossip(compiled, rounds=None, until="3500ms")

    assert not result.complete
    assert [one.number for one in result.rounds] == [1, 2, 3]


def test_peer_that_answers_in_parts_answered_when_the_last_one_came(compiled):
    world = Scenario(
        peers={"client": 3}, rounds=1, links=Link("10ms"), liars=(Liar("client[1]", "silence"),)
    )
    result = Simulation(compiled(Parts()), world).run()

    [only] = result.rounds
    assert only.outputs["count"].last == 2
    assert (only.asked, only.answered, only.stragglers) == (3, 2, 1)
    assert only.answers == 8


def test_answer_on_two_edges_counts_once(compiled):
    result = Simulation(compiled(Twice()), Scenario(peers={"client": 3}, rounds=2)).run()

    for one in result.rounds:
        assert (one.asked, one.answered, one.answers) == (3, 3, 6)


@pytest.mark.parametrize("late", [True, False])
def test_every_peer_of_a_gossip_has_its_own_rounds(compiled, late):
    from bytesandbrains.programs import GossipAveraging

    artifact = compiled(GossipAveraging(), **neighbours())
    world = Scenario(peers={"peer": 8}, rounds=4, start="all", links=Link("20ms", "30ms"))
    config = {"gossip": lambda index: {"value": float(index)}}
    result = Simulation(artifact, world, config=config, late=late).run()

    assert [(one.asked, one.answered) for one in result.rounds] == [(8, 8)] * 4


def test_question_that_is_sent_again_is_one(compiled):
    from bytesandbrains.programs import GossipAveraging

    artifact = compiled(GossipAveraging(retries=3), **neighbours())
    world = Scenario(peers={"peer": 6}, rounds=5, start="all", links=Link("5ms", loss=0.3))
    config = {"gossip": lambda index: {"value": float(index)}}
    result = Simulation(artifact, world, config=config).run()

    assert sum(one.envelopes["exchange"] for one in result.rounds) > 30
    assert [one.asked for one in result.rounds] == [6] * 5
    assert sum(one.answered for one in result.rounds) <= 30


def test_rounds_of_the_program_are_rounds_of_the_result(compiled):
    whole = Simulation(compiled(Rounds()), Scenario(peers={"client": 3})).run()
    part = Simulation(compiled(Rounds()), Scenario(peers={"client": 3}, rounds=2)).run()

    assert [one.outputs["count"].last for one in whole.rounds] == [3, 3, 3, 3]
    assert [one.envelopes for one in whole.rounds] == [{"ask": 3, "answer": 3}] * 4
    assert whole.complete
    assert [one.number for one in part.rounds] == [1, 2]


def test_server_whose_rounds_are_a_block_begins_them_anew(compiled):
    crash = Crash("server", "30ms", "1s")
    world = Scenario(peers={"client": 3}, links=Link("10ms"), faults=(crash,))

    result = Simulation(compiled(Rounds()), world).run()

    assert result.complete
    assert [dict(one.ended) for one in result.rounds[:2]] == [{"done": 1}, {"crashed": 1}]
    assert [dict(one.ended) for one in result.rounds[2:]] == [{"done": 1}] * 4


@pytest.mark.parametrize("late", [True, False])
def test_deferred_work_takes_the_time_that_the_scenario_says(compiled, late):
    from bytesandbrains.programs import FederatedAveraging

    artifact = compiled(FederatedAveraging(4), model=SlowModel)
    world = Scenario(
        peers={"client": 4},
        rounds=2,
        links=Link("10ms"),
        compute={"client": Compute("700ms")},
    )

    result = Simulation(artifact, world, late=late).run()

    assert [one.seconds for one in result.rounds] == [0.72, 0.72]
    assert [one.answered for one in result.rounds] == [4, 4]


def test_crash_during_deferred_work_ends_it(compiled):
    from bytesandbrains.programs import FederatedAveraging

    artifact = compiled(FederatedAveraging(4, quorum=0.5, deadline="2s"), model=SlowModel)
    world = Scenario(
        peers={"client": 4},
        links=Link("10ms"),
        compute={"client": Compute("700ms")},
        faults=(Crash("client[1]", "300ms", "100ms"),),
    )
    simulation = Simulation(artifact, world)

    (one,) = simulation.run().rounds
    simulation.drain()

    assert one.answered == 3
    assert all(node.live_frames == 0 for node in simulation.nodes.values())


def test_interrupt_passes_through_and_leaves_what_was_done(compiled):
    simulation = Simulation(compiled(Rounds(), model=Interrupted), Scenario(peers={"client": 3}))
    with pytest.raises(KeyboardInterrupt):
        simulation.run()

    assert [dict(one.ended) for one in simulation.result().rounds][:2] == [{"done": 1}, {"done": 1}]


class Asked(dsl.Module):
    peer_class = "asker"

    def body(self, g):
        who = g.input("who", peers_type("answerer"))
        scale = g.input("scale", "tensor(float32)[2]")
        asked = g.net_out("ask", who, scale)
        reply = g.net_out("answer", g.sender(asked), asked)
        done = g.gather(reply, values=True)
        g.output("values", done.values)
        g.output("count", done.count)


def test_inputs_are_handed_in_and_peers_are_filled_in(compiled):
    world = Scenario(peers={"answerer": 5}, inputs={"scale": [1.5, 2.5]})

    result = Simulation(compiled(Asked()), world).run()

    assert result.rounds[0].outputs["count"].last == 5


def test_liar_in_a_tensor(compiled):
    world = Scenario(
        peers={"answerer": 3},
        inputs={"scale": [1.5, 2.5]},
        liars=(Liar("answerer[1]", "flip", scale=2.0),),
    )
    seen = []
    simulation = Simulation(compiled(Asked()), world)
    recorder = simulation._world.recorder
    add = recorder.step
    recorder.step = lambda number, step: (seen.append(step), add(number, step))

    simulation.run()

    (values,) = [np.array(s.value) for s in seen if getattr(s, "name", "") == "values"]
    assert values.tolist() == [[1.5, 2.5], [-3.0, -5.0], [1.5, 2.5]]


class Booted(dsl.Module):
    """Hands its parameters out before anything else, and waits until they are there."""

    peer_class = "server"
    peers = dsl.slots.PeerSelector(of="client")
    model = dsl.slots.Model()

    def bootstrap(self, g):
        got = g.net_out("hello", self.peers.sample(g, 3), self.model.params(g))
        self.model.load_params(g, got)
        g.gather(g.net_out("welcome", g.sender(got)))

    def body(self, g):
        g.output("params", self.model.params(g))


def test_bootstraps_run_first_and_again_after_a_crash(compiled):
    world = Scenario(
        peers={"client": 3},
        rounds=3,
        pause="1s",
        links=Link("10ms"),
        faults=(Crash("server", "500ms", "100ms"),),
    )

    result = Simulation(compiled(Booted()), world).run()

    assert result.installed == 4
    assert [one.ended_ns for one in result.rounds] == [20_000_000, 620_000_000, 1_620_000_000]
    assert result.complete


@settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 50),
    wanted=st.lists(st.integers(1, 6), min_size=2, max_size=3, unique=True).map(sorted),
    late=st.booleans(),
    chaos=st.booleans(),
    program=st.sampled_from(["clocks", "averaging", "rounds"]),
)
def test_programs_with_rounds_of_their_own_go_on_as_if_never_stopped(
    compiled, *, seed, wanted, late, chaos, program
):
    from bytesandbrains.programs import GossipAveraging

    peers = {"server": 1, "client": 6} if program == "rounds" else {"peer": 6}
    world = random_scenario(seed, peers, faulty=["client" if program == "rounds" else "peer"])
    world = world if chaos else Scenario(links=Link("20ms", "30ms"), seed=seed)
    start, config, parts = "all", {}, {}
    if program == "rounds":
        made, start = Rounds(), "one"
    elif program == "clocks":
        made = Gossip()
    else:
        made, parts = GossipAveraging(), neighbours()
        config = {"gossip": lambda index: {"value": float(index)}}
    artifact = compiled(made, **parts)

    def make(rounds):
        changed = replace(world, peers=peers, rounds=rounds, start=start)
        return Simulation(artifact, changed, config=config, late=late)

    at_once = make(wanted[-1]).run()
    going = make(wanted[0])
    going.run()
    for rounds in wanted[1:]:
        data = going.checkpoint()
        going = make(rounds)
        going.resume(data)
        going.run()

    assert going.result().to_dict() == at_once.to_dict()
