"""The whole road with real plugins: recorded, compiled, written down, installed, trained."""

from pathlib import Path
from typing import Any

from bb_compiler import Compiler
from bb_ir.ids import PeerId
from bb_runtime import Emitted, FrameEnded, LocalBus, install
from bytesandbrains.programs import FederatedAveraging

CLIENTS = 4


def train(artifact: Path, rounds: int) -> tuple[list[Any], bytes]:
    """Return the metrics of each round and the model after the last."""
    ids = [PeerId.from_seed(5, n) for n in range(1 + CLIENTS)]
    config = {"peers": {"peers": ids[1:]}, "test": {"split": "test"}}
    server = install(ids[0], [], artifact, ["FederatedAveraging"], config, seed=5)
    shares = [
        {"data": {"split": "train", "partition": "dirichlet", "clients": CLIENTS, "client": n}}
        for n in range(CLIENTS)
    ]
    clients = [
        install(ids[1 + n], [], artifact, ["FederatedAveraging.client"], shares[n], seed=5)
        for n in range(CLIENTS)
    ]
    bus = LocalBus(server, *clients)
    metrics: list[Any] = []
    for _ in range(rounds):
        server.invoke("FederatedAveraging")
        steps = [event.step for event in bus.run()]
        assert {s.how for s in steps if isinstance(s, FrameEnded)} == {"done"}
        metrics.append({s.name: s.value for s in steps if isinstance(s, Emitted)})
    model = b"".join(
        tensor.tobytes() for _, tensor in sorted(server.component("model").save().tensors.items())
    )
    return metrics, model


def test_a_federation_learns_and_a_second_run_gives_the_same_bytes(tmp_path):
    compiler = Compiler().bind_peer_selector("peers", "static").bind_model("model", "mlp")
    compiler.bind_data_source("data", "digits").bind_data_source("test", "digits")
    compiler.bind_aggregator("aggregator", "fedavg")
    program = FederatedAveraging(CLIENTS, epochs=3, evaluate=True)
    path = tmp_path / "artifact.onnx"
    path.write_bytes(compiler.compile(program.build()).SerializeToString())
    first, again = train(path, 6), train(path, 6)
    assert first[0][-1]["test"]["accuracy"] > 0.85
    assert first[0][-1]["test"]["loss"] < first[0][0]["test"]["loss"]
    assert first == again
