"""Everything the compiler can object to. Each error has a code: the name of its class."""

from __future__ import annotations

from bb_ir.errors import BytesAndBrainsError

__all__ = [
    "AggregatesEarly",
    "AmbiguousPlacement",
    "AnswersTwice",
    "ArtifactInvalid",
    "BadBinding",
    "BadConfig",
    "BadReplies",
    "BadStage",
    "BlockEscape",
    "BoundTwice",
    "CompileError",
    "ComponentOpMisfit",
    "ComponentTypeMisfit",
    "CrossClassDataflow",
    "DeadlineInversion",
    "DependencyMissing",
    "EdgeLimitTooLow",
    "FanOutEscape",
    "Findings",
    "GatherOutsideFanOut",
    "MalformedRecording",
    "MixedDeadlines",
    "NotSendable",
    "NothingContributed",
    "NothingWaits",
    "OutsideBlock",
    "QuorumUnreachable",
    "RefusedByStage",
    "SenderOutsideMessage",
    "SeveralErrors",
    "SiblingRegions",
    "StageFailed",
    "TypeMismatch",
    "UnboundSlot",
    "UnknownOp",
    "UnknownPeerClass",
    "UnknownSlot",
    "UnknownStage",
    "WrongRole",
]

#: Errors that are printed of those that one pass found; nobody reads on, and one may be the cause
#: of the others.
MOST_SHOWN = 20


class CompileError(BytesAndBrainsError):
    """A program cannot be compiled.

    What all errors of the compiler are kinds of; it is caught, never raised itself.
    """


class SeveralErrors(CompileError):
    """One pass of the compiler found several errors.

    They are printed one after the other, at most twenty of them. Mend the first ones first:
    later ones may follow from them.

    Attributes:
        errors: The errors, in the order of the program.
    """

    def __init__(self, errors: list[CompileError]) -> None:
        self.errors = tuple(errors)
        super().__init__(f"{len(errors)} errors")

    def __str__(self) -> str:
        told = [f"{error.code}: {error}" for error in self.errors[:MOST_SHOWN]]
        rest = len(self.errors) - MOST_SHOWN
        return "\n\n".join([*told, f"and {rest} more"] if rest > 0 else told)


