"""What install and a running Node can object to. An error's code is the name of its class."""

from __future__ import annotations

from typing import Any

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "AddressRefused",
    "ConfigTypeMismatch",
    "ConstructionFailed",
    "DeadlineExceeded",
    "DeliveryError",
    "EmptyTargets",
    "EndlessExchange",
    "EndlessLoop",
    "IncompatibleCompiledVersion",
    "InstallError",
    "InvalidArtifact",
    "InvalidBindingTable",
    "InvalidInput",
    "InvalidTrust",
    "JournalDamaged",
    "MissingConfig",
    "NoTurn",
    "NodeBroken",
    "NodeBusy",
    "NodeClosed",
    "NotAllowed",
    "NotCompiled",
    "NotReplayable",
    "NotStorable",
    "NotTrusted",
    "OpError",
    "Quarantined",
    "QuorumNotMet",
    "ReplayDiverged",
    "SlotBindingConflict",
    "SnapshotDamaged",
    "SnapshotError",
    "SnapshotForeign",
    "SnapshotNewer",
    "UnknownTarget",
    "UnregisteredComponent",
    "UnresolvedOp",
    "UnresolvedType",
]


class InstallError(BytesAndBrainsError):
    """An artifact cannot become a Node here; nothing of it was kept.

    What all errors of installing are kinds of. `LocalFederation` raises it itself when a class
    or a target is unknown.
    """


class InvalidArtifact(InstallError):
    """A file or message is no ONNX model, or lacks what the compiler writes.

    The file is missing, cut off, or written by another version. Compile the program again.
    """


class NotCompiled(InstallError):
    """A model was recorded and not compiled.

    It has no passport. Compile it: `Compiler().bind_...().compile(MyModule().build())`, or `bb
    compile`.
    """


class IncompatibleCompiledVersion(InstallError):
    """An artifact was made by a compiler that this runtime does not understand.

    Compile the program again with this version, or install the version that made it.
    """


class EmptyTargets(InstallError):
    """No target was named.

    `install` takes a list of the targets that the Node is to run; the error lists those of the
    artifact.
    """


class UnknownTarget(InstallError):
    """A target is named that the artifact does not hold.

    Targets are called after the Module, those of other classes `<Module>.<class>`; `bb explain`
    lists them.
    """


class InvalidBindingTable(InstallError):
    """A row of the binding table cannot be read, or one is missing.

    The artifact was edited, or written by another version. Compile the program again.
    """


class SlotBindingConflict(InstallError):
    """The artifact binds one slot of one target twice.

    The artifact was edited. Compile the program again.
    """


class UnregisteredComponent(InstallError):
    """A component that the artifact binds is not installed here, or its plugin is broken.

    Install the plugin on this machine too, or compile with components that are here. `bb
    plugins --check` says what is broken.
    """


class MissingConfig(InstallError):
    """A component needs a configuration value that was not given.

    Give it under the name of the slot: `install(..., config={"data": {"path": ...}})`, or when
    binding.
    """


class ConfigTypeMismatch(InstallError):
    """A configuration value has a wrong name or type, or another one than was compiled for.

    The error says what the field takes. Values that types depend on, such as the layers of a
    model, have to be those that the compiler was given.
    """


class ConstructionFailed(InstallError):
    """The constructor of a component raised, or components depend on each other in a circle.

    What it raised stands in the message. Check its configuration, and that the files it needs
    are here.
    """


class UnresolvedOp(InstallError):
    """An op can be carried out by no component and no plugin that is here.

    Its component does without an optional method, its backend lacks the op, or the plugin of
    the op is not installed. Bind another component, or install the plugin.
    """


class UnresolvedType(InstallError):
    """A type of a value needs a plugin that is not installed here, or is broken.

    Types that plugins add are encoded by their plugins. Install it on this machine too.
    """


class NotTrusted(InstallError):
    """An artifact is not signed by anybody whom the operator trusts, or was changed afterwards.

    `install(..., trusted=[...])` takes only artifacts that one of these keys signed, whole: ops,
    bindings and configuration. Have it signed with `bb sign FILE --key KEY`.
    """


class InvalidTrust(InstallError):
    """What `install` is told about whom and what to trust cannot be used.

    A secret that is too short, a key that is none, the hash of a program that is none, or an
    open class whose peers send nothing unasked.
    """


class NotAllowed(InstallError):
    """The artifact binds a component, or names a type, that the operator did not allow.

    `install(..., allow=[...])` bounds what an artifact may use on a machine. Allow it, or
    install another artifact.
    """


class DeliveryError(BytesAndBrainsError):
    """An envelope cannot be delivered, or a peer cannot be on the bus.

    Met by hosts, such as those who drive a `LocalBus` by hand. Give each Node an identity of
    its own, and report only steps of the Node itself.
    """


class AddressRefused(BytesAndBrainsError):
    """Addresses of a peer, or its record of them, cannot be taken.

    They are too many, of another peer, or the record is damaged, old, or not signed by the peer
    that it speaks of. Take records from the peer itself, and at most eight addresses.
    """


class OpError(BytesAndBrainsError):
    """A failure inside a running frame, or a call that cannot start one.

    What the errors of running are kinds of. The engine raises it itself where an op is given a
    value that it cannot use, such as a number of turns that is no number, and where a method
    returns another number of values than its op gives.
    """


