"""How long it takes until something runs: imports, the command, the first round.

Each sample is a new interpreter; what counts is its CPU time above that of `python -c pass`.
"""

from __future__ import annotations

from importlib.util import find_spec
from statistics import median
from typing import Any

from measure import Effort, Row, Times, interleave_scripts, ratio

_FACADE = "import bytesandbrains"
# Of protobuf what any generated module imports.
_LIBRARIES = (
    "import numpy, pluggy, google.protobuf.descriptor_pool, google.protobuf.internal.builder"
)
_BOTH = "import bytesandbrains, numpy, bb_runtime, bb_ir.wire, bb_ir.params"
_HELP = """
import sys
from bytesandbrains.cli import main
sys.argv = ["bb", "--help"]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
"""
_FIRST_ROUND = """
import bb_runtime as rt
from bb_compiler import Compiler
from bb_ir.ids import PeerId
from bytesandbrains.programs import FederatedAveraging
bound = Compiler().bind_peer_selector("peers", "static").bind_model("model", "mlp")
bound = bound.bind_data_source("data", "digits").bind_data_source("test", "digits")
bound = bound.bind_aggregator("aggregator", "fedavg")
model = FederatedAveraging(8, epochs=5, evaluate=True).build()
artifact = rt.load_artifact(bound.compile(model).SerializeToString())
ids = [PeerId.from_seed(0, number) for number in range(11)]
shares = {"split": "train", "partition": "dirichlet", "clients": 10}
config = {"peers": {"peers": ids[1:]}, "test": {"split": "test"}}
server = rt.install(ids[0], [], artifact, ["FederatedAveraging"], config)
bus = rt.LocalBus(server)
for number, peer in enumerate(ids[1:]):
    share = {"data": {**shares, "client": number}}
    bus.add(rt.install(peer, [], artifact, ["FederatedAveraging.client"], share))
server.invoke("FederatedAveraging")
assert any(isinstance(event.step, rt.Emitted) for event in bus.run())
"""


def measure(effort: Effort) -> dict[str, Any]:
    """Measure new interpreters."""
    scripts = {"pass": "pass", "facade": _FACADE, "libraries": _LIBRARIES, "both": _BOTH}
    if find_spec("bytesandbrains.cli"):
        scripts["help"] = _HELP
    scripts["first_round"] = _FIRST_ROUND
    return {"seconds": interleave_scripts(scripts, effort, samples=9)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    net = {
        name: [a - b for a, b in zip(times[name], times["pass"], strict=True)]
        for name in times
        if name != "pass"
    }
    facade, first = net["facade"], times["first_round"]
    found = [
        Row(
            "G14",
            "`import bytesandbrains`",
            "at most 80 ms",
            _milliseconds(facade),
            met=median(facade) <= 0.08,
        ),
        Row(
            "G14",
            "facade, runtime, wire, parameter sets and numpy against numpy, protobuf and pluggy",
            "at most 1.25x",
            f"{_milliseconds(net['both'])}; libraries {_milliseconds(net['libraries'])}",
            f"{ratio(net['both'], net['libraries']):.2f}x",
            ratio(net["both"], net["libraries"]) <= 1.25,
            "Nearly half of ours is making the methods of a hundred dataclasses and named tuples, "
            "which Python does at each import; much of the rest is finding and reading as many "
            "modules.",
        ),
        Row(
            "G18",
            "the federation of the demo to the end of its first round, interpreter and imports "
            "included",
            "less than 1 s",
            _milliseconds(first),
            met=median(first) < 1,
        ),
    ]
    if "help" in net:
        found.insert(2, Row("", "`bb --help`", "", _milliseconds(net["help"])))
    return found


def _milliseconds(times: Times) -> str:
    return f"{max(median(times), 0) * 1e3:.0f} ms (min {max(min(times), 0) * 1e3:.0f})"
