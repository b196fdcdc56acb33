"""From an artifact to a Node: every name is resolved here, or nothing is installed."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bb_ir import keys
from bb_ir.address import Address
from bb_ir.buffers import BufferPool
from bb_ir.errors import BytesAndBrainsError
from bb_ir.ids import PeerId
from bb_ir.ops import OpSchema, role_op
from bb_roles.contracts import Backend, Component, lacks
from bb_roles.errors import PluginError
from bb_roles.fused import FusedGraph, compose
from bb_roles.registry import import_named, ops_spec
from bb_runtime._components import StandIn, build_components, close_all
from bb_runtime._context import OpContext
from bb_runtime._engine import Engine
from bb_runtime._frames import BoundRegion
from bb_runtime._lower import lowered
from bb_runtime._measuring import metric_recorder, sample_counter
from bb_runtime._misread import MISREAD
from bb_runtime._planning import Planned, deferring_ops, plan_slots
from bb_runtime._program import ARRIVE, TAKE, Lowered, RegionProgram, is_block, is_gather
from bb_runtime._trust import (
    Trusted,
    check_open,
    check_ops,
    check_secret,
    check_signed,
    programs_of,
)
from bb_runtime._types import codecs_of
from bb_runtime._writing import WITH_CONTEXT, bind, with_attributes
from bb_runtime.artifact import Artifact, Op, Target, load_artifact
from bb_runtime.errors import (
    EmptyTargets,
    InstallError,
    InvalidArtifact,
    InvalidBindingTable,
    UnresolvedOp,
)
from bb_runtime.node import Node
from bb_runtime.options import Options

if TYPE_CHECKING:
    from onnx import ModelProto

    from bb_runtime._deferred import Works

__all__ = ["Config", "install"]


#: Nodes that are told no others share these.
_DEFAULTS = Options()


class Config(dict[str, Any]):
    """Configuration of components: slot name to a mapping of fields, or an instance of `Config`.

    A name `<class>.<slot>` is for that peer class only and wins over `<slot>`. A mapping lies,
    field by field, over what the program was compiled with; an instance stands in its place.
    """


def install(
    peer: PeerId,
    addresses: Sequence[Address],
    artifact: ModelProto | Artifact | bytes | str | Path,
    targets: Sequence[str],
    config: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    incarnation: int = 1,
    allow: Collection[str] | None = None,
    options: Options | None = None,
    pool: BufferPool | None = None,
    now_ns: int = 0,
    journal: Callable[[bytes], object] | None = None,
    by_reference: bool = False,
    secret: bytes | None = None,
    trusted: Collection[Trusted] | None = None,
    accept: Iterable[Artifact | ModelProto | Path | str] = (),
    stand_in: StandIn | None = None,
) -> Node:
    """Build a Node from targets of an artifact.

    Args:
        peer: Identity of the Node.
        addresses: Where it can be reached; may be empty.
        artifact: A compiled model, its bytes or its file; `load_artifact` reads one once for
            many Nodes.
        targets: Names of targets, such as `"FederatedAveraging.client"`; what follows a `#` may
            be left out.
        config: Configuration of components by slot.
        seed: From which all draws of the Node derive.
        incarnation: Larger at every start of the same peer.
        allow: Components that may be bound, as `<role>.<name>`, and types of values and ops that
            plugins add, as `type.<name>.<version>` and `op.<domain>`; all when `None`.
        options: Bounds.
        pool: Where payloads and large results get their memory; Nodes of one process may share
            one. The Node's own when `None`.
        now_ns: The Node's time, in nanoseconds.
        journal: Is given a record of everything that comes into the Node, so that `replay` can do
            it again. It holds private data: what peers send, and inputs. A `fingerprint` that it
            has as an attribute is written down, too.
        by_reference: Whether the Node ships values as they are, for a host that hands them to
            other Nodes of its process with `take`. A Node with a journal ships bytes.
        secret: 16 to 64 random bytes that no peer knows, the same or others at every start. The
            grants that answers bring back are made with it; with the seed when `None`, which
            will do where nobody is to be kept out.
        trusted: Public keys, as peer ids or raw bytes: one of them must have signed the artifact.
            It need not be signed when `None`.
        accept: Other programs, as artifacts or hashes, whose envelopes are taken on edges that
            are the same.
        stand_in: Is given a role and the class that the artifact binds, and returns the class that
            is built in its place, such as one that inherits it and fails now and then. For tests
            and simulations: a journal does not know of it, so there cannot be one.

    Raises:
        InstallError: The artifact cannot be installed here; no half-built Node is left.
    """
    read = load_artifact(artifact)
    if trusted is not None:
        check_signed(read, trusted)
    check_secret(secret)
    making = None
    if journal is not None and stand_in is not None:
        raise InstallError(
            "a Node with stand-ins for its components is to write a journal",
            expected="one or the other: a replay would build the components of the artifact",
            fix="leave journal or stand_in out",
        )
    if journal is not None:
        from bb_runtime._recording import Recording

        making = Recording(journal)
    return build(
        peer, addresses, read, targets, config or {}, seed=seed, incarnation=incarnation,
        allow=allow, options=options or _DEFAULTS, pool=pool, now_ns=now_ns, making=making,
        by_reference=by_reference and journal is None, secret=secret,
        accept=programs_of(accept, read), stand_in=stand_in,
    )  # fmt: skip


class Making(Protocol):
    """What a Node is made with that is not an ordinary one: it writes a journal, or replays one."""

    def works(self, engine: Engine) -> Works:
        """Return what keeps the Node's deferred work."""
        ...

    def node(self, made: Node, facts: Mapping[str, Any]) -> Node:
        """Return the Node that takes the place of an ordinary one.

        Args:
            made: The ordinary one.
            facts: What it was built of, as far as its engine does not know that.
        """
        ...


