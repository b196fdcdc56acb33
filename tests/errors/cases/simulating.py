"""Simulating.

What `simulate` and `bb sim` say about a scenario, before anything runs. `SimulationError` catches
them; what happens to the simulated Nodes is said by the errors of running.
"""

import bytesandbrains as bb
from bb_sim import Crash, Scenario, simulate


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
