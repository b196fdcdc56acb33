"""Tiny components and a wire, to test whole programs without plugins, networks or clocks.

The components do real but trivial work on small integers, so that results are exact in any order,
and write down every call, so that a test can say what ran and in which order. They are bound as
classes: `Compiler().bind_model("model", CountingModel)`. `Wire` carries envelopes between Nodes in
whatever order a test wants, and loses or doubles them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.wire import Built
from bb_roles import (
    Aggregator,
    Backend,
    Batches,
    Component,
    Context,
    DataSource,
    Environment,
    Model,
    PeerSelector,
    Recipe,
    State,
)
from bb_runtime import (
    Artifact,
    Deferred,
    Emitted,
    FrameEnded,
    FrameId,
    Later,
    Node,
    OpFailed,
    Options,
    Readable,
    Ship,
    Step,
    install,
)

__all__ = [
    "Call",
    "CountingModel",
    "FixedPeers",
    "ListSource",
    "Packet",
    "PlainBackend",
    "Stage",
    "SumAggregator",
    "Wire",
]


class Call(NamedTuple):
    """One call of a component's method.

    Attributes:
        method: Name of the method.
        round: The `ctx.round` of the call.
        sender: The `ctx.sender` of the call.
    """

    method: str
    round: Hashable
    sender: PeerId | None


@dataclass(frozen=True)
class PartConfig:
    """How a part behaves.

    Attributes:
        fail_in: Method that raises `ValueError`; none when empty.
        interrupt_in: Method that raises `KeyboardInterrupt`; none when empty.
        value: What a model's elements start with, and what a source's examples hold.
        size: Elements of a model, or examples of a source.
        peers: What a peer selector selects from.
    """

    fail_in: str = ""
    interrupt_in: str = ""
    value: float = 0.0
    size: int = 3
    peers: tuple[PeerId, ...] = ()


class _Part(Component):
    Config = PartConfig
    config: PartConfig

    def __init__(self, config: PartConfig, env: Environment) -> None:
        super().__init__(config, env)
        self.calls: list[Call] = []
        self.closed = 0

    @property
    def methods(self) -> list[str]:
        """Names of the methods that were called, in order."""
        return [call.method for call in self.calls]

    def abandon(self, ctx: Context) -> None:
        """Write the call down."""
        self._called("abandon", ctx)

    def close(self) -> None:
        """Count the call."""
        self.closed += 1

    def _called(self, method: str, ctx: Context) -> None:
        self.calls.append(Call(method, ctx.round, ctx.sender))
        if self.config.fail_in == method:
            raise ValueError(f"{method} was told to fail")
        if self.config.interrupt_in == method:
            raise KeyboardInterrupt


class CountingModel(_Part, Model):
    """A model of one float64 tensor `w`; `fit` adds the sum of the inputs to each element.

    Attributes:
        w: The tensor; never written in place.
    """

    def __init__(self, config: PartConfig, env: Environment) -> None:
        super().__init__(config, env)
        self.w = np.full(config.size, config.value)

    def forward(self, ctx: Context, x: Any) -> Any:
        """Return `x + w[0]`."""
        self._called("forward", ctx)
        return x + self.w[0]

    def backward(self, ctx: Context, grad: Any) -> Any:
        """Subtract the sum of the gradient; return the gradient."""
        self._called("backward", ctx)
        self.w = self.w - np.sum(grad)
        return grad

    def compute_loss(self, ctx: Context, prediction: Any, target: Any) -> float:
        """Return the sum of the differences."""
        self._called("compute_loss", ctx)
        return float(np.sum(prediction) - np.sum(target))

    def params(self, ctx: Context) -> ParameterSet:
        """Return `w`."""
        self._called("params", ctx)
        return ParameterSet.from_tensors({"w": self.w})

    def load_params(self, ctx: Context, params: ParameterSet) -> None:
        """Take over `w`."""
        self._called("load_params", ctx)
        self.w = np.array(params["w"])

    def fit(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Add the sum of all inputs."""
        self._called("fit", ctx)
        total = sum(float(np.sum(x)) for x, _ in batches)
        self.w = self.w + total
        return {"examples": batches.examples, "loss": total}

    def evaluate(self, ctx: Context, batches: Batches) -> Mapping[str, Any]:
        """Return `w[0]` as the loss."""
        self._called("evaluate", ctx)
        return {"examples": batches.examples, "loss": float(self.w[0])}

    def save(self) -> State:
        """Return `w`; the calls are the test's."""
        return State({"w": self.w})

    def load(self, state: State) -> None:
        """Take over `w`."""
        self.w = state.tensors["w"]


