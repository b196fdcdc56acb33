"""The runtime: artifacts become Nodes, state machines without I/O, threads or a clock."""

from __future__ import annotations

from bb_runtime._admission import Later, Lease, Refuse
from bb_runtime._peers import PeerInfo
from bb_runtime.artifact import Artifact, load_artifact
from bb_runtime.bus import Event, LocalBus
from bb_runtime.errors import DeliveryError, InstallError, OpError, SnapshotError
from bb_runtime.inbox import Inbox
from bb_runtime.install import Config, install
from bb_runtime.metrics import Histogram, Metric
from bb_runtime.node import Node
from bb_runtime.options import Options
from bb_runtime.references import Referred
from bb_runtime.steps import (
    BlockEnded,
    Closed,
    ComponentStuck,
    Deferred,
    Dropped,
    Emitted,
    FrameEnded,
    FrameId,
    OpFailed,
    Readable,
    Ship,
    Step,
)

__all__ = [
    "Artifact",
    "BlockEnded",
    "Closed",
    "ComponentStuck",
    "Config",
    "Deferred",
    "DeliveryError",
    "Dropped",
    "Emitted",
    "Event",
    "FrameEnded",
    "FrameId",
    "Histogram",
    "Inbox",
    "InstallError",
    "Later",
    "Lease",
    "LocalBus",
    "Metric",
    "Node",
    "OpError",
    "OpFailed",
    "Options",
    "PeerInfo",
    "Readable",
    "Referred",
    "Refuse",
    "Ship",
    "SnapshotError",
    "Step",
    "install",
    "load_artifact",
]
