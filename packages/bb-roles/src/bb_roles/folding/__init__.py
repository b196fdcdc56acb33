"""For aggregators that are a mean at heart: the weighted fold, the same bits in any order.

A plugin inherits `WeightedMean`, lets its `Config` inherit `FoldConfig`, and makes of the mean what
it likes. Importing this imports numpy, so a plugin's light module must not.
"""

from bb_roles.folding._mean import FoldConfig, WeightedMean, first_beyond
from bb_roles.folding._shared import Author, differing
from bb_roles.kernels import Engine

__all__ = ["Author", "Engine", "FoldConfig", "WeightedMean", "differing", "first_beyond"]
