"""What an edge device runs: an artifact from disk, with nothing but the runtime and plugins.

Started by `test_wheels.py` in an environment of its own; prints the digest of the final model.
"""

import sys
from importlib.util import find_spec

import bb_runtime as rt
from bb_ir.ids import PeerId

assert find_spec("bb_compiler") is None
assert find_spec("bb_dsl") is None

artifact = rt.load_artifact(sys.argv[1])
peers = [PeerId.from_seed(0, index) for index in range(4)]
server = rt.install(
    peers[0], [], artifact, ["FederatedAveraging"], rt.Config({"peers": {"peers": peers[1:]}})
)
clients = [
    rt.install(
        peer,
        [],
        artifact,
        ["FederatedAveraging.client"],
        rt.Config({"data": {"partition": "iid", "clients": 3, "client": index}}),
    )
    for index, peer in enumerate(peers[1:])
]
bus = rt.LocalBus(server, *clients)
for _ in range(2):
    server.invoke("FederatedAveraging")
    failed = [event for event in bus.run() if isinstance(event.step, rt.OpFailed)]
    assert not failed, failed
model = server.component("model")
sys.stdout.write(model.params(None).digest())
