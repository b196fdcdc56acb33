"""For aggregators whose rule looks at all updates of a round at once, such as a median.

A plugin inherits `RoundsAggregator`, lets its `Config` inherit `RoundsConfig`, and writes
`_combine`. `ranked_tiles` sorts each parameter over all updates, tile by tile; `write_mean` means
them without regard to order. Importing this imports numpy, so a plugin's light module must not.
"""

from bb_roles.collecting._mean import write_mean
from bb_roles.collecting._ranks import ranked_tiles, working_dtype
from bb_roles.collecting._rounds import (
    Combined,
    RoundsAggregator,
    RoundsConfig,
    Update,
    in_range,
)

__all__ = [
    "Combined",
    "RoundsAggregator",
    "RoundsConfig",
    "Update",
    "in_range",
    "ranked_tiles",
    "working_dtype",
    "write_mean",
]