class InvalidInput(OpError):
    """The inputs of an invocation, or an event, do not fit what the target declares.

    Met at `run`, `invoke` and `publish`, before anything runs. The error says which input, and
    its type.
    """


class DeadlineExceeded(OpError):
    """A block was not done at its deadline.

    Its turns took longer than `deadline=` allows, most often because peers did not answer. Give
    it more time, or fewer turns.
    """


class NoTurn(OpError):
    """The last value of a block was asked for, and no turn ran.

    `g.last(value)` has nothing to give after zero turns. Say what to take then: `g.last(value,
    default)`.
    """


class QuorumNotMet(OpError):
    """Too few peers answered before the deadline, or can answer at all.

    Lower the quorum, lengthen the deadline, or go on with what there is: `on_short="continue"`.
    Where answers came and ops of this Node failed on them, the error says how many and with which
    codes: put that right first. The failures, also of the peers, are steps of their own.
    """


class NodeBroken(OpError):
    """A Node is used through which something passed that is no `Exception`, such as Ctrl-C.

    An op was interrupted in its middle, so nobody knows what its component holds. Install a new
    Node, or restore one.
    """


class NodeClosed(OpError):
    """A Node is used that was told to close.

    It starts nothing new: what is in flight comes to its end, and then the Node has none. Install
    another Node, with a larger incarnation if it is the same peer.
    """


class EndlessLoop(OpError):
    """A Node runs and runs, and never waits for anything.

    A loop whose `until` never comes true, or events and rounds that start each other. On a
    `LocalBus` and in a simulation no time passes meanwhile, so its deadline never comes. Give the
    loop an end, or have it wait: `g.sleep("1s", value)`. A program that does compute for so long
    needs a host that allows it: `federation.bus.max_ops = ...`.
    """


class EndlessExchange(EndlessLoop):
    """Nodes send each other envelopes, and never come to rest.

    What one sends makes another send, by an event that is published or a block of rounds without
    an end, and no time passes meanwhile: on a `LocalBus`, or in a simulation whose links and work
    take none. Let them wait, `g.sleep("1s", value)`, or end it by a condition. A program that does
    send so much at one instant needs a host that allows it: `federation.bus.max_envelopes = ...`.
    """


class Quarantined(OpError):
    """An op needs a component that is stuck: work that was given up has not come back.

    A method deferred work, its frame ended, and the work goes on (`ComponentStuck`). Nobody may
    use the component meanwhile, so ops fail at once instead of waiting. See what the work waits
    for, and give it a time limit of its own. `Options.stuck_after_ns` says when it is too late.
    """


class JournalDamaged(BytesAndBrainsError):
    """A journal holds a record that is not what was written, or is no journal.

    The file was changed, a part of it is missing, or another version wrote it. Records before
    the one that the error names are good: `bb replay --until`. A record that was being written
    when the machine stopped is no damage; it is cut off.
    """


class NotReplayable(BytesAndBrainsError):
    """A journal lacks something that its replay needs.

    A value that cannot be written, such as an object of one's own, or a secret, stands in it by
    the name of its type only. What configured a component is handed in: `replay(journal,
    config={"slot": {...}})`; of values that came in later, inputs and what devices gave, there
    is no copy.
    """


class ReplayDiverged(BytesAndBrainsError):
    """A replay does not do what the journal says that the Node did.

    A component is not deterministic (it reads a clock, a file, or random numbers that are not of
    `ctx.rng()`), other versions are installed than those that recorded, or the machine computes
    otherwise; the journal's first record names its fingerprint.

    Attributes:
        record: Number of the record.
        op: Op that the first other step is about, as far as it is about one.
        frame: Frame that it is about, likewise.
    """

    def __init__(
        self, found: str, *, record: int, op: str = "", frame: object = None, **facts: Any
    ) -> None:
        super().__init__(found, **facts)
        self.record = record
        self.op = op
        self.frame = frame


class SnapshotError(BytesAndBrainsError):
    """A Node or a bus cannot be written down, or not be restored; it is as it was before.

    What all errors of snapshots are kinds of. Raised itself when a component fails to save or to
    load its state, or to make a value again that a frame held, and when a Node that starts after a
    crash has no new incarnation.
    """


class NodeBusy(SnapshotError):
    """Work is under way on a Node that cannot be begun again, or an envelope is half received.

    Met at snapshots: a device is at work that may not be asked twice, work was given what cannot
    be written, or a component is stuck. A Node that is to be restored may have no work under way at
    all. Call `node.pause()`, which lets no more of it begin, and poll until it has come back.
    """


class NotStorable(SnapshotError):
    """A frame that goes on holds a value that means nothing in another process.

    Such as batches that their data source cannot make again. Give them a `Recipe`, take the
    snapshot between rounds, or have the program hold the value as a list or a tensor.
    """


class SnapshotDamaged(SnapshotError):
    """Bytes are no snapshot, or not all of one.

    The file was cut off or changed. Restore an older one.
    """


class SnapshotForeign(SnapshotError):
    """A snapshot is of another Node, or of other Nodes, than it is given to.

    Program, targets, peer, seed and components have to be the same. Install the Node as the one
    that was saved. The snapshot of a bus needs all Nodes that were on it.
    """


class SnapshotNewer(SnapshotError):
    """A snapshot was written by a newer version than the one that reads it.

    Install that version.
    """
