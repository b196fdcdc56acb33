"""Files that users write: scenarios of the simulator, and configuration of components."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from bb_roles.config import build_config
from bb_roles.registry import bound_class
from bb_sim import Simulation, read_scenario
from bytesandbrains.cli._config import configuration, fixed_configuration, read_config
from fuzzing._mutate import change_text
from fuzzing._target import Target, Tweak
from fuzzing.worlds import artifact

__all__ = ["CONFIGS", "SCENARIOS"]

#: More peers than this are the user's own wish, and only slow here.
_MOST = 6


@cache
def _folder() -> Path:
    found = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, found, ignore_errors=True)
    return found


def _file(name: str, data: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(data)
    return path


# --- scenarios -------------------------------------------------------------------------------


def read_scenario_file(data: bytes) -> str:
    """Read a scenario and build its world."""
    found = read_scenario(_file("scenario.toml", data))
    few = {cls: min(count, _MOST) for cls, count in found.peers.items()}
    simulation = Simulation(artifact("Blocks"), replace(found, peers=few), config={})
    simulation.close()
    return ""


_TOML = """\
peers = { server = 1, client = 4 }
rounds = 2
seed = 3
until = "10m"
pause = "1s"
start = "one"
target = "Blocks"
tell_lost = false

[links]
latency = "20ms"
jitter = "5ms"
spread = "heavy"
bandwidth = "10Mbit/s"
loss = 0.01
duplicate = 0.02
reorder = 0.1
reorder_by = "50ms"

[between."server -> client"]
latency = "1ms"

[between."client[1] -> server"]
bandwidth = "1kB/s"

[compute.client]
time = "1s"
jitter = "100ms"
slow = 0.5
factor = 3.0

[clocks.client]
offset = "2s"
drift = 1e-5

[[faults]]
kind = "crash"
peers = "client[0:2], client[3]"
at = "5s"
back = "10s"

[[faults]]
kind = "partition"
apart = "client[25%]"
at = "1s"
until = "9s"

[[faults]]
kind = "leave"
peers = "client[3]"
at = "30s"

[[faults]]
kind = "join"
peers = "client[2]"
at = "3s"

[[liars]]
peers = "client[1]"
kind = "flood"
share = 0.5
times = 3

[config.model]
size = 3
"""


@cache
def _scenarios() -> tuple[bytes, ...]:
    parts = _TOML.split("\n\n")
    return (_TOML.encode(), parts[0].encode(), "\n\n".join((parts[0], *parts[7:9])).encode(), b"")


_WORDS = (
    b"peers", b"rounds", b"until", b"links", b"between", b"faults", b"liars", b"kind", b"at",
    b"true", b"false", b"inf", b"nan", b"-1", b"0", b"1e400", b"[[", b"]]", b"[", b"]", b"{", b"}",
    b"=", b'"', b"'''", b"client", b"server", b"client[0]", b"client[9]", b"client[%]", b"->",
    b'"1h"', b'"0"', b'"-1s"', b'"1e9s"', b"1979-05-27", b"\n",
)  # fmt: skip


def change_scenario(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a word, a mark or a line."""
    return change_text(data, draw, tweak, _WORDS, _TOML.encode())


# --- configuration ---------------------------------------------------------------------------

_COMPONENTS = (
    ("model", "model", "mlp"),
    ("data", "data_source", "digits"),
    ("peers", "peer_selector", "static"),
    ("codec", "codec", "quantize"),
    ("aggregator", "aggregator", "fedavg"),
)


@cache
def _configs_of() -> dict[str, type]:
    return {slot: bound_class(role, name).Config for slot, role, name in _COMPONENTS}


def read_config_file(data: bytes) -> str:
    """Read a file of configuration, sort it by Nodes, and build what components get."""
    name = "config.json" if data[:1] == b"{" else "config.toml"
    found = read_config(_file(name, data))
    read = artifact("Everything")
    fixed_configuration(read, found, name)
    per_slot = configuration(read, found, {"server": 1, "client": 2}, 5, name)
    for place, fields in per_slot.items():
        slot = place.partition(".")[2]
        for index in range(2):
            given: dict[str, Any] = fields(index)
            build_config(_configs_of()[slot], given, place)
    return ""


_CONFIG = """\
[model]
layers = [64, 32, 10]
activation = "relu"

[data]
split = "train"
partition = "dirichlet"
alpha = 0.5
clients = "{count}"
client = "{index}"

[client.1.data]
seed = 7

[client.codec]
to = "int4"
per = "channel"

[aggregator]
value_max = 16

[server.peers]
peers = ["12D3KooWDVgRvfLRHANe7QQTuTLAVZu74VFPz2Yn9YiPvqWHmHCU"]
"""


@cache
def _configs() -> tuple[bytes, ...]:
    parts = _CONFIG.encode().split(b"\n\n")
    json = b'{"model": {"layers": [3, 2]}, "codec": {"to": "int8", "rounding": "nearest"}}'
    return (_CONFIG.encode(), *(part + b"\n" for part in parts), json, b"")


def change_config(data: bytes, draw: Random, tweak: Tweak) -> bytes:
    """Change a word, a mark or a line."""
    return change_text(data, draw, tweak, (*_WORDS, b"{index}", b"{count}"), _CONFIG.encode())


SCENARIOS = Target(
    "scenarios", _scenarios, change_scenario, read_scenario_file, memory=2000, longest=8192
)
CONFIGS = Target("configs", _configs, change_config, read_config_file, memory=2000, longest=8192)
