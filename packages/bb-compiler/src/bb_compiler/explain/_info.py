"""What `explain` tells, as plain data: frozen, comparable, ready for JSON.

Nothing here reads a model, computes or draws; `Explanation` adds the ways to show it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bb_compiler._sizes import EdgeBytes, Span
from bb_compiler.explain._expressions import expression, settings
from bb_ir.durations import format_duration
from bb_ir.type_texts import brief
from bb_ir.types import parse_type

__all__ = [
    "Binding",
    "Contents",
    "EdgeInfo",
    "OpInfo",
    "PortInfo",
    "RegionInfo",
    "StageInfo",
    "TargetInfo",
    "Traffic",
]

#: Shorter types are not looked into.
_LONG_TYPE = 60


@dataclass(frozen=True, slots=True)
class PortInfo:
    """One value that an op reads or gives, or that an edge carries."""

    name: str
    type: str

    @property
    def brief(self) -> str:
        """The type, shortened to the first of many tensors or fields."""
        return self.type if len(self.type) <= _LONG_TYPE else brief(parse_type(self.type))


@dataclass(frozen=True, slots=True)
class OpInfo:
    """One op of a region.

    Attributes:
        number: Its position among all ops of its target.
        name: The op type.
        domain: The op's domain.
        slot: Slot it runs on; empty for ops of the framework.
        edge: Network edge it sends or receives, or empty.
        inputs: Values it reads.
        outputs: Values it gives.
        attributes: Its attributes, apart from large ones.
        placed: How its place was found: `inputs`, `away` (by inputs, on another class than the op
            before it), `cursor` or `at`; empty when a pass made it.
        after: Values that must exist first, though it does not read them.
        order: Ops of its slot that must have run, each by its first output.
        source: The user's file and line.
        inner: Of a call that stands for several tensor ops: their types, in order.
        shown: Its inputs as they are shown: numbers and calculations in place of their names.
        inlined: Whether it stands in the text of the op that takes it, so that lists leave it out.
    """

    number: int
    name: str
    domain: str
    slot: str
    edge: str
    inputs: tuple[str, ...]
    outputs: tuple[PortInfo, ...]
    attributes: dict[str, Any]
    placed: str
    after: tuple[str, ...]
    order: tuple[str, ...]
    source: str
    inner: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    inlined: bool = False

    @property
    def text(self) -> str:
        """The op as Python would write it: `params.3 = model.Params()`."""
        taken = ", ".join((*(name or "_" for name in self.shown or self.inputs), *settings(self)))
        given = ", ".join(port.name for port in self.outputs)
        called = expression(self) or f"{self.label}({taken})"
        return f"{given} = {called}" if given else called

    @property
    def label(self) -> str:
        """Slot and op, such as `model.Params`."""
        name = "+".join(self.inner) or self.name
        return f"{self.slot}.{name}" if self.slot else name

    @property
    def notes(self) -> tuple[str, ...]:
        """What does not follow from its inputs: what it waits for, and how it got its place."""
        waits = ", ".join(dict.fromkeys(self.after + self.order))
        how = {
            "inputs": "",
            "away": "placed by inputs, away from the cursor",
            "cursor": "placed by cursor",
            "at": "placed by g.at",
        }
        placed = how.get(self.placed, self.placed) if self.placed else "added by compiler"
        if self.name in ("Scalar", "Constant"):
            placed = ""  # it is written where it is used, and nobody asks where it runs
        return tuple(note for note in (f"after {waits}" if waits else "", placed) if note)


@dataclass(frozen=True, slots=True)
class Traffic:
    """What is sent: so many envelopes, so many bytes.

    Attributes:
        envelopes: How many envelopes.
        payload_bytes: Their payloads.
        envelope_bytes: All of it: preludes, headers and payloads.
        unknown: Edges among them whose bytes do not follow from the program.
    """

    envelopes: int
    payload_bytes: Span
    envelope_bytes: Span
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.envelopes:
            return "nothing"
        envelopes = f"{self.envelopes:,} envelope{'s'[: self.envelopes != 1]}"
        if not self.unknown:
            return f"{envelopes}, {self.envelope_bytes} bytes"
        # That it is at least the headers would be taken for a figure.
        return f"{envelopes}; the bytes of {', '.join(self.unknown)} are not known"


@dataclass(frozen=True, slots=True)
class RegionInfo:
    """What one event starts.

    Attributes:
        name: `main`, or the edge whose envelope opens it.
        parent: Region whose frames its frames are children of, or empty.
        opened_in: Region that sends the edge which opens it, or empty.
        deadline_ns: How long a frame may take.
        options: What else is said about it: the kind of a block, and what the program says of it.
        frames: How many frames one round runs, on all peers together.
        sends: What one frame sends.
        ops: Its ops in the order in which they stand.
    """

    name: str
    parent: str
    opened_in: str
    deadline_ns: int
    options: dict[str, Any]
    frames: int
    sends: Traffic
    ops: tuple[OpInfo, ...]

    @property
    def listed(self) -> tuple[OpInfo, ...]:
        """Its ops, without those that stand in the text of others."""
        return tuple(op for op in self.ops if not op.inlined)

    @property
    def block(self) -> str:
        """What kind of a block it is, and how often its frames run; empty for other regions."""
        said = self.options
        kind, times = str(said.get("kind", "")), said.get("times")
        if kind in ("rounds", "loop"):
            often = f"{times:,} times" if isinstance(times, int) else "times not fixed"
            width = said.get("width", 1)
            return f"{kind}, {often}" + (f", {width} at a time" if width != 1 else "")
        if kind == "every":
            period = said.get("period_ns")
            return f"every {format_duration(period)}" if isinstance(period, int) else kind
        topic = said.get("topic")
        return f"{kind} {topic!r}" if kind == "on" and isinstance(topic, str) else kind


@dataclass(frozen=True, slots=True)
class Binding:
    """The component in a slot.

    Attributes:
        slot: Name of the slot.
        role: Its role.
        component: Name of the component, or `module:Class`.
        config: What it was bound with, as JSON; empty when nothing was said.
    """

    slot: str
    role: str
    component: str
    config: str = ""


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """One installable function.

    Attributes:
        name: Name without hash, as `install` and `invoke` take it.
        hash: SHA-256 of its content, in hex.
        peer_class: Class of the peers that run it.
        phase: `body` or `bootstrap`.
        inputs: What `invoke` must be given.
        outputs: What it publishes.
        bindings: Its slots.
        regions: Its regions.
    """

    name: str
    hash: str
    peer_class: str
    phase: str
    inputs: tuple[PortInfo, ...]
    outputs: tuple[PortInfo, ...]
    bindings: tuple[Binding, ...]
    regions: tuple[RegionInfo, ...]


@dataclass(frozen=True, slots=True)
class EdgeInfo:
    """One network edge.

    Attributes:
        name: Its name in the program.
        id: The number that travels, in hex.
        source_class: Class that sends.
        target_class: Class that receives.
        sent_in: Region that sends it.
        phase: `body`, or `bootstrap` for what is sent once at the start.
        answers: Edge whose return addresses it is sent to, or empty.
        answered: Whether another edge answers it, so that it carries a return address.
        ports: What it carries.
        bytes: What one envelope weighs.
        per_frame: Envelopes that one frame of the sending region sends.
        per_round: Envelopes of one round, by all peers together.
        fan_out: Where `per_frame` is from: `sample`, `cohort`, `answer`, `gather`, or `assumed`.
        deadline_ns: How long an answer may take at most.
        source: The user's file and line.
        max_payload: Longer payloads are refused; 0 where each Node's own limit decides.
        retries: How often an envelope is sent again until the peer says that it came.
        replies: How often a peer answers with it.
        ordered: Whether it is opened in the order in which it was sent.
        grants: How many of the return addresses in it carry a grant.
        auto: Whether an answer is given up earlier when it takes longer than they usually do.
    """

    name: str
    id: str
    source_class: str
    target_class: str
    sent_in: str
    phase: str
    answers: str
    answered: bool
    ports: tuple[PortInfo, ...]
    bytes: EdgeBytes
    per_frame: int
    per_round: int
    fan_out: str
    deadline_ns: int
    source: str
    max_payload: int = 0
    retries: int = 0
    replies: int = 1
    ordered: bool = False
    grants: int = 0
    auto: bool = False

    @property
    def deadline(self) -> str:
        """How long an answer may take, as a program says it."""
        most = format_duration(self.deadline_ns)
        return f"auto, at most {most}" if self.auto else most


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One stage that ran.

    Attributes:
        name: Its name.
        changes: What it changed, in words; `None` when only its name is known.
        origin: Distribution and version of the plugin that it comes from; else empty.
    """

    name: str
    changes: tuple[str, ...] | None = None
    origin: str = ""

    @property
    def label(self) -> str:
        """The name, with where the stage comes from."""
        return f"{self.name} ({self.origin})" if self.origin else self.name


