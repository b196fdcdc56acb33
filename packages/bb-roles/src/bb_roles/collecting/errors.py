"""What an aggregator that keeps a round's updates refuses beside what one that folds does."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["InvalidSetting", "TooFewUpdates"]


class InvalidSetting(BytesAndBrainsError, ValueError):
    """A field of an aggregator's configuration is out of its range.

    The error says what may stand there.
    """


class TooFewUpdates(BytesAndBrainsError, ValueError):
    """A round has too few updates to tell attackers from the others.

    Krum needs `2 * attackers + 3` updates and selects no more than are surely not attackers; a
    trimmed mean needs more than `2 * trim`. Let the gather wait for more, or lower what the
    configuration asks for. The round goes on.
    """
