"""The runtime: artifacts become Nodes, state machines without I/O, threads or a clock."""

from __future__ import annotations

from bb_runtime._admission import Lease, Refuse
from bb_runtime.artifact import Artifact, load_artifact
from bb_runtime.bus import Event, LocalBus
from bb_runtime.errors import DeliveryError, InstallError, OpError
from bb_runtime.inbox import Inbox
from bb_runtime.install import Config, install
from bb_runtime.node import Node
from bb_runtime.options import Options
from bb_runtime.steps import (
    BlockEnded,
    Deferred,
    Dropped,
    Emitted,
    FrameEnded,
    FrameId,
    OpFailed,
    Ship,
    Step,
)

__all__ = [
    "Artifact",
    "BlockEnded",
    "Config",
    "Deferred",
    "DeliveryError",
    "Dropped",
    "Emitted",
    "Event",
    "FrameEnded",
    "FrameId",
    "Inbox",
    "InstallError",
    "Lease",
    "LocalBus",
    "Node",
    "OpError",
    "OpFailed",
    "Options",
    "Refuse",
    "Ship",
    "Step",
    "install",
    "load_artifact",
]
