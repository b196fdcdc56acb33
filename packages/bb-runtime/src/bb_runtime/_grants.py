"""Grants: what the answer to a question must bring back where one wait stands within another.

A frame that asks while somebody waits for itself hands each peer a grant of its own: a keyed hash
of frame, edge and destination. The answer brings it back, and only the Node that made it can tell
whether it is right. So whoever knows the number of a frame, or has a grant for another frame,
edge or peer, has nothing. Which edges carry one stands in the artifact.

The key is one of an incarnation, made of the Node's secret. Snapshots and journals hold the key,
so that a Node goes on and is replayed without the secret, and never the secret itself.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from bb_ir.ids import PeerId
from bb_ir.wire import GRANT_SIZE, Hop

if TYPE_CHECKING:
    from bb_runtime.artifact import Artifact, Edge

__all__ = ["Grants", "key_from", "key_of"]

_KEY_BYTES: Final = 32
#: Stands in a hop until its destination is known; as long as a grant.
_BLANK: Final = bytes(GRANT_SIZE)


def key_of(secret: bytes, peer: PeerId, incarnation: int) -> bytes:
    """Return the key of one incarnation of a Node."""
    digest = hashlib.blake2b(digest_size=_KEY_BYTES, key=secret, person=b"bb.grants")
    digest.update(peer.raw + incarnation.to_bytes(8, "little"))
    return digest.digest()


def key_from(stored: object) -> bytes:
    """Return a key that was stored.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(stored, bytes) or len(stored) != _KEY_BYTES:
        raise ValueError("no key of grants")
    return stored


class Grants:
    """Makes and checks the grants of one Node.

    Attributes:
        key: What they are made with.
        asked: By the name of an answering edge whose answers bring a grant back, the id of the
            edge that it answers.
    """

    __slots__ = ("asked", "key")

    def __init__(self, artifact: Artifact, key: bytes) -> None:
        self.key = key
        edges = artifact.edges
        asked = {e.name: edges[e.answers] for e in edges.values() if e.answers in edges}
        self.asked = {name: edge.id for name, edge in asked.items() if edge.granted}

    def own(self, edge: Edge, frame: int, incarnation: int, peer: PeerId) -> tuple[Hop, ...]:
        """Return the hop that answers on an edge come back to, if there are any."""
        if not edge.answered:
            return ()
        return (Hop(frame, incarnation, peer.raw, _BLANK if edge.granted else b""),)

    def sign(self, own: tuple[Hop, ...], edge: Edge, to: PeerId) -> tuple[Hop, ...]:
        """Return the hop of an edge that carries grants as one destination gets it."""
        return tuple(hop._replace(grant=self.make(hop.frame, edge.id, to)) for hop in own)

    def make(self, frame: int, edge: int, to: PeerId) -> bytes:
        """Return the grant for a peer to answer a frame's question on an edge."""
        digest = hashlib.blake2b(digest_size=GRANT_SIZE, key=self.key)
        digest.update(frame.to_bytes(8, "little") + edge.to_bytes(8, "little") + to.raw)
        return digest.digest()

    def fits(self, grant: bytes, frame: int, edge: str, source: PeerId) -> bool:
        """Tell whether a peer may answer a frame on an edge whose answers bring grants back."""
        return hmac.compare_digest(grant, self.make(frame, self.asked[edge], source))