class ListSource(_Part, DataSource):
    """A dataset of `size` examples that all are `value`."""

    def next_batch(self, ctx: Context) -> tuple[Any, Any]:
        """Return all examples, and zeros as labels."""
        self._called("next_batch", ctx)
        return np.full((self.config.size, 1), self.config.value), np.zeros(self.config.size)

    def batches(self, ctx: Context, *, epochs: int = 1) -> Batches:
        """Return one batch per epoch."""
        self._called("batches", ctx)
        return self._batches(epochs)

    def remake(self, state: State) -> Batches:
        """Return the batches of as many epochs."""
        return self._batches(state.data["epochs"])

    def _batches(self, epochs: int) -> Batches:
        def draw() -> Iterator[tuple[Any, Any]]:
            for _ in range(epochs):
                yield np.full((self.config.size, 1), self.config.value), np.zeros(self.config.size)

        return Batches(self.config.size, draw, Recipe(self, State(data={"epochs": epochs})))

    def reset(self, ctx: Context) -> None:
        """Write the call down."""
        self._called("reset", ctx)


class SumAggregator(_Part, Aggregator):
    """The plain mean of the `w` of all updates, exact for small integers.

    Attributes:
        rounds: What the open rounds hold: their updates in order of arrival.
    """

    def __init__(self, config: PartConfig, env: Environment) -> None:
        super().__init__(config, env)
        self.rounds: dict[Hashable, list[ParameterSet]] = {}

    def contribute(self, ctx: Context, params: ParameterSet, metrics: Mapping[str, Any]) -> None:
        """Keep an update."""
        self._called("contribute", ctx)
        self.rounds.setdefault(ctx.round, []).append(params)

    def aggregate(self, ctx: Context) -> tuple[ParameterSet, Mapping[str, Any]]:
        """Return the mean of the round's updates."""
        self._called("aggregate", ctx)
        updates = self.rounds.pop(ctx.round, [])
        if not updates:
            raise ValueError("nothing was contributed")
        mean = sum(np.array(update["w"]) for update in updates) / len(updates)
        summary = {"count": len(updates), "examples": len(updates)}
        return ParameterSet.from_tensors({"w": mean}), summary

    def abandon(self, ctx: Context) -> None:
        """Drop the round's updates."""
        super().abandon(ctx)
        self.rounds.pop(ctx.round, None)

    def save(self) -> State:
        """Return the open rounds."""
        updates = {
            f"{number}/{at}": update["w"]
            for number, held in enumerate(self.rounds.values())
            for at, update in enumerate(held)
        }
        return State(updates, {"rounds": [(key, len(held)) for key, held in self.rounds.items()]})

    def load(self, state: State) -> None:
        """Take over open rounds."""
        self.rounds = {
            key: [
                ParameterSet.from_tensors({"w": state.tensors[f"{number}/{at}"]})
                for at in range(count)
            ]
            for number, (key, count) in enumerate(state.data["rounds"])
        }


class FixedPeers(_Part, PeerSelector):
    """Selects the first peers of its configuration, so that a test knows who is asked."""

    def current_view(self, ctx: Context) -> Sequence[PeerId]:
        """Return all configured peers."""
        self._called("current_view", ctx)
        return self.config.peers

    def sample(self, ctx: Context, *, n: int) -> Sequence[PeerId]:
        """Return the first `n` peers."""
        self._called("sample", ctx)
        return self.config.peers[:n]


class PlainBackend(_Part, Backend):
    """A handful of ops of `ai.onnx`, enough to record sums, splits and optional inputs.

    Attributes:
        runs: Names of the ops that ran, in order.
    """

    def __init__(self, config: PartConfig, env: Environment) -> None:
        super().__init__(config, env)
        self.runs: list[str] = []

    def kernel(
        self, op_type: str, attributes: Mapping[str, Any], outputs: int
    ) -> Callable[..., Any] | None:
        """Return the function of an op."""
        if self.config.fail_in == "kernel":
            raise ValueError("kernel was told to fail")
        make = _KERNELS.get(op_type)
        if make is None:
            return None
        function = make(attributes, outputs)

        def run(*inputs: Any) -> Any:
            self.runs.append(op_type)
            if self.config.fail_in == op_type:
                raise ValueError(f"{op_type} was told to fail")
            return function(*inputs)

        return run