def build(
    peer: PeerId,
    addresses: Sequence[Address],
    read: Artifact,
    targets: Sequence[str],
    config: Mapping[str, Any],
    *,
    seed: int,
    incarnation: int,
    allow: Collection[str] | None,
    options: Options,
    pool: BufferPool | None,
    now_ns: int,
    making: Making | None,
    by_reference: bool = False,
    secret: bytes | None = None,
    accept: Sequence[str] = (),
    stand_in: StandIn | None = None,
) -> Node:
    """Build a Node, of a kind of its own when `making` is given.

    Raises:
        InstallError: The artifact cannot be installed here.
    """
    if isinstance(targets, str) or not targets:
        raise EmptyTargets(
            f"targets is {targets!r}",
            expected="a list of target names",
            fix=f"one of {', '.join(t.short for t in read.targets.values())}",
        )
    check_open(read, options.open_classes)
    chosen = _with_bootstraps(read, [read.target(name) for name in dict.fromkeys(targets)])
    check_ops(chosen, allow)
    pool = pool or BufferPool()
    codecs = codecs_of(read, chosen, allow)
    components = build_components(
        read, chosen, config, peer=peer, seed=seed, allow=allow, pool=pool, stand_in=stand_in
    )
    engine = Engine(
        peer, read, seed=seed, incarnation=incarnation, options=options, now_ns=now_ns, pool=pool,
        secret=secret,
    )  # fmt: skip
    if accept:
        engine.accepted = frozenset(bytes.fromhex(one)[:16] for one in accept)
    engine.post.codecs = codecs
    engine.post.by_reference = by_reference
    if making is not None:
        engine.works = making.works(engine)
    try:
        planned = [one for t in chosen for one in _bind_target(engine, t, components)]
        engine.slots.numbers = plan_slots(planned, components)
    except BaseException:
        close_all(components.values())
        raise
    node = Node(engine, chosen, components, tuple(addresses))
    if making is None:
        return node
    given = {"targets": chosen, "config": config, "seed": seed, "allow": allow, "accept": accept}
    return making.node(node, given)


def _with_bootstraps(artifact: Artifact, chosen: list[Target]) -> list[Target]:
    """Add the bootstrap functions of the chosen targets' classes."""
    classes = {target.cls for target in chosen}
    more = [
        t
        for t in artifact.targets.values()
        if t.phase == "bootstrap" and t.cls in classes and t not in chosen
    ]
    return [*chosen, *more]


def _bind_target(
    engine: Engine, target: Target, components: Mapping[tuple[str, str], Component]
) -> list[Planned]:
    try:
        return _bind_regions(engine, target, components)
    except BytesAndBrainsError:
        raise
    except MISREAD as error:
        raise InvalidArtifact(
            f"the ops of {target.short} do not fit together: {type(error).__name__}: {error}",
            expected="what this version's compiler writes",
            fix="compile the program again",
        ) from error


