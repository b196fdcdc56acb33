"""What a swap refuses, and why. Every refusal leaves the version that is served as it was."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = ["NobodyReady", "NotStaged", "NothingPublished", "SwapRefused", "SwapTooLarge"]


class SwapRefused(BytesAndBrainsError, ValueError):
    """A plan cannot be carried out here: it moves other bytes than those that came with it.

    Met where a version is staged. The plan is for a Node with another version, writes somewhere
    else than to the store, or reads past the bytes that were sent. Nothing was staged for it.
    """


class SwapTooLarge(BytesAndBrainsError, ValueError):
    """A version has more bytes than this Node takes in.

    Met where a version is staged, before anything is decoded. The limit is `max_bytes` of the
    component's configuration.
    """


class NotStaged(BytesAndBrainsError, ValueError):
    """A commit is for a version that is not ready here, or comes late.

    Met where a version is committed. The Node was away when the version was staged, or a later one
    was committed since; it goes on serving what it serves, and is asked again next time.
    """


class NothingPublished(BytesAndBrainsError, LookupError):
    """A plan or a decision is asked for before any version was published.

    Record `manifest` first, and the others after it.
    """


class NobodyReady(BytesAndBrainsError, LookupError):
    """No Node of those that were asked has the version ready, so there is nobody to flip.

    Met at `decide`. What they said is in their own errors and in the gather's report.
    """