def _constant(attributes: Mapping[str, Any], _: int) -> Callable[..., Any]:
    return lambda: attributes["value"]


def _gather(attributes: Mapping[str, Any], _: int) -> Callable[..., Any]:
    def take(x: Any, indices: Any) -> Any:
        return np.take(x, indices, axis=int(attributes.get("axis", 0)))

    return take


def _split(attributes: Mapping[str, Any], outputs: int) -> Callable[..., Any]:
    def split(x: Any) -> tuple[Any, ...]:
        return tuple(np.split(x, outputs, axis=int(attributes.get("axis", 0))))

    return split


def _clip(_: Mapping[str, Any], __: int) -> Callable[..., Any]:
    def clip(x: Any, low: Any = None, high: Any = None) -> Any:
        return np.clip(x, low, high)

    return clip


_KERNELS: Mapping[str, Callable[[Mapping[str, Any], int], Callable[..., Any]]] = {
    "Add": lambda _, __: np.add,
    "Sub": lambda _, __: np.subtract,
    "Mul": lambda _, __: np.multiply,
    "Neg": lambda _, __: np.negative,
    "Constant": _constant,
    "Gather": _gather,
    "Split": _split,
    "Clip": _clip,
}


class Packet(NamedTuple):
    """An envelope on its way."""

    source: PeerId
    ship: Ship


class Wire:
    """Carries envelopes between Nodes when, and as often as, a test says so.

    All Nodes are authorized to each other in the classes they run.

    Attributes:
        nodes: The Nodes by peer.
        flying: Envelopes on their way, in the order in which they were sent.
        kept: Envelopes that their receivers wanted later.
        works: Deferred work that nobody has done yet, in the order in which it was asked for.
        steps: What the Nodes reported, without envelopes and work, as pairs of peer and step.
    """

    def __init__(self, *nodes: Node) -> None:
        self.nodes = {node.peer: node for node in nodes}
        self.flying: list[Packet] = []
        self.kept: list[Packet] = []
        self.works: list[Deferred] = []
        self.steps: list[tuple[PeerId, Step]] = []
        for node in nodes:
            for other in nodes:
                for peer_class in other.classes:
                    node.authorize(other.peer, peer_class)

    def poll(self) -> None:
        """Let all Nodes work until they are quiet."""
        for node in self.nodes.values():
            for steps in node.poll_until_quiet():
                self.take(node, steps)

    def take(self, node: Node, steps: Sequence[Step]) -> None:
        """Take over what a Node has reported."""
        for step in steps:
            if isinstance(step, Ship):
                self.flying.append(Packet(node.peer, step))
            elif isinstance(step, Deferred):
                self.works.append(step)
            elif isinstance(step, Readable):
                way = (step.peer, node.peer)
                self.flying += [p for p in self.kept if (p.source, p.ship.to) == way]
                self.kept = [p for p in self.kept if (p.source, p.ship.to) != way]
            else:
                self.steps.append((node.peer, step))

    def deliver(self, at: int = 0, *, keep: bool = False) -> None:
        """Deliver one envelope; with `keep` a copy of it stays on its way."""
        packet = self.flying[at] if keep else self.flying.pop(at)
        receiver = self.nodes.get(packet.ship.to)
        if receiver is None:
            self.nodes[packet.source].send_failed(packet.ship)
        else:
            answer = receiver.receive_bytes(packet.ship.envelope.to_bytes(), packet.source)
            if isinstance(answer, Later):
                self.kept.append(packet)
            else:
                self.nodes[packet.source].sent(packet.ship)
        self.poll()

    def do(self, at: int = 0) -> None:
        """Do one piece of deferred work."""
        self.works.pop(at).run()
        self.poll()

    def lose(self, at: int = 0) -> Packet:
        """Take an envelope off the wire; nobody is told."""
        return self.flying.pop(at)

    def run(self) -> None:
        """Do all work and deliver everything in the order in which it was sent; no clock moves."""
        self.poll()
        while self.works or self.flying:
            if self.works:
                self.do()
            else:
                self.deliver()

    def advance(self, nanoseconds: int) -> None:
        """Move all clocks by as much."""
        for node in self.nodes.values():
            node.advance(node.now_ns + nanoseconds)
        self.poll()

    def outputs(self, name: str) -> list[Any]:
        """Return the values that were published under a name."""
        return [s.value for _, s in self.steps if isinstance(s, Emitted) and s.name == name]

    def failures(self) -> list[OpFailed]:
        """Return the ops that failed."""
        return [step for _, step in self.steps if isinstance(step, OpFailed)]

    def ended(self, peer: PeerId | None = None) -> list[FrameEnded]:
        """Return the frames that ended, of all Nodes or of one."""
        return [
            step
            for source, step in self.steps
            if isinstance(step, FrameEnded) and peer in (None, source)
        ]


