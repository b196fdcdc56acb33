"""How much memory a server needs to average the updates of few and of many clients.

Python counts every allocation (`tracemalloc`, numpy's too), so the figures are the same in every
run. In `server` there is one client at a time: made for its envelope, and gone with its reply; its
own copy of the model is in the figures. In `bus` all clients live in the process, each with
parameters and buffers of its own.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

from do_nothing import Echo, Everybody, compiler, parameters, peers
from measure import Effort, Row

import bb_runtime as rt
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bytesandbrains.programs import FederatedAveraging

COUNT = 1_000_000
_ROUND = "FederatedAveraging"
_SERVER = PeerId.from_seed(0, 0)
_NOTHING = ParameterSet.from_tensors({})


def measure(effort: Effort) -> dict[str, Any]:
    """Return the peak of allocated bytes over two rounds."""
    count = effort.size(COUNT, 20_000)
    clients = [2, 4] if effort.smoke else [10, 100]
    _run(_server_alone, 2, count)  # imports and compiles what would count otherwise
    gc.collect()
    gc.freeze()
    peaks = {
        kind: {str(n): _peak(run, n, count) for n in clients}
        for kind, run in (("server", _server_alone), ("bus", _all_on_a_bus))
    }
    return {"model_bytes": 4 * count, "clients": clients, "peak_bytes": peaks}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    few, many = result["clients"]
    peaks = result["peak_bytes"]
    server = [peaks["server"][str(n)] / result["model_bytes"] for n in (few, many)]
    bus = [peaks["bus"][str(n)] / result["model_bytes"] for n in (few, many)]
    size = f"{result['model_bytes'] // 4:,} parameters"
    return [
        Row(
            "G7",
            f"peak memory of a server with {size}: {few} and {many} clients",
            "at most 7 models, whatever the number of clients",
            f"{server[0]:.1f} and {server[1]:.1f} models",
            f"{server[1] / server[0]:.2f}x",
            max(server) <= 7 and server[1] <= 1.05 * server[0],
        ),
        Row(
            "",
            f"peak memory with all clients in the process, {size}: {few} and {many} clients",
            "",
            f"{bus[0]:.1f} and {bus[1]:.1f} models",
            f"{(bus[1] - bus[0]) / (many - few):.2f} models per client",
        ),
    ]


def _run(run: Callable[[rt.Artifact, int], None], clients: int, count: int) -> None:
    artifact = rt.load_artifact(compiler().compile(FederatedAveraging(clients).build()))
    Echo.first = parameters(count)
    run(artifact, clients)
    Echo.first = _NOTHING


def _peak(run: Callable[[rt.Artifact, int], None], clients: int, count: int) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        _run(run, clients, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _server_alone(artifact: rt.Artifact, clients: int) -> None:
    server = rt.install(_SERVER, [], artifact, [_ROUND])
    Echo.first = _NOTHING  # the server's model has the parameters, and clients get them from it
    for first in (1, 1 + clients):  # other peers in the second round, since all are new ones
        Everybody.ids = peers(first, clients)
        for peer in Everybody.ids:
            server.authorize(peer, "client")
        server.invoke(_ROUND)
        ships = [step for step in server.poll() if isinstance(step, rt.Ship)]
        counts: list[int] = []
        for ship in ships:
            _answer(server, artifact, ship)
            steps = server.poll()
            counts += [step.value["count"] for step in steps if isinstance(step, rt.Emitted)]
            gc.collect()  # a Node refers to itself; what is measured is the server
        assert counts == [clients], counts


def _answer(server: rt.Node, artifact: rt.Artifact, ship: rt.Ship) -> None:
    """Let a client live for one envelope."""
    client = rt.install(ship.to, [], artifact, [f"{_ROUND}.client"])
    client.authorize(_SERVER, "server")
    _carry(ship, _SERVER, client)
    for step in client.poll():
        if isinstance(step, rt.Ship):
            _carry(step, client.peer, server)


def _carry(ship: rt.Ship, source: PeerId, receiver: rt.Node) -> None:
    head = memoryview(ship.envelope.head)
    lease = receiver.offer(head[:32], head[32:], source)
    ship.envelope.write_into(lease.buffer)
    receiver.receive(lease)


def _all_on_a_bus(artifact: rt.Artifact, clients: int) -> None:
    server = rt.install(_SERVER, [], artifact, [_ROUND])
    Everybody.ids = peers(1, clients)
    nodes = (rt.install(peer, [], artifact, [f"{_ROUND}.client"]) for peer in Everybody.ids)
    bus = rt.LocalBus(server, *nodes)
    for _ in range(2):
        server.invoke(_ROUND)
        bus.run()
