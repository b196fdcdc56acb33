"""The component: versions published here, versions staged and served there.

A swap has two phases. Each serving Node is told a plan made against the version that it holds, with
the bytes that it lacks, mostly as differences; it stages and verifies them while it serves what it
serves, and says that it is ready. When enough are, the publisher decides, and those that are ready
flip. Every step can be repeated, and what comes late or for another version is refused and changes
nothing; a Node that was away is planned for anew, from the version that it has.

Nothing here sends. Bytes are known by their digests, from the manifest in the plan, and no bytes
are believed before they were hashed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray

from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_ir.plan import (
    Digest,
    Plan,
    SwapPlan,
    WeightManifest,
    check,
    chunk_digest,
    content_digest,
    digest_text,
    from_bytes,
    parse_digest,
    sealed,
    to_bytes,
)
from bb_plans.deltas import Rates, decode
from bb_plans.manifests import params_of
from bb_protocol_swap._memory import MemoryStore, Versions
from bb_protocol_swap._ops import OPS
from bb_protocol_swap._work import (
    SPANS,
    known,
    made_ready,
    planned,
    published,
    released,
    staged,
    taken_in,
)
from bb_protocol_swap.errors import (
    NobodyReady,
    NothingPublished,
    NotStaged,
    SwapRefused,
    SwapTooLarge,
)
from bb_roles import Context, Environment, Protocol, State
from bb_roles.limits import Limits, check_limits

if TYPE_CHECKING:
    from bb_roles import Planner

__all__ = ["Swap", "SwapConfig"]

#: Epochs are less than this. Nobody who says so takes us further than half of the way there.
_MOST: Final = 1 << 48
_PRODUCER: Final = "protocol.swap"


@dataclass(frozen=True)
class SwapConfig:
    """Where versions are kept, how they are planned, and what is taken in.

    Attributes:
        store: Folder of the store that keeps the versions, so that they outlive this process; in
            memory when left out.
        planner: Name of the planner that is asked where versions are published.
        link: Bytes per second of the link to the serving Nodes, by which differences are chosen:
            the slower it is, the more work is done to send less.
        keep: Versions that are kept beside the current one: what differences can be made from.
        max_bytes: Most bytes of a version that is staged here.
        defer_above: A version is hashed, a plan is made, and its bytes are decoded in another
            thread when the version has more bytes than this. What is written to a store on disk is
            written there in any case, but for the flip itself.
        model: Name of the model in manifests.
    """

    store: str = ""
    planner: str = "swap"
    link: Annotated[float, Limits(above=0, unit="bytes/s")] = 125e6
    keep: Annotated[int, Limits(0)] = 2
    max_bytes: Annotated[int, Limits(0, unit="bytes")] = 64 << 30
    defer_above: Annotated[int, Limits(0, unit="bytes")] = 1 << 20
    model: str = "model"

    def __post_init__(self) -> None:
        check_limits(self)


class Swap(Protocol):
    """Publishes versions of a model, or stages and serves them; the program says which."""

    Config = SwapConfig
    ops = OPS
    defers = ("manifest", "plan", "ready")
    # Who asks what is held is answered while a version is staged.
    reentrant = True

    def __init__(self, config: SwapConfig, env: Environment) -> None:
        super().__init__(config, env)
        self._store = _opened(config.store)
        self._published: WeightManifest | None = None
        self._root: Digest | None = None
        self._order: list[Digest] = []
        self._epoch = 0
        self._votes: dict[PeerId, str] = {}
        self._plans: dict[str, tuple[bytes, NDArray[np.uint8]]] = {}
        self._staged: Digest | None = None
        self._sent = 0

    # Where versions are published

    def manifest(self, ctx: Context, params: ParameterSet) -> Any:
        """Publish a version: take its manifest, and keep its bytes to make differences from.

        Writing it to a disk is deferred, so the Node does other work meanwhile.

        Returns:
            A record with `root`, the version's digest as text, and `nbytes`, its length.
        """
        store, on_disk = self._store, self._on_disk
        work = params, self.config.model, store if on_disk else None, self._kept

        def keep(made: WeightManifest) -> Mapping[str, Any]:
            root = content_digest(made)
            if not on_disk:
                taken_in(made, params, store)
            if root != self._root:
                self._published, self._root = made, root
                self._votes, self._plans = {}, {}
                self._order = self._ordered(root)
                if not on_disk:
                    store.prune(self._kept())
            return {"root": digest_text(root), "nbytes": sum(chunk.length for chunk in made.files)}

        if not on_disk and params.nbytes <= self.config.defer_above:
            return keep(published(*work))
        return ctx.defer(published, *work, commit=keep)

    def plan(self, ctx: Context, held: Mapping[str, Any]) -> Any:
        """Make the plan that turns what a Node holds into what was published last.

        It is made once for all Nodes that hold the same. A Node whose version is not known here is
        sent everything.

        Args:
            ctx: The call.
            held: What the Node said that it holds.

        Returns:
            The plan as bytes of `bb.plan.v1.Plan`, and the bytes (n,) uint8 that its ops read.

        Raises:
            NothingPublished: There is no version yet.
            UnplannableRequest: The planner makes no plan of it.
        """
        new = self._newest()
        base, epoch = _version(held)
        self._epoch = max(self._epoch, min(epoch, _MOST // 2))
        if base in self._plans:
            return self._plans[base]
        old = next(
            (one.manifest for one in self._store.versions() if digest_text(one.root) == base), None
        )
        work = (self._planner(), old, new, self._store, Rates(self.config.link))
        now_ns = ctx.now_ns

        def keep(made: tuple[SwapPlan, NDArray[np.uint8]]) -> tuple[bytes, NDArray[np.uint8]]:
            plan = to_bytes(sealed(made[0], producer=_PRODUCER, created_ns=now_ns))
            if self._published is new:
                self._plans[base] = plan, made[1]
            return plan, made[1]

        if sum(chunk.length for chunk in new.files) <= self.config.defer_above:
            return keep(planned(*work))
        return ctx.defer(planned, *work, commit=keep)

    def vote(self, ctx: Context, ready: Mapping[str, Any]) -> None:
        """Take down that the Node which sent this has a version ready."""
        root, _ = _version({"root": ready["root"], "epoch": 0})
        _count("sent", ready["sent"])
        _count("shared", ready["shared"])
        if ctx.sender is not None:
            self._votes[ctx.sender] = root

    def decide(
        self, ctx: Context, asked: Sequence[PeerId]
    ) -> tuple[tuple[PeerId, ...], Mapping[str, Any]]:
        """Decide that those who are ready flip, under an epoch later than any before.

        Args:
            ctx: The call.
            asked: Who was asked.

        Returns:
            Those of `asked` who have the version ready, and the decision to send to them.

        Raises:
            NobodyReady: Nobody has.
            NothingPublished: There is no version yet.
        """
        self._newest()
        root = digest_text(known(self._root))
        ready = tuple(peer for peer in asked if self._votes.get(peer) == root)
        if not ready:
            raise NobodyReady(
                f"none of {len(asked)} Nodes has version {root[:20]} ready",
                expected="at least one",
                fix="see what they refused it for; they go on with what they serve",
            )
        self._epoch += 1
        return ready, {"root": root, "epoch": self._epoch}

    # Where versions are served

    def held(self, ctx: Context) -> Mapping[str, Any]:
        """Return `root` and `epoch` of the version that is served; "" and 0 before the first."""
        current = self._store.current
        if current is None:
            return {"root": "", "epoch": 0}
        return {"root": digest_text(current.root), "epoch": current.epoch}

    def ready(self, ctx: Context, plan: bytes, spans: NDArray[np.uint8]) -> Any:
        """Stage a version: decode what was sent, hash it, and see that nothing is missing.

        What is served stays as it is, and `held` tells it meanwhile. Staging the same again costs
        little: blobs that are here are not taken in again. With a store on disk all that is written
        for it is deferred, and what no version needs any more is removed there, too.

        Args:
            ctx: The call.
            plan: A `bb.plan.v1.Plan` with a SwapPlan from the version that is held here.
            spans: Bytes (n,) uint8 that its ops read.

        Returns:
            A record: `root` of the version, and how many bytes were `sent` and `shared`.

        Raises:
            DifferenceDamaged: What arrived has another digest than the plan says.
            InvalidPlan: The plan is not sound.
            PlanFormatError: The bytes are no plan.
            SwapRefused: The plan is for another version, or moves other bytes than these.
            SwapTooLarge: The version has more than `max_bytes`.
            VersionIncomplete: Something is neither here nor in the plan.
        """
        swap, to = self._accepted(from_bytes(Plan, plan), len(spans))
        nbytes = sum(chunk.length for chunk in to.files)
        store, on_disk, before = self._store, self._on_disk, self._staged

        def keep(sent: int) -> Mapping[str, Any]:
            root = content_digest(to)
            if not on_disk:
                made_ready(store, to, self._staged, self._order)
            self._staged, self._sent = root, sent
            return {"root": digest_text(root), "sent": sent, "shared": nbytes - _brought(swap)}

        if on_disk:
            last = to, before, tuple(self._order)
            return ctx.defer(staged, swap, spans, store, last, commit=keep)
        if nbytes <= self.config.defer_above:
            return keep(staged(swap, spans, store))
        return ctx.defer(staged, swap, spans, store, commit=keep)

    def commit(
        self, ctx: Context, decision: Mapping[str, Any]
    ) -> tuple[ParameterSet, Mapping[str, Any]]:
        """Serve the staged version from now on.

        A decision that is told twice is answered alike. It is not deferred: the model takes the
        parameters before anybody asks again, so no answer is of one version and names another.

        Returns:
            The parameters, and a receipt: the `root` that is served, the one that was `left`, the
            `epoch`, and how many bytes were `sent`.

        Raises:
            NotStaged: It is for a version that is not ready here, or comes late.
            ParameterSetError: The version is no parameter set.
        """
        text, epoch = _version(decision)
        root, before = parse_digest(text), self.held(ctx)
        again = before == {"root": text, "epoch": epoch}
        if not again and (root != self._staged or epoch <= before["epoch"]):
            raise NotStaged(
                f"a commit of {text[:20]} under epoch {epoch}; here epoch "
                f"{before['epoch']} is served, and {_short(self._staged)} is ready",
                expected="a version that is ready here, under a later epoch",
                fix="nothing: the next plan is made for what this Node serves",
            )
        version = next((one for one in self._store.versions() if one.root == root), None)
        if version is None:
            raise NotStaged(
                f"{text[:20]} was ready here, and the store does not have it any more",
                expected="the version that was staged",
                fix="nothing: the next plan brings it again",
            )
        params = params_of(version.manifest, version.view)  # first: a commit cannot be undone
        self._store.commit(root, epoch)
        if not again:
            kept = self._kept(_digest(before["root"]))
            if self._on_disk:  # files of what nobody needs go when the next version comes
                released(self._store, (*kept, root))
            else:
                self._store.prune(kept)
        receipt = {"root": text, "left": before["root"], "epoch": epoch}
        return params, {**receipt, "sent": self._sent}

    # Stopped and started

    def save(self) -> State:
        """Return the versions in memory, and what was said about them; a store keeps its own."""
        data: dict[str, Any] = {
            "epoch": self._epoch,
            "root": _text(self._root),
            "order": [digest_text(one) for one in self._order],
            "staged": _text(self._staged),
            "sent": self._sent,
            "votes": {str(peer): root for peer, root in self._votes.items()},
        }
        tensors: dict[str, NDArray[Any]] = {}
        if isinstance(self._store, MemoryStore):
            current = self._store.current
            data["current"] = _text(None if current is None else current.root)
            data["versions"] = []
            for one in self._store.versions():
                data["versions"].append([to_bytes(one.manifest).hex(), one.epoch])
                for digest, blob in one.blobs.items():
                    tensors[digest_text(digest)] = np.frombuffer(blob, np.uint8)
        return State(tensors, data)

    def load(self, state: State) -> None:
        """Take up what `save` returned.

        Raises:
            SwapRefused: What is saved does not have the digest that it is named by.
        """
        data = state.data
        store = self._store
        if isinstance(store, MemoryStore):
            store = _restored(state)
        versions = {one.root: one.manifest for one in store.versions()}
        root, staged = _digest(data["root"]), _digest(data["staged"])
        if root is not None and root not in versions:
            raise SwapRefused(
                f"the published version {_short(root)} is not in the store",
                expected="the store that the state was saved with",
                fix="configure the same `store`",
            )
        self._store = store
        self._root, self._published = root, None if root is None else versions[root]
        self._order = [parse_digest(one) for one in data["order"]]
        self._epoch, self._sent, self._staged = data["epoch"], data["sent"], staged
        self._votes = {PeerId.parse(peer): told for peer, told in data["votes"].items()}
        self._plans = {}

    def close(self) -> None:
        """Let go of the store on disk, if there is one."""
        self._store.close()

    # Inside

    def _newest(self) -> WeightManifest:
        if self._published is None:
            raise NothingPublished(
                "no version was published on this Node", fix="record swap.manifest(params) first"
            )
        return self._published

    @property
    def _on_disk(self) -> bool:
        return not isinstance(self._store, MemoryStore)

    def _ordered(self, root: Digest) -> list[Digest]:
        """Return the published versions that are kept when one is published, in order."""
        order = [*(one for one in self._order if one != root), root]
        return order[-1 - self.config.keep :]

    def _kept(self, *more: Digest | None, new: Digest | None = None) -> list[Digest]:
        """Return the versions that are published, staged or named; what is served stays anyway."""
        order = self._order if new is None else self._ordered(new)
        return [one for one in (*order, self._staged, *more) if one is not None]

    def _planner(self) -> Planner:
        from bb_roles.config import build_config
        from bb_roles.registry import planner_class, planner_spec

        name = self.config.planner
        cls = planner_class(planner_spec(name))
        return cls(build_config(cls.Config, {"destination": "store"}, f"planner.{name}"))

    def _accepted(self, plan: Plan, sent: int) -> tuple[SwapPlan, WeightManifest]:
        """Return the swap in a plan that can be carried out here, and what it leads to."""
        swap = plan.swap
        if swap is None or swap.to is None:
            raise SwapRefused(
                "the plan is no SwapPlan to a version", expected="a plan made by swap.plan"
            )
        nbytes = sum(chunk.length for chunk in swap.to.files)
        if nbytes > self.config.max_bytes:
            raise SwapTooLarge(
                f"the version has {nbytes} bytes",
                expected=f"at most {self.config.max_bytes}",
                fix="raise max_bytes of this component, if there is room",
            )
        check(plan, regions={SPANS: sent})
        current = self._store.current
        root = None if current is None else current.root
        base = swap.from_
        if base is not None and base.files and content_digest(base) != root:
            raise SwapRefused(
                f"the plan is from version {_short(content_digest(base))}, and "
                f"{_short(root)} is served here",
                expected="a plan from the version that is served",
                fix="ask for a plan with what swap.held gives",
            )
        lengths = {chunk_digest(chunk): chunk.length for chunk in swap.to.files}
        for index, op in enumerate(swap.ops):
            if op.src != SPANS or op.digest is None or op.dst != f"cas://{digest_text(op.digest)}":
                raise SwapRefused(
                    f"ops[{index}] moves {op.src[:60]} to {op.dst[:60]}",
                    expected=f"from {SPANS} into the store, under its digest",
                )
            if lengths.get(op.digest) != op.length:
                raise SwapRefused(
                    f"ops[{index}] brings {op.length} bytes that no chunk of the version has",
                    expected="chunks of the version, each as long as it is there",
                )
        return swap, swap.to


def _opened(folder: str) -> Versions:
    if not folder:
        return MemoryStore()
    from bb_plans.store import Store

    return Store(Path(folder))


def _brought(swap: SwapPlan) -> int:
    """Return how many bytes of the new version were not in the old one."""
    return sum(chunk.length for chunk in swap.adds)


def _restored(state: State) -> MemoryStore:
    """Return the store in memory that was saved; every blob is hashed."""
    store = MemoryStore()
    for text, held in state.tensors.items():
        blob = np.ascontiguousarray(held, np.uint8).data
        store.put(decode("", blob, None, len(blob), parse_digest(text)), parse_digest(text))
    for told, epoch in state.data["versions"]:
        root = store.stage(from_bytes(WeightManifest, bytes.fromhex(told)))
        if digest_text(root) == state.data["current"]:
            store.commit(root, epoch)
    return store


def _version(told: Mapping[str, Any]) -> tuple[str, int]:
    """Return root and epoch of a message, checked; the root may be empty."""
    root, epoch = told["root"], told["epoch"]
    if not isinstance(root, str):
        raise SwapRefused(f"a root of type {type(root).__name__}", expected="a digest as text")
    if root:
        parse_digest(root)
    return root, _count("epoch", epoch)


def _count(name: str, value: object) -> int:
    """Return a number of a message, checked."""
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise SwapRefused(f"{name} is {str(value)[:40]}", expected=f"0 to {_MOST - 1}")
    return value


def _text(digest: Digest | None) -> str:
    return "" if digest is None else digest_text(digest)


def _digest(text: str) -> Digest | None:
    return parse_digest(text) if text else None


def _short(digest: Digest | None) -> str:
    return "none" if digest is None else digest_text(digest)[:20]