class Stage:
    """One Node that starts a program, and some Nodes of each other class, on a `Wire`.

    A peer selector that is not configured selects all Nodes of the other classes.

    Args:
        artifact: A compiled program.
        clients: Nodes of each other class.
        config: Configuration of all Nodes; slots of classes that a Node does not run are ignored.
        each: Configuration of single Nodes of other classes, by their index, on top of `config`.
        options: Bounds of the Node that starts the program.
        seed: Seed of all Nodes.

    Attributes:
        main: Name of the target that starts the program.
        server: The Node that starts the program.
        clients: The others.
        wire: What carries their envelopes.
        makers: What installs each Node anew, that of the first one first.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        clients: int = 3,
        config: Mapping[str, Mapping[str, Any]] | None = None,
        each: Mapping[int, Mapping[str, Mapping[str, Any]]] | None = None,
        options: Options | None = None,
        seed: int = 0,
    ) -> None:
        targets = [t for t in artifact.targets.values() if t.phase == "body"]
        first = next(t for t in targets if any(not r.opened_in for r in t.regions))
        others = [t for t in targets if t.cls != first.cls]
        ids = [PeerId.from_seed(b"stage", n) for n in range(1 + clients * len(others))]
        given: dict[str, Mapping[str, Any]] = {**(config or {})}
        for row in first.rows:
            if row.role == "peer_selector":
                given.setdefault(row.slot, {"peers": ids[1:]})
        self.main = first.short
        self.makers = [
            partial(install, ids[0], [], artifact, [first.short], given, seed=seed, options=options)
        ]
        for target in others:
            for index in range(clients):
                own = {**given, **((each or {}).get(index, {}))}
                peer = ids[len(self.makers)]
                self.makers.append(
                    partial(install, peer, [], artifact, [target.short], own, seed=seed)
                )
        self.server, *self.clients = (make() for make in self.makers)
        self.wire = Wire(self.server, *self.clients)

    @property
    def peers(self) -> list[PeerId]:
        """The peers of the clients, in order."""
        return [node.peer for node in self.clients]

    def invoke(self, **inputs: Any) -> FrameId:
        """Start the program, and send what it sends first."""
        frame = self.server.invoke(self.main, inputs)
        self.wire.poll()
        return frame

    def run(self, **inputs: Any) -> FrameId:
        """Start the program and deliver everything in order."""
        frame = self.invoke(**inputs)
        self.wire.run()
        return frame

    def restart(self) -> None:
        """Write all Nodes down, and go on with new ones; envelopes stay on their way.

        Work that nobody has done is handed out anew by the next `poll`.
        """
        saved = [node.snapshot() for node in (self.server, *self.clients)]
        for node in (self.server, *self.clients):
            node.close()
        self.server, *self.clients = (make() for make in self.makers)
        for node, data in zip((self.server, *self.clients), saved, strict=True):
            node.restore(data)
            self.wire.nodes[node.peer] = node
        self.wire.works.clear()
        self.wire.flying = [Packet(source, _alone(ship)) for source, ship in self.wire.flying]

    def end_of(self, frame: FrameId) -> FrameEnded:
        """Return how a frame of the first Node ended.

        Raises:
            AssertionError: It has not ended, or more than once.
        """
        found = [end for end in self.wire.ended(self.server.peer) if end.frame == frame]
        assert len(found) == 1, f"frame {frame} has {len(found)} ends: {found}"
        return found[0]


def _alone(ship: Ship) -> Ship:
    """Return an envelope that refers to nothing of the Node that sent it."""
    envelope = ship.envelope
    copies = tuple(memoryview(bytes(one)) for one in envelope.segments)
    return ship._replace(envelope=Built(envelope.head, copies, envelope.payload_length))
