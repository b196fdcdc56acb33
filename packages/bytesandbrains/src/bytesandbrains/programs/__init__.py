"""Ready-made Modules."""

from __future__ import annotations

from bytesandbrains.programs.fedavg import CompressedAveraging, FederatedAveraging
from bytesandbrains.programs.gossip import GossipAveraging, GossipLearning
from bytesandbrains.programs.swap import HotSwap, ServedAveraging
from bytesandbrains.programs.training import LocalTraining

__all__ = [
    "CompressedAveraging", "FederatedAveraging", "GossipAveraging", "GossipLearning", "HotSwap",
    "LocalTraining", "ServedAveraging",
]  # fmt: skip