@dataclass(frozen=True)
class Contents:
    """What is in an artifact.

    Attributes:
        module: Name of the recorded Module.
        program: SHA-256 of the program without bindings, in hex.
        targets: What can be installed.
        edges: What goes over the network, requests before their answers.
        stages: The stages that made it, in order.
        round: What one round sends: each root region runs once, with all that follows from it.
        start: What the bootstrap sends: each of its regions and blocks once.
        cohort: Sizes of cohorts that were given, by peer class.
        dims: Lengths of dimensions that were given, by name.
    """

    module: str
    program: str
    targets: tuple[TargetInfo, ...]
    edges: tuple[EdgeInfo, ...]
    stages: tuple[StageInfo, ...]
    round: Traffic
    start: Traffic
    cohort: dict[str, int] = field(default_factory=dict[str, int])
    dims: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def a_round(self) -> str:
        """One round in words: which of how many, where the program fixes it."""
        regions = [r for t in self.targets if t.phase == "body" for r in t.regions]
        times = [r.options.get("times") for r in regions if r.options.get("kind") == "rounds"]
        fixed = len(times) == 1 and isinstance(times[0], int)
        return f"each of {times[0]:,} rounds" if fixed else "one round"

    @property
    def assumed(self) -> tuple[str, ...]:
        """Classes of which one peer is assumed per send, as the program leaves it open."""
        found = (e.target_class for e in self.edges if e.fan_out == "assumed")
        return tuple(dict.fromkeys(found))