def _bind_regions(
    engine: Engine, target: Target, components: Mapping[tuple[str, str], Component]
) -> list[Planned]:
    deferring = deferring_ops(target, components)
    programs = lowered(engine.artifact, target, deferring)
    resolve = _Resolver(engine, programs, components)
    planned: list[Planned] = []
    for program in programs.regions.values():
        # What `every`, `on` and `rounds` start outlives the bootstrap that starts it.
        first = target.phase == "bootstrap" and not _of_root_block(program, programs)
        bound = _bind_region(program, resolve, bootstrap=first)
        planned.append(Planned(bound, programs))
        if program.info.opened_in:
            engine.regions[program.info.name] = bound
        else:
            engine.mains[target.short] = bound
    for block in programs.blocks.values():
        if block.index < 0:
            engine.controllers.limit(block)
    slots = {row.slot: row.role for row in target.rows}
    written = {op.slot for op in target.ops if _writes(op)}
    engine.components[target.name] = [
        (components[target.name, slot], role == "aggregator")
        for slot, role in slots.items()
        if slot in written
    ]
    return planned


def _of_root_block(program: RegionProgram, programs: Lowered) -> bool:
    """Whether a region's frames are, or are parts of, frames that a block starts."""
    info = program.info
    while info.parent:
        info = programs.regions[info.parent].info
    return bool(info.kind)


def _bind_region(program: RegionProgram, resolve: _Resolver, *, bootstrap: bool) -> BoundRegion:
    runs = [bind(stretch, resolve.call, resolve.context) for stretch in program.stretches]
    return BoundRegion(program, runs, bootstrap=bootstrap)


def _writes(op: Op) -> bool:
    return op.schema is not None and op.schema.effect == "writes"


def _paths(target: Target) -> dict[int, str]:
    """Name each op of a role for its draws: scope, slot, method and which one of its kind.

    Ops of other slots do not change it, nor does the order in which pieces of a region run. Draws
    of the program itself are named by their name or what they draw, and which one of equal ones of
    their region they are.
    """
    uses: Counter[tuple[str, str]] = Counter()
    paths: dict[int, str] = {}
    for op in target.ops:
        if op.schema is not None:
            uses[op.slot, op.name] += 1
            paths[id(op)] = f"{op.scope}/{op.slot}/{op.name}/{uses[op.slot, op.name]}"
        elif op.domain == keys.SYSCALL and op.name in WITH_CONTEXT:
            draw = f"{op.name}({_drawn(op.attributes)})"
            uses[op.region, f"{op.scope}/{draw}"] += 1
            paths[id(op)] = f"{op.scope}//{draw}/{uses[op.region, f'{op.scope}/{draw}']}"
    return paths


def _drawn(attributes: Mapping[str, Any]) -> str:
    """Return what tells a draw from others: its name, else what is drawn."""
    if attributes.get("name"):
        return str(attributes["name"])
    parameters = attributes.get("parameters")
    numbers = "" if parameters is None else ",".join(map(repr, parameters.tolist()))
    return f"{attributes.get('how', '')}:{numbers}:{attributes.get('n', '')}"


