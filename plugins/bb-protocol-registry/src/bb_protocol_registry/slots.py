"""The slot for a registry: `registry = Registry()` in a Module, then `self.registry.announce(g)`.

This is the one module of the plugin that needs the recorder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bb_dsl.slots import ProtocolHandle, Slot
from bb_ir.types import Type, peers
from bb_protocol_registry._ops import OPS

if TYPE_CHECKING:
    from bb_dsl import Graph, Output

    After: TypeAlias = Output | Sequence[Output] | None

__all__ = ["Registry", "RegistryHandle", "View"]


class View(NamedTuple):
    """Who is in the table, or what changed; sent as it is: `g.net_out("view", to, *view)`.

    Attributes:
        version: Number of the last change that it holds.
        complete: Whether it is the whole table, and not only what changed.
        joined: Members that are new to who asked.
        left: Members that are gone.
    """

    version: Output
    complete: Output
    joined: Output
    left: Output


class RegistryHandle(ProtocolHandle):
    """Ops of a registry: some for members, some for the Node that holds the table."""

    ops = OPS

    def announce(self, g: Graph, *, after: After = None) -> Output:
        """Record what a member says of itself, to join or to renew; send it to the registry."""
        return self._record(g, "Announce", after=after)[0]

    def accept(self, g: Graph, lease: Output, *, after: After = None) -> Output:
        """Record taking the registry's answer; returns a trigger."""
        return self._record(g, "Accept", lease, after=after)[0]

    def due(self, g: Graph, *, after: After = None) -> Output:
        """Record whether it is time to announce: no lease yet, or a third of it has passed."""
        return self._record(g, "Due", after=after)[0]

    def leave(self, g: Graph, *, after: After = None) -> Output:
        """Record going; send what it returns to the registry."""
        return self._record(g, "Leave", after=after)[0]

    def known(self, g: Graph, *, after: After = None) -> Output:
        """Record the version of the view that was learned last, 0 without one."""
        return self._record(g, "Known", after=after)[0]

    def learn(
        self,
        g: Graph,
        version: Output,
        complete: Output,
        joined: Output,
        left: Output,
        *,
        after: After = None,
    ) -> Output:
        """Record taking over a view that the registry sent; returns a trigger."""
        return self._record(g, "Learn", version, complete, joined, left, after=after)[0]

    def register(self, g: Graph, announcement: Output, *, after: After = None) -> Output:
        """Record taking the sender of an announcement in; returns its lease, to be sent back."""
        return self._record(g, "Register", announcement, after=after)[0]

    def remove(self, g: Graph, departure: Output, *, after: After = None) -> Output:
        """Record taking the sender of a departure out; returns a trigger."""
        return self._record(g, "Remove", departure, after=after)[0]

    def view(self, g: Graph, since: Output, label: str = "", *, after: After = None) -> View:
        """Record what changed after a version, among members with a label if one is given."""
        ports = OPS["View"].outputs
        types = [self._peers(g) if port.type.kind == "peers" else port.type for port in ports]
        return View(*self._record(g, "View", since, after=after, types=types, label=label))

    def members(self, g: Graph, label: str = "", *, after: After = None) -> Output:
        """Record the members whose leases live, in the order in which they registered."""
        types = [self._peers(g)]
        return self._record(g, "Members", after=after, types=types, label=label)[0]

    def sample(self, g: Graph, n: int, label: str = "", *, after: After = None) -> Output:
        """Record drawing `n` different members but this Node; fewer when there are no more."""
        types = [self._peers(g)]
        return self._record(g, "Sample", after=after, types=types, n=n, label=label)[0]

    def _peers(self, g: Graph) -> Type:
        of = self._facts.get("of", "")
        return peers(g.class_name(of, self._owner) if of else "")


class Registry(Slot[RegistryHandle]):
    """A slot for a registry; both members and the Node that holds the table have it.

    Args:
        of: Class of the members, so that a program can send to what `members` gives; it may stay
            empty where a peer selector chooses among them.
    """

    handle = RegistryHandle

    def __init__(self, of: str = "") -> None:
        super().__init__()
        self.facts = {"of": of} if of else {}
