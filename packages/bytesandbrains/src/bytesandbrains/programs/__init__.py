"""Ready-made Modules."""

from __future__ import annotations

from bytesandbrains.programs.fedavg import FederatedAveraging

__all__ = ["FederatedAveraging"]
