"""Rounds of federated averaging with our simulator: real Nodes in virtual time, on one process.

The aggregator folds with numba where that is installed, as the session of the comparison does.
"""

from __future__ import annotations

import numpy as np
from do_nothing import ROOM, Data, Echo, parameters
from round_clock import RoundClock

from bb_compiler import Compiler
from bb_sim import Scenario, Simulation
from bytesandbrains.programs import FederatedAveraging


def main() -> None:
    """Run rounds until the clock has enough of them; without digests for `--option no-digest`."""
    clock = RoundClock("bytesandbrains", ["bytesandbrains", "numpy", "numba"])
    Echo.first = parameters(clock.count)
    compiler = (
        Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", Echo)
        .bind_data_source("data", Data)
        .bind_aggregator("aggregator", "fedavg", config=ROOM)
    )
    simulation = Simulation(
        compiler.compile(FederatedAveraging(clock.clients, quorum=1.0).build()),
        Scenario(peers={"client": clock.clients}, rounds=10**9),
        digest="no-digest" not in clock.options,
    )
    server = simulation.root
    for done in simulation.rounds():
        model: Echo = server.component("model")
        arrays = dict(model.kept.items())
        ends = float(np.asarray(arrays["b"])[0]), float(np.asarray(arrays["w"])[-1])
        if not clock.ended(done.output("round").last["count"], *ends):
            break


if __name__ == "__main__":
    main()
