"""What a coordinator and the peers of a group say to each other. Plain data, no rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from bb_ir.plan import Digest

__all__ = [
    "Abort",
    "Commit",
    "Committed",
    "Message",
    "Phase",
    "Prepare",
    "Ready",
    "Refused",
    "Reply",
    "Standing",
]


class Phase(Enum):
    """How far a swap is, at a peer or at the coordinator."""

    IDLE = "idle"
    PLANNED = "planned"
    STAGING = "staging"
    VERIFIED = "verified"
    READY = "ready"
    COMMITTED = "committed"
    ABORTED = "aborted"


# --- from the coordinator


@dataclass(frozen=True, slots=True)
class Prepare:
    """Asks a peer to stage a version.

    Attributes:
        group: Name of the group.
        epoch: Of the commit that may follow.
        root: The version.
        parent: The version that the group has, from which a plan goes; `None` for none.
        within_ns: How much time there is, in nanoseconds from when this is received.
    """

    group: str
    epoch: int
    root: Digest
    parent: Digest | None
    within_ns: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Tells a peer that a version is the group's: it was decided, and nothing takes it back.

    Attributes:
        group: Name of the group.
        epoch: Of this commit.
        root: The version.
    """

    group: str
    epoch: int
    root: Digest


@dataclass(frozen=True, slots=True)
class Abort:
    """Tells a peer that there will be no commit of this epoch.

    Attributes:
        group: Name of the group.
        epoch: Of the commit that is given up.
        root: The version that stays uncommitted.
        reason: Why, for people.
    """

    group: str
    epoch: int
    root: Digest
    reason: str


# --- from a peer


@dataclass(frozen=True, slots=True)
class Ready:
    """Says that a version is staged: the peer can commit it whenever it is told to.

    Attributes:
        group: Name of the group.
        epoch: Of the commit.
        root: The version.
        peer: Who says so.
    """

    group: str
    epoch: int
    root: Digest
    peer: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Says that a peer will not have a version staged in time.

    Attributes:
        group: Name of the group.
        epoch: Of the commit.
        root: The version.
        peer: Who says so.
        reason: Why, for people.
    """

    group: str
    epoch: int
    root: Digest
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """Says that a version is current at a peer, durably.

    Attributes:
        group: Name of the group.
        epoch: Of the commit.
        root: The version.
        peer: Who says so.
    """

    group: str
    epoch: int
    root: Digest
    peer: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Says which version a peer has, when it is not the one that it is expected to have.

    A peer that was away needs a plan from this version to the group's.

    Attributes:
        group: Name of the group.
        peer: Who says so.
        epoch: Epoch of what is current at the peer; 0 for nothing.
        root: What is current there; `None` for nothing.
    """

    group: str
    peer: str
    epoch: int
    root: Digest | None


Message: TypeAlias = Prepare | Commit | Abort
Reply: TypeAlias = Ready | Refused | Committed | Standing
