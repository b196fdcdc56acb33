"""Sees what Nodes of a simulation report, send, accept and gather, without changing any of it.

It stands at five places: at `Node.poll`, where steps come out; where a liar changes envelopes; at
`Engine.receive`, where an envelope that passed all checks opens a frame; where one is dropped that
waited for its turn on an edge that keeps an order; and where a gather fires. It holds what it saw,
and notes at once what can never be right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from unittest.mock import patch

from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.values import decode_value
from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, fill_data, read_header, read_prelude
from bb_runtime import Artifact, Dropped, Emitted, FrameEnded, Node, OpFailed, Ship
from bb_runtime._admission import Admission
from bb_runtime._engine import Engine
from bb_runtime._gathers import Gathers
from bb_runtime.digests import code_of, value_digest
from bb_sim._liars import Deceit
from swarming.ledger import Ledger, keeping

__all__ = ["Accepted", "Life", "Message", "Watch", "watching"]


class Message(NamedTuple):
    """Names a message for ever: who sent it, in which life, and its number there."""

    source: PeerId
    incarnation: int
    number: int


class Accepted(NamedTuple):
    """A message that opened a frame.

    Attributes:
        to: Whose Node took it.
        life: In which life of it.
        message: Which message.
        edge: On which edge.
        digest: Of all values.
        params: Digests of those that are parameters.
    """

    to: PeerId
    life: int
    message: Message
    edge: str
    digest: bytes
    params: tuple[bytes, ...]


@dataclass
class Life:
    """What one Node did between its start and its end.

    Attributes:
        engine: The Node's engine.
        ended: Number of a frame -> its region, and how it ended.
        fired: How often each gather of each frame fired.
        dropped: What was refused, by reason.
        failed: Codes of ops that failed, by region.
        outputs: Frame and name of what was published, and how often.
        held: How many envelopes waited for their turn and were dropped.
        wrong: What can never be right.
    """

    engine: Engine
    ended: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])
    fired: Counter[tuple[int, int]] = field(default_factory=Counter[tuple[int, int]])
    dropped: Counter[str] = field(default_factory=Counter[str])
    failed: Counter[str] = field(default_factory=Counter[str])
    outputs: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])
    held: int = 0
    wrong: list[str] = field(default_factory=list[str])


class Watch:
    """What was seen of one run.

    Attributes:
        ledger: What the parts wrote down.
        lives: By peer and incarnation.
        sent: What honest Nodes gave out, by message and receiver: digests of the values.
        lies: What liars made of it, by number of the liar's peer and message.
        accepted: What was accepted, in order.
    """

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.lives: dict[tuple[PeerId, int], Life] = {}
        self.sent: dict[tuple[Message, PeerId], bytes] = {}
        self.lies: dict[tuple[int, int, int], set[bytes]] = {}
        self.accepted: list[Accepted] = []

    def life(self, engine: Engine) -> Life:
        """Return what is known of the life that a Node has now."""
        key = engine.peer, engine.incarnation
        if key not in self.lives:
            self.lives[key] = Life(engine)
        return self.lives[key]

    # What is seen

    def polled(self, node: Node, steps: list[Any]) -> None:
        """Note what a Node reports."""
        engine = node._engine
        life = self.life(engine)
        for step in steps:
            match step:
                case Ship():
                    self._shipped(engine, step)
                case FrameEnded():
                    if step.frame.number in life.ended:
                        life.wrong.append(f"frame {step.frame.number} ended twice")
                    life.ended[step.frame.number] = (step.region, step.how)
                case Emitted():
                    life.outputs[step.frame.number, step.name] += 1
                    self._check_lives(life, step)
                case OpFailed():
                    life.failed[code_of(step.error)] += 1
                    self._check_lives(life, step)
                case Dropped():
                    life.dropped[step.reason] += 1
                case _:
                    pass

    @staticmethod
    def _check_lives(life: Life, step: Emitted | OpFailed) -> None:
        if step.frame.number in life.ended:
            life.wrong.append(f"frame {step.frame.number} went on after its end")

    def _shipped(self, engine: Engine, ship: Ship) -> None:
        found = _contents(engine.artifact, ship.envelope)
        if found is not None:
            message = Message(engine.peer, engine.incarnation, ship.message_id)
            self.sent[message, ship.to] = value_digest(found)

    def lied(self, artifact: Artifact, number: int, envelope: Any) -> None:
        """Note what a liar sends."""
        try:
            head = _head(envelope)
            values = _contents(artifact, envelope)
        except (BytesAndBrainsError, ValueError):
            return  # nobody can read it
        if values is not None:
            key = number, head.incarnation, head.message_id
            self.lies.setdefault(key, set()).add(value_digest(values))

    def received(self, engine: Engine, edge: Any, values: Any, head: Any, source: PeerId) -> None:
        """Note a message that passed all checks."""
        params = tuple(value_digest(one) for one in values if isinstance(one, ParameterSet))
        message = Message(source, head.incarnation, head.message_id)
        digest = value_digest(tuple(values))
        self.accepted.append(
            Accepted(engine.peer, engine.incarnation, message, edge.name, digest, params)
        )


def _head(envelope: Any) -> Any:
    if hasattr(envelope, "read"):
        return envelope.read()
    head = memoryview(envelope.head)
    return read_header(read_prelude(head, DEFAULT_LIMITS), head[PRELUDE_SIZE:], DEFAULT_LIMITS)


def _contents(artifact: Artifact, envelope: Any) -> tuple[Any, ...] | None:
    """Return the values of an envelope; `None` for words of the engine."""
    if hasattr(envelope, "values"):
        return tuple(envelope.values)
    head = _head(envelope)
    if head.control is not None:
        return None
    edge = artifact.edges_by_id.get(head.edge)
    if edge is None or len(edge.ports) != len(head.fills):
        return None  # what a liar made up
    parts = fill_data(head, memoryview(b"".join(envelope.payload_parts())))
    return tuple(
        decode_value(type_, fill.codec, part, fill.shape)
        for (_, type_), fill, part in zip(edge.ports, head.fills, parts, strict=True)
    )


@contextmanager
def watching(artifact: Artifact) -> Iterator[Watch]:
    """See all that happens to Nodes of a program meanwhile."""
    watch = Watch()
    poll, receive, fire, twist = Node.poll, Engine.receive, Gathers._fire, Deceit.twist
    drop = Admission._drop_early

    def see_poll(self: Node, *args: Any, **options: Any) -> Any:
        steps = poll(self, *args, **options)
        watch.polled(self, steps)
        return steps

    def see_receive(self: Engine, edge: Any, values: Any, head: Any, source: Any, *args: Any,
                    **options: Any) -> Any:  # fmt: skip
        watch.received(self, edge, values, head, source)
        return receive(self, edge, values, head, source, *args, **options)

    def see_drop(self: Admission, line: Any, head: Any, reason: str) -> None:
        watch.life(self.engine).held += 1
        drop(self, line, head, reason)

    def see_fire(self: Gathers, frame: Any, state: Any) -> None:
        watch.life(self._engine).fired[frame.number, state.info.index] += 1
        fire(self, frame, state)

    def see_twist(self: Deceit, envelope: Any, edge: Any) -> Any:
        said = twist(self, envelope, edge)
        for one in said if edge is not None else ():
            watch.lied(artifact, self._number, one)
        return said

    seen: list[tuple[type, str, Callable[..., Any]]] = [
        (Node, "poll", see_poll),
        (Engine, "receive", see_receive),
        (Admission, "_drop_early", see_drop),
        (Gathers, "_fire", see_fire),
        (Deceit, "twist", see_twist),
    ]
    with ExitStack() as stack:
        for owner, name, wrapper in seen:
            stack.enter_context(patch.object(owner, name, wrapper))
        stack.enter_context(keeping(watch.ledger))
        yield watch
