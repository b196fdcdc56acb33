"""For aggregators that are a mean at heart: the weighted fold, the same bits in any order.

A plugin inherits `WeightedMean`, lets its `Config` inherit `FoldConfig`, and makes of the mean what
it likes. Importing this imports numpy, so a plugin's light module must not.
"""

from bb_roles.folding._grid import Engine
from bb_roles.folding._mean import FoldConfig, WeightedMean, differing, first_beyond

__all__ = ["Engine", "FoldConfig", "WeightedMean", "differing", "first_beyond"]
