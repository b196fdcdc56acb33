"""A whole program in one process: what `bb run`, `bb demo` and first experiments stand on.

One Node runs the class that starts the program, as many as wanted run each other class, and a
`LocalBus` carries real envelopes between them. This module builds and drives; it does not compile,
print or write files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_ir import keys
from bb_ir.buffers import BufferPool
from bb_ir.errors import BytesAndBrainsError, did_you_mean
from bb_ir.params import ParameterSet
from bb_roles.registry import bound_class
from bb_runtime import (
    Artifact,
    BlockEnded,
    Dropped,
    Emitted,
    Event,
    FrameEnded,
    FrameId,
    LocalBus,
    Node,
    OpFailed,
    install,
    load_artifact,
)
from bb_runtime.errors import InvalidInput
from bytesandbrains._advice import fix_of
from bytesandbrains._population import called, class_counts, identities, main_target

if TYPE_CHECKING:
    from onnx import ModelProto

    from bytesandbrains.journal import FileJournal

__all__ = ["FrameFailed", "LocalFederation", "class_counts"]

#: Fields of a slot's configuration, or a function of the Node's index in its class that gives them;
#: or of class and index.
Fields = (
    Mapping[str, Any] | Callable[[int], Mapping[str, Any]] | Callable[[str, int], Mapping[str, Any]]
)


class FrameFailed(BytesAndBrainsError):
    """An invocation did not come to its end.

    Met at `LocalFederation.run`: an op failed, too few peers answered, or a deadline passed. It
    says what the first failure said, with its line; `events` has everything that was reported
    and `trace` the traceback of a component.

    Attributes:
        events: What the Nodes reported about it.
        trace: The traceback of the first failure, as text; shown below the error.
    """

    def __init__(
        self, found: str, *, events: tuple[Event, ...], trace: str = "", **facts: Any
    ) -> None:
        super().__init__(found, **facts)
        self.events = events
        self.trace = trace
        if trace:
            self.add_note(f"\n{trace}")


class NotPublished(BytesAndBrainsError, KeyError):
    """An output is asked for that this run did not publish.

    Its name is misspelt, the op that would give it did not run, or it stands on another class
    than the one that was invoked. It is a `KeyError` too.
    """


class Outputs(dict[str, Any]):
    """What one run published on the Node that started it, by name: the last value of each.

    Attributes:
        history: All values by name, in the order in which they were published, such as those of the
            rounds of a `g.rounds` block.
        failed: Ops that failed on the way without failing the run, such as those of clients that
            a quorum could do without.
        dropped: What Nodes refused on the way, such as replies that came too late, and samples of
            more peers than there are (`sample_short`).
    """

    def __init__(self, hint: Callable[[str], str]) -> None:
        super().__init__()
        self.history: dict[str, list[Any]] = {}
        self.failed: list[OpFailed] = []
        self.dropped: list[Dropped] = []
        self._hint = hint

    def __missing__(self, name: str) -> Any:
        raise NotPublished(
            f"this run published no output {name!r}",
            expected=f"one of {', '.join(self) or 'none'}",
            fix=self._hint(name),
            where=tuple(dict.fromkeys(one.place or one.source or one.op for one in self.failed)),
        )


class LocalFederation:
    """All Nodes of an artifact in one process.

    Args:
        artifact: A compiled model, its bytes or its file.
        nodes: How many Nodes each class gets. Where nothing is said, one of the class that starts
            the program, and two of each other, as `bb run` has it.
        config: Configuration by slot, or by `<class>.<slot>`. A function instead of a mapping is
            called with the Node's index in its class, or with class and index if it needs two
            arguments. A peer selector that is not told its peers gets all Nodes of the class it
            selects.
        seed: From which identities and all draws derive.
        target: What `run` invokes; the body of the recorded Module when empty.
        journals: A folder for the journals of all Nodes: `server`, or `client-3` where a class has
            several. They hold private data.

    Raises:
        InstallError: The artifact cannot be installed, or a class is unknown.
        CannotWrite: The folder holds journals, or cannot be written to.
    """

    def __init__(
        self,
        artifact: ModelProto | Artifact | bytes | str | Path,
        *,
        nodes: Mapping[str, int] | None = None,
        config: Mapping[str, Fields] | None = None,
        seed: int = 0,
        target: str = "",
        journals: str | Path | None = None,
    ) -> None:
        self.artifact = load_artifact(artifact)
        self.main = main_target(self.artifact, target)
        counts = class_counts(self.artifact, nodes or {}, target=target)
        self.peers = identities(counts, seed)
        given = dict(config or {})
        pool = BufferPool()
        self._journals: list[FileJournal] = []
        folder = None if journals is None else Path(journals)
        self._selectors = {cls: self._selectors_of(cls) for cls in counts}
        self.nodes: dict[str, tuple[Node, ...]] = {
            cls: tuple(
                install(
                    peer, [], self.artifact, self._targets(cls), self._configure(cls, i, given),
                    seed=seed, pool=pool, journal=self._journal(folder, cls, i),
                )
                for i, peer in enumerate(peers)
            )
            for cls, peers in self.peers.items()
        }  # fmt: skip
        self.bus = LocalBus(*(node for group in self.nodes.values() for node in group))
        #: The invocation that `events` gives now, or gave last.
        self.frame: FrameId | None = None
        self._bootstrapped = False

    @property
    def server(self) -> Node:
        """The Node that starts the program."""
        return self.nodes[self.main.cls][0]

    def run(self, inputs: Mapping[str, Any] | None = None) -> Outputs:
        """Invoke the program once and return its outputs by name, when no frame is left.

        What the program starts belongs to it, such as all rounds of a `g.rounds` block; ticks of a
        `g.every` block come when `bus.advance` lets time pass. Time stands still while work is
        done: a deadline passes only when everybody waits.

        Raises:
            FrameFailed: An op failed, too few peers answered, a deadline passed, or a block of
                rounds ended early because one of them failed.
        """
        outputs = Outputs(self._where_published)
        failed: list[Event] = []
        for event in self.events(inputs):
            step = event.step
            if isinstance(step, Emitted) and event.peer == self.server.peer:
                outputs[step.name] = step.value
                outputs.history.setdefault(step.name, []).append(step.value)
            elif isinstance(step, OpFailed):
                failed.append(event)
                outputs.failed.append(step)
            elif isinstance(step, Dropped):
                outputs.dropped.append(step)
            elif isinstance(step, FrameEnded) and self.is_run(event) and step.how != "done":
                raise _failed(f"a frame of {step.target} ended {step.how}: {step.reason}", failed)
            elif isinstance(step, BlockEnded) and step.how == "failed":
                block = f"block {step.region!r} of {step.target}"
                raise _failed(f"{block} failed after {step.turns} frames", failed)
        return outputs

    def events(self, inputs: Mapping[str, Any] | None = None) -> Iterator[Event]:
        """Invoke the program once and give everything that any Node reports about it."""
        self._bootstrap()
        self.frame = self.server.invoke(self.main.short, inputs)
        yield from self.bus.events()

    def is_run(self, event: Event) -> bool:
        """Tell whether an event is the end of the invocation that `events` gives."""
        step = event.step
        own = isinstance(step, FrameEnded) and step.frame == self.frame
        return own and event.peer == self.server.peer

    def rounds(self, times: int, inputs: Mapping[str, Any] | None = None) -> Iterator[Outputs]:
        """Invoke the program `times` times, one after the other, and give each one's outputs."""
        for _ in range(times):
            yield self.run(inputs)

    def snapshot(self) -> bytes:
        """Return all Nodes and whatever is on its way between them; nothing is changed.

        It can be taken between two events of `events`, too.

        Raises:
            SnapshotError: A Node cannot be written down now.
        """
        frame = None if self.frame is None else tuple(self.frame)
        return self.bus.snapshot({"bootstrapped": self._bootstrapped, "frame": frame})

    def restore(self, data: bytes | memoryview) -> None:
        """Make this federation what a snapshot says; it has to be made as the one that was saved.

        What was in flight goes on with `bus.run()`, or before the next `run`.

        Raises:
            SnapshotError: It is damaged, newer, or of another federation. Nothing was changed.
        """
        # A bus that was saved by itself has no note of ours, and has begun.
        note: dict[str, Any] = self.bus.restore(data) or {}
        self._bootstrapped = bool(note.get("bootstrapped", True))
        frame = note.get("frame")
        self.frame = None if frame is None else FrameId(*frame)

    def params(self, slot: str = "") -> ParameterSet:
        """Return the parameters of the server's model, as they are now.

        They are laid out as a safetensors file: `Path("model.safetensors").write_bytes(
        federation.params().image)` writes one.

        Args:
            slot: The model's slot; it may be left out for the only one, or one called `model`.

        Raises:
            InvalidInput: The server has no such slot, or it is not clear which one is meant.
        """
        model: Any = self.server.component(slot or self._model_slot())
        found: ParameterSet = model.params(None)
        return found

    def _model_slot(self) -> str:
        targets = (one for one in self.artifact.targets.values() if one.cls == self.main.cls)
        rows = [row for target in targets for row in target.rows if row.role == "model"]
        slots = list(dict.fromkeys(row.slot for row in rows))
        if "model" in slots or len(slots) == 1:
            return "model" if "model" in slots else slots[0]
        raise InvalidInput(
            f"class {self.main.cls!r} has {len(slots) or 'no'} models",
            expected=f"the name of one of its slots: {', '.join(slots)}" if slots else "one",
            fix=f"federation.params({slots[0]!r})"
            if slots
            else "ask a Node of another class: federation.nodes[cls][0].component(slot)",
        )

    def close(self) -> None:
        """Close all Nodes and their journals.

        Raises:
            Exception: What a component raised that could not be closed; all others, and the
                journals, are closed all the same.
        """
        with ExitStack() as closing:
            # What is put on it last is closed first.
            for journal in self._journals:
                closing.callback(journal.close)
            for node in self.bus.nodes:
                closing.callback(node.close)

    def _journal(self, folder: Path | None, cls: str, index: int) -> FileJournal | None:
        """Return the journal of a Node, if journals are wanted."""
        if folder is None:
            return None
        from bytesandbrains.journal import FileJournal

        name = cls if len(self.peers[cls]) == 1 else f"{cls}-{index}"
        made = FileJournal(folder / name)
        self._journals.append(made)
        return made

    def _where_published(self, name: str) -> str:
        """Return what to do about an output that was not published."""
        for target in self.artifact.targets.values():
            if name in target.outputs and target.cls != self.main.cls:
                return (
                    f"it stands on class {target.cls!r}, not on {self.main.cls!r}; `bb explain` "
                    "shows where every op runs"
                )
        if name in self.main.outputs:
            return "look at the ops that failed"
        return did_you_mean(name, self.main.outputs) or "check its name"

    def _bootstrap(self) -> None:
        """Run the bootstraps of all Nodes, before the first invocation."""
        if self._bootstrapped:
            return
        self._bootstrapped = True
        if not [frame for node in self.bus.nodes for frame in node.run_bootstrap()]:
            return
        reported = self.bus.run()
        ends = [e.step for e in reported if isinstance(e.step, FrameEnded)]
        for step in ends:
            if step.how != "done":
                found = f"a frame of {step.target} ended {step.how}: {step.reason}"
                raise _failed(found, [e for e in reported if isinstance(e.step, OpFailed)])

    def _targets(self, cls: str) -> list[str]:
        return [t.name for t in self.artifact.targets.values() if t.cls == cls]

    def _configure(self, cls: str, index: int, given: Mapping[str, Fields]) -> dict[str, Any]:
        """Return the configuration of one Node: its functions called, its peers filled in."""
        config: dict[str, Any] = {}
        for name, fields in given.items():
            owner = name.rpartition(".")[0]
            if owner in self.peers and owner != cls:
                continue
            config[name] = called(fields, name, cls, index) if callable(fields) else fields
        for slot, of in self._selectors[cls].items():
            own = f"{cls}.{slot}" if f"{cls}.{slot}" in config else slot
            known: Any = config.get(own) or {}
            if isinstance(known, Mapping) and "peers" not in known:
                others = [p for p in self.peers.get(of, ()) if p != self.peers[cls][index]]
                config[own] = {**known, "peers": others}
        return config

    def _selectors_of(self, cls: str) -> dict[str, str]:
        """Return the peer selectors of a class that are configured with peers, and of which."""
        found: dict[str, str] = {}
        for target in self.artifact.targets.values():
            for row in target.rows:
                if target.cls != cls or row.role != "peer_selector":
                    continue
                fields = dataclasses.fields(bound_class(row.role, row.component).Config)
                if any(field.name == "peers" for field in fields):
                    of = self.artifact.slots.get(row.slot, {}).get("of", keys.SELF_CLASS)
                    found[row.slot] = cls if of == keys.SELF_CLASS else of
        return found


def _failed(found: str, seen: list[Event]) -> FrameFailed:
    # The first failure on the line of causes is the most telling one.
    causes = [event.step for event in seen if isinstance(event.step, OpFailed)]
    first = causes[0] if causes else None
    if first is None:
        return FrameFailed(found, events=tuple(seen))
    error = first.error
    told = getattr(error, "found", f"{type(error).__name__}: {error}")
    on = f" of slot {first.slot!r} ({first.component})" if first.slot else ""
    alike = len([cause for cause in causes if (cause.op, cause.slot) == (first.op, first.slot)])
    more = f" (on {alike} Nodes)" if alike > 1 else ""
    return FrameFailed(
        f"{first.op}{on} failed: {told}{more}",
        events=tuple(seen),
        trace="" if isinstance(error, BytesAndBrainsError) else first.trace,
        expected=getattr(error, "expected", ""),
        fix=fix_of(error),
        where=tuple(place for place in (first.place, first.source) if place is not None),
    )
