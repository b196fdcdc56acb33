"""Simulating.

What `simulate` and `bb sim` say about a scenario before anything runs, and about checkpoints.
`SimulationError` catches them; what happens to simulated Nodes is said by the errors of running.
"""

import numpy as np

import bytesandbrains as bb
from bb_roles import Batches, DataSource
from bb_sim import Crash, Scenario, Simulation, simulate


class Asks(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        asked = g.net_out("ask", self.peers.current_view(g), self.model.params(g))
        g.gather(g.net_out("answer", g.sender(asked), self.model.params(g)))


compiler = bb.Compiler().bind_peer_selector("peers", "static").bind_model("model", "mlp")
artifact = compiler.compile(Asks().build())


# %% BadScenario: class 'clients'
simulate(artifact, Scenario(peers={"clients": 100}))


# %% UnknownPeers: client[100]
crash = Crash("client[100]", at="3s")
simulate(artifact, Scenario(peers={"client": 100}, faults=(crash,)))


# %% BadCheckpoint: the scenario differs
first = Simulation(artifact, Scenario(peers={"client": 3}))
second = Simulation(artifact, Scenario(peers={"client": 3}, seed=7))
second.resume(first.checkpoint())


# %% NoCheckpointNow: Batches
class Stream(DataSource):
    def next_batch(self, ctx):
        return np.zeros((1, 2)), np.zeros(1)

    def batches(self, ctx, *, epochs=1):
        return Batches(2, lambda: iter([self.next_batch(ctx), self.next_batch(ctx)]))


class Shows(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    data = bb.slots.DataSource()

    def body(self, g):
        with g.each(self.data.batches(g)):
            seen = g.net_out("show", self.peers.current_view(g))
            g.gather(g.net_out("seen", g.sender(seen)))


compiler = bb.Compiler().bind_peer_selector("peers", "static").bind_data_source("data", Stream)
simulation = Simulation(compiler.compile(Shows().build()), Scenario(peers={"client": 2}))
simulation.step()
simulation.checkpoint()