class Findings:
    """Collects the errors of one pass, to report them together."""

    def __init__(self) -> None:
        self.errors: list[CompileError] = []
        self._told: set[tuple[str, str]] = set()

    def add(self, error: CompileError) -> None:
        """Remember an error, unless the same was found before."""
        told = (error.code, str(error))
        if told not in self._told:
            self._told.add(told)
            self.errors.append(error)

    def done(self) -> None:
        """Raise what was found.

        Raises:
            CompileError: The one error, or `SeveralErrors`.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise SeveralErrors(self.errors)


class MalformedRecording(CompileError):
    """What is compiled is no recorded model, or breaks the rules of the IR.

    Met when something else than the result of `Module.build()` is compiled: a Module, a class,
    an artifact, or a model that a tool wrote. Compile `MyModule().build()`.
    """


class UnknownOp(CompileError):
    """An op is used that no role and no standard defines, or not in this form.

    Most often a misspelt name in `self.backend.op(g, "MatMul", ...)`, or another number of
    inputs than ONNX gives the op.
    """


class CrossClassDataflow(CompileError):
    """Values of two peer classes meet in one op without a network edge.

    An op runs on one peer, so everything that it reads must be there. Carry one of the values
    over with `g.net_out`, together with what is sent there anyway. The first line is the op,
    those below say where its values are made.
    """


class SiblingRegions(CompileError):
    """Values meet in one op that different events bring, so that no frame has both.

    Two messages, or a message and an invocation, start frames of their own even on the same
    peer. Send both values in one `g.net_out`, keep one in the state of a slot, or gather the
    replies first.
    """


class AnswersTwice(CompileError):
    """An answer is sent in every turn of a loop, though the question came once.

    A frame that asked takes one answer from each peer; it would never hear of the later ones.
    Answer after the loop, ask inside it, or say with `replies=` how often a peer answers.
    """


class AmbiguousPlacement(CompileError):
    """An op that reads nothing stands where the op before it stands, but is used elsewhere.

    `self.model.params(g)` reads no value that would say on which peer it is meant. Move the
    line to where its use stands, or say it: `with g.at(value):` or `with g.at("class"):`.
    """


class BlockEscape(CompileError):
    """A value of a block is used where the turn that made it is not.

    Every turn makes its own value. After `loop`, `each` or `when`, `g.last(value)` takes the
    last one and `g.gather(value, values=True)` all of them; rounds and ticks publish with
    `g.output` inside.
    """


class OutsideBlock(CompileError):
    """An op that is recorded inside a block would run outside it.

    Its inputs, or the op before it, place it on a peer or in a frame that nothing inside the
    block leads to. Move it out, or send inside the block what it needs.
    """


class NothingWaits(CompileError):
    """A `g.sleep` delays nothing, because nothing takes its result.

    What is recorded after it does not wait for it: only what uses the value that it returns does.
    """


class FanOutEscape(CompileError):
    """A value that exists once per reply is used where there is only one frame.

    Eight peers answer, so there are eight values. Gather them first: `done = g.gather(value,
    values=True)` has them all, and an aggregator folds them one by one.
    """


class GatherOutsideFanOut(CompileError):
    """A gather is over something that does not exist once per reply, or is no gather of turns.

    Let the peers answer: send to `g.sender(received)`, and gather what comes back. Over turns
    of a block there are no senders, no quorum and no missing peers.
    """


class SenderOutsideMessage(CompileError):
    """The sender is asked of a value that no message brought.

    Only what arrived over an edge has a sender. Take that of a value that `g.net_out` returned,
    or of what was made of one.
    """


class NothingContributed(CompileError):
    """A round is aggregated to which nothing contributes.

    Nothing that this run of the program starts calls `contribute` on the slot, so `aggregate`
    could only fail. Contribute to the same slot: in a reply to what the run sent, in one of its
    blocks, or beside the `aggregate`.
    """


class AggregatesEarly(CompileError):
    """A round is aggregated without waiting for the replies that contribute to it.

    Ops of different regions are ordered by values only, so `aggregate` would run at once, before
    anybody answered. Gather the contributions, and let it wait: `aggregate(g, after=done)`. An
    `aggregate` in the region in which all is contributed, as in gossip, needs no gather.
    """


class UnknownPeerClass(CompileError):
    """Nobody knows which class of peers is meant, or nothing runs on the class that is named.

    Peers to send to come from a `PeerSelector(of="class")` slot, from `g.peers(name, of=...)`,
    or are return addresses. `with g.at("class")` needs a class that the program has reached.
    """


class DeadlineInversion(CompileError):
    """An inner gather or block may wait longer than the outer one that waits for it.

    The outer one would give up while the inner one still works. Give the inner one the shorter
    deadline.
    """


class MixedDeadlines(CompileError):
    """Of two gathers of the same answers, one measures how long they may take, and one does not.

    What is overdue is given up, and would be lost to the gather that goes on waiting. Say
    `deadline="auto"` in both, or in none.
    """


class QuorumUnreachable(CompileError):
    """A gather wants more answers than peers are asked.

    It could only end by failing. Lower the quorum, say a share such as `quorum=0.8`, or sample
    more peers.
    """


class BadBinding(CompileError):
    """What is bound to a slot is no component, or none that an installer could find again.

    Bind the name of an installed component, or a class at the top level of a module that
    inherits the contract of the role.
    """


class BoundTwice(CompileError):
    """A slot is bound a second time on the same class.

    One of the two would silently win, so it is asked which one is meant. Leave one out. A binding
    for one class, `on="client"`, stands beside one for all.
    """


class BadConfig(CompileError):
    """A configuration that is given with a binding does not fit its component, or is no plain data.

    An artifact holds it as JSON, so it consists of numbers, texts, lists and mappings; what
    cannot be written down is given to `install`.
    """


class UnboundSlot(CompileError):
    """The program uses a slot that nobody bound.

    Bind a component for it, on every class on which the slot is used:
    `Compiler().bind_model("model", "mlp")`.
    """


class UnknownSlot(CompileError):
    """A binding names a slot that the program does not have, or a class on which it is not used.

    Most often a misspelt name. Slots are called after the attributes of the Module, those of
    sub-modules `<attribute>.<slot>`.
    """


class WrongRole(CompileError):
    """A component of one role is bound to a slot of another.

    A slot takes components of its own role: bind it with `bind_<role>`.
    """


class DependencyMissing(CompileError):
    """A component needs a sibling slot that is not bound, or is bound to another role.

    Components may depend on others, such as a model on a backend. Bind a slot of that name too.
    """


class ComponentTypeMisfit(CompileError):
    """A component declares types that its role rules out.

    A defect of the component, not of your program. Its `types` may only narrow what the role
    says; tell its author, or bind another.
    """


class ComponentOpMisfit(CompileError):
    """A slot is used for an op that its component does not have, or has in another form.

    Met with protocols and other components that have ops of their own. Bind the component that
    the slot's class was written for, in a version that fits.
    """


class TypeMismatch(CompileError):
    """A value of one type is used where another is needed.

    Types are followed through the whole program and across the network. The first line is the
    use, those below lead to where the value was made.
    """


class NotSendable(CompileError):
    """A value crosses the network that only makes sense on its own Node, or is of unknown type.

    Batches, return addresses and values of types that no installed plugin knows stay where they
    are. Send what the other side needs of them, or say the type of the input.
    """


class UnknownStage(CompileError):
    """A stage of the compiler is named that is not in the list.

    Met at `insert_stage` and `without_stage`. The error lists the stages; a stage of your own
    is named after its function.
    """


class EdgeLimitTooLow(CompileError):
    """A send allows fewer bytes than its values take.

    `max_bytes=` bounds what a receiver accepts on an edge; the types say that every envelope is
    larger. Raise it, or leave it out.
    """


class BadReplies(CompileError):
    """A peer is to answer more than once where it cannot, or where that cannot be counted.

    `replies=` says how often a peer sends an answer, in the turns of a block. Say as many as it
    really sends, on a send to return addresses that nobody answers in turn; and wait for them with
    a gather that has a deadline of its own.
    """


class BadStage(CompileError):
    """What is inserted as a stage is none, is there already, or has the name of another.

    A stage is a function from model to model, or the name of one that a plugin adds.
    """


class StageFailed(CompileError):
    """A stage that somebody added raises an error, or returns no model.

    A defect of the stage, not of your program: repair it, or leave it out with `without_stage`.
    """


class RefusedByStage(CompileError):
    """A stage that a plugin or you added objects to the program.

    What it says is its own error; what it wants of the program stands in its documentation.
    """


class ArtifactInvalid(CompileError):
    """The compiled model breaks the rules of ONNX or of the runtime.

    The last pass checks what all others made. Look at stages that you inserted; without any, it
    is a defect of the compiler, so please report it.
    """
