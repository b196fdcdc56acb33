"""Rounds of federated averaging with Flower's simulation, on Ray.

Clients give back the record of arrays that they were sent as it is: it is not even made numpy
arrays, so what is measured is the least that any client pays. Each has one core, so that Ray runs
as many at a time as there are.
"""

from __future__ import annotations

import logging

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from round_clock import EXAMPLES, RoundClock

client = ClientApp()


@client.train()
def train(message: Message, context: Context) -> Message:
    """Give back what was sent, with a number of examples."""
    metrics = MetricRecord({"loss": 0.5, "num-examples": EXAMPLES})
    content = RecordDict({"arrays": message.content["arrays"], "metrics": metrics})
    return Message(content=content, reply_to=message)


class Counting(FedAvg):
    """Flower's own, which remembers how many clients it averaged."""

    averaged = 0

    def aggregate_train(self, server_round, replies):
        replies = list(replies)
        self.averaged = sum(not reply.has_error() for reply in replies)
        return super().aggregate_train(server_round, replies)


def serve(clock: RoundClock, grid: Grid) -> None:
    """Run rounds until the clock has enough of them."""
    values = np.linspace(-1, 1, clock.count, dtype=np.float32)
    arrays = ArrayRecord({"w": Array(values[10:]), "b": Array(values[:10])})
    strategy = Counting(
        fraction_evaluate=0.0, min_train_nodes=clock.clients, min_available_nodes=clock.clients
    )
    going = True
    while going:
        arrays = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=1).arrays
        ends = float(arrays["b"].numpy()[0]), float(arrays["w"].numpy()[-1])
        going = clock.ended(strategy.averaged, *ends)


def main() -> None:
    """Start Ray, and the server beside it."""
    clock = RoundClock("Flower", ["flwr", "ray", "numpy"])
    logging.getLogger("flwr").setLevel(logging.ERROR)
    server = ServerApp()

    @server.main()
    def rounds(grid: Grid, context: Context) -> None:
        serve(clock, grid)

    run_simulation(
        server_app=server,
        client_app=client,
        num_supernodes=clock.clients,
        backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
    )


if __name__ == "__main__":
    main()
