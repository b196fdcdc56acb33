"""Ready-made Modules."""

from __future__ import annotations

from bytesandbrains.programs.fedavg import FederatedAveraging
from bytesandbrains.programs.training import LocalTraining

__all__ = ["FederatedAveraging", "LocalTraining"]
