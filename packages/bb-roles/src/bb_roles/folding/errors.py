"""What an aggregator refuses, and why. Every refusal leaves the round as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "CohortExceeded",
    "GridTooCoarse",
    "MetricsError",
    "NothingContributed",
    "RoundKeyError",
    "UpdateMismatch",
    "UpdateOutOfRange",
]


class UpdateOutOfRange(BytesAndBrainsError, ValueError):
    """An update holds a value that is not finite, or is too large for the aggregator.

    The whole update is refused, and the round goes on without it. Look for divergence on that
    peer; where the aggregator folds on a grid, `value_max` may be raised.
    """


class UpdateMismatch(BytesAndBrainsError, ValueError):
    """An update has other tensors than the first one of its round.

    Peers of a round have to train the same model. Configure them alike.
    """


class MetricsError(BytesAndBrainsError, ValueError):
    """The metrics of an update lack a usable number of examples, or are too many.

    Updates are counted or weighted by `examples`, which `fit` returns. Return it, from 1 to the
    most that the aggregator takes.
    """


class CohortExceeded(BytesAndBrainsError, ValueError):
    """A round got more updates than its aggregator was configured for.

    A fold's grid and the memory for kept updates depend on `cohort`. Raise it in the configuration
    of the aggregator.
    """


class NothingContributed(BytesAndBrainsError, ValueError):
    """A round without any update was to be aggregated.

    All updates were refused, or the gather let the round end without one. Look at the ops that
    failed, and let the gather wait for at least one.
    """


class GridTooCoarse(BytesAndBrainsError, ValueError):
    """The configured bounds leave too few bits for the values themselves.

    `cohort`, `weight_max` and `value_max` share 62 bits. Lower the largest of them to what the
    program needs, or sum in two words with `wide=True`, which have 105.
    """


class RoundKeyError(BytesAndBrainsError, ValueError):
    """A round in flight has a key that cannot be written down.

    Met when an aggregator is saved whose rounds the host named itself. Save when no round is in
    flight.
    """