class _Resolver:
    """Finds the callable of each op of one target on one Node."""

    def __init__(
        self, engine: Engine, programs: Lowered, components: Mapping[tuple[str, str], Component]
    ) -> None:
        self.engine = engine
        self.programs = programs
        self.target = programs.target
        self.components = components
        self.paths = _paths(programs.target)

    def context(self, op: Op) -> OpContext | None:
        """Return the op's context."""
        path = self.paths.get(id(op))
        if path is None:
            return None
        info = self.programs.deferred.get(id(op))
        made = OpContext(self.engine, path, defers=info is not None)
        self.engine.contexts.append(made)
        if info is not None:
            self.engine.works.has_context(self.target.name, info, made)
        return made

    def call(self, op: Op) -> Callable[..., Any] | None:
        """Return the op's callable.

        Raises:
            UnresolvedOp: Nothing here can carry it out.
        """
        if op.domain == keys.WIRE:
            return self.engine.post.sender(op) if op.name == keys.SEND else None
        if is_gather(op):
            keeps = bool(op.attributes.get("values"))
            index = self.programs.gathers[id(op)]
            replies = max(
                info.replies
                for program in self.programs.regions.values()
                for info in program.gathers
                if info.index == index
            )
            return self.engine.gathers.arrival(index, keeps=keeps, replies=replies)
        if op.domain == keys.SYSCALL and (own := self._own(op)) is not None:
            return own
        if op.domain == keys.ONNX:
            return self._kernel(op)
        if op.graph is not None:
            return self._fused(op, op.graph)
        return self._framework_op(op) if op.schema is None else self._method(op, op.schema)

    def _own(self, op: Op) -> Callable[..., Any] | None:
        """Return the callable of an op that the engine itself carries out."""
        engine = self.engine
        if op.name == keys.OUTPUT:
            return engine.emitter_of(op, self.target.short)
        if is_block(op):
            info = self.programs.blocks[id(op)]
            blocks = engine.controllers if info.index < 0 else engine.blocks
            return blocks.opener(info)
        if op.name == ARRIVE:
            return engine.blocks.arrival(op)
        if op.name == TAKE:
            region = op.attributes["block"]
            infos = (one for one in self.programs.blocks.values() if one.region == region)
            return engine.blocks.taker(op, next(infos).index)
        if op.name == keys.UNTIL:
            return engine.blocks.until
        if op.name == keys.PUBLISH:
            return functools.partial(engine.controllers.announce, str(op.attributes["topic"]))
        if op.name == keys.SLEEP:
            return engine.delays.starter(self.programs.delays[id(op)])
        if op.name == keys.METRIC:
            return metric_recorder(engine, op)
        return None

    def _method(self, op: Op, schema: OpSchema) -> Callable[..., Any]:
        component = self._component(op)
        own = component.ops.get(op.name)
        if role_op(op.domain, op.name) is None and own != schema:
            raise self._unresolved(op, f"the component {'has no' if own is None else 'has another'}"
                                   f" op {schema}")  # fmt: skip
        method = getattr(component, schema.method, None)
        if method is None:
            raise self._unresolved(op, f"the component has no method {schema.method}")
        if lacks(type(component), schema.method):
            name = type(component).__name__
            raise self._unresolved(
                op,
                f"the component of slot {op.slot!r}, {name}, does without the optional method "
                f"{schema.method}",
            )
        call = with_attributes(method, op.attributes)
        info = self.programs.deferred.get(id(op))
        if info is None:
            sampled = op.name == "Sample" and op.domain == keys.role_domain("peer_selector")
            return sample_counter(self.engine, op, call) if sampled else call
        works, restartable = self.engine.works, component.restartable
        return works.caller(self.target.name, info, call, restartable=restartable)

    def _component(self, op: Op) -> Component:
        component = self.components.get((self.target.name, op.slot))
        if component is None:
            raise InvalidBindingTable(
                f"op {op.name} of {self.target.short} runs on slot {op.slot!r}, which has no row",
                expected="a row for every slot of the target",
                fix="compile the program again",
                where=() if op.source is None else op.source,
            )
        return component

    def _backend(self, op: Op) -> Backend:
        backend = self._component(op)
        if not isinstance(backend, Backend):
            raise self._unresolved(op, "its slot holds no Backend")
        return backend

    def _fused(self, op: Op, graph: FusedGraph) -> Callable[..., Any]:
        backend = self._backend(op.inner[0])
        try:
            made = backend.compile(graph)
        except Exception as error:
            for inner in op.inner:  # the one that cannot be carried out says so
                self._kernel(inner)
            raise self._unresolved(op, f"{type(error).__name__}: {error}") from error
        if made is not None:
            return made
        # A backend that does not take them together may still have a kernel for each.
        return compose(graph, [self._kernel(inner) for inner in op.inner])

    def _kernel(self, op: Op) -> Callable[..., Any]:
        backend = self._backend(op)
        try:
            kernel = backend.kernel(op.name, op.attributes, len(op.outputs))
        except Exception as error:
            raise self._unresolved(op, f"{type(error).__name__}: {error}") from error
        if kernel is None:
            raise self._unresolved(op, f"backend {type(backend).__name__} does not have it")
        return kernel

    def _framework_op(self, op: Op) -> Callable[..., Any]:
        try:
            spec = ops_spec(op.domain)
            path = spec.ops[op.name]
            call: Callable[..., Any] = import_named(path, f"op.{op.name}")
        except PluginError as error:
            raise self._unresolved(op, error.found) from error
        except KeyError:
            raise self._unresolved(op, "the plugin of its domain does not have it") from None
        known = spec.schemas.get(op.name)
        if op.declared is not None and known is not None and str(known) != str(op.declared):
            raise self._unresolved(
                op, f"it was recorded as {op.declared}, and the installed plugin has {known}"
            )
        return with_attributes(call, op.attributes)

    def _unresolved(self, op: Op, why: str) -> UnresolvedOp:
        return UnresolvedOp(
            f"op {op.name} of {op.domain} in {self.target.short} cannot be carried out: {why}",
            fix="bind another component, or install the plugin that has it",
            where=() if op.source is None else op.source,
        )
