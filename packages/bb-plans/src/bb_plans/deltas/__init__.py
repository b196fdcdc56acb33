"""Differences between two versions of some bytes: measured, chosen, encoded, decoded; lossless.

After a step of an optimizer nearly every block of a tensor has changed and many elements have not,
so differences are told element by element. `differences` makes what a swap has to send, `decode`
is the other end.
"""

from bb_plans.deltas._choosing import Choice, Rates, Sample, choose, measure, measure_rates
from bb_plans.deltas._codecs import CODECS, MAX_BYTES, decode, encode
from bb_plans.deltas._differences import Difference, differences, element_width

__all__ = [
    "CODECS",
    "MAX_BYTES",
    "Choice",
    "Difference",
    "Rates",
    "Sample",
    "choose",
    "decode",
    "differences",
    "element_width",
    "encode",
    "measure",
    "measure_rates",
]
