"""Every error of the compiler, provoked by a program that a user could write.

Each test holds a small Module, the kind of error, the texts that its message must hold, and the
lines of the Module that it must name, in order: those marked `# (1)`, `# (2)`.
"""

import inspect
import re
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from bb_compiler import Compiler, SeveralErrors
from bb_compiler.errors import (
    AggregatesEarly,
    AmbiguousPlacement,
    ArtifactInvalid,
    BadBinding,
    BadConfig,
    CompileError,
    ComponentOpMisfit,
    ComponentTypeMisfit,
    CrossClassDataflow,
    DeadlineInversion,
    DependencyMissing,
    EdgeLimitTooLow,
    FanOutEscape,
    GatherOutsideFanOut,
    MalformedRecording,
    NothingContributed,
    NotSendable,
    QuorumUnreachable,
    SenderOutsideMessage,
    SiblingRegions,
    TypeMismatch,
    UnboundSlot,
    UnknownOp,
    UnknownPeerClass,
    UnknownSlot,
    UnknownStage,
    WrongRole,
)
from bb_dsl import Module, slots
from bb_ir.errors import SourceLine
from bb_ir.ops import OpSchema, Port, ops
from bb_ir.text import parse_model, print_model
from bb_ir.types import scalar, tensor
from bb_roles.contracts import Backend, DataSource, Model, PeerSelector, Protocol
from bb_roles.errors import UnknownPluginError


class Federated(Module):
    """The slots that most programs here need."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()


def marked(module):
    """Return the places of the lines of a Module marked `# (1)`, `# (2)`, ..., in that order."""
    lines, first = inspect.getsourcelines(type(module))
    found = {}
    for at, line in enumerate(lines):
        if mark := re.search(r"# \((\d)\)", line):
            found[int(mark[1])] = first + at
    return [found[n] for n in sorted(found)]


@pytest.fixture
def refused(compiled):
    """Return a function that compiles a Module and checks what the compiler objects to."""

    def refuse(module, kind, *texts):
        with pytest.raises(kind) as caught:
            compiled(module)
        error = caught.value
        check(error, kind, *texts)
        where = [place.line for place in error.where if isinstance(place, SourceLine)]
        assert where == marked(module), str(error)
        assert all(place.file.endswith("test_errors.py") for place in error.where)
        lines = inspect.getsourcelines(inspect.getmodule(module))[0]
        for number in where:
            assert lines[number - 1].strip() in str(error)
        return error

    return refuse


def check(error, kind, *texts):
    assert type(error) is kind
    assert error.code == kind.__name__
    for text in texts:
        assert text in str(error), str(error)
    assert error.expected or error.fix, "an error says what was expected, or what to do"


# Places


class UsesAReceivedValueBesideALocalOne(Federated):
    backend = slots.Backend()

    def body(self, g):
        mine = g.input("mine", tensor("float32", (4,)))
        theirs = g.net_out("sent", self.peers.sample(g, 2), mine * 2)  # (2)
        g.output("sum", mine + theirs)  # (1)


def test_values_of_two_classes_in_one_op(refused):
    refused(
        UsesAReceivedValueBesideALocalOne(),
        CrossClassDataflow,
        "Add reads",
        "class 'server' (region 'main', ",
        "class 'client' (region 'sent', ",
        "net_out",
    )


class ParamsOfTheWrongPlace(Federated):
    def body(self, g):
        g.net_out("weights", self.peers.sample(g, 2))
        mine = self.model.params(g)  # (1)
        with g.at("server"):
            self.model.load_params(g, mine)  # (2)


def test_op_without_inputs_whose_use_stands_elsewhere(refused):
    refused(
        ParamsOfTheWrongPlace(),
        AmbiguousPlacement,
        "Params of slot 'model' reads nothing that says where it runs",
        "class 'client' (region 'weights', ",
        "LoadParams uses its 'params",
        "class 'server' (region 'main', ",
        "with g.at(",
    )


class Gossip(Module):
    neighbours = slots.PeerSelector()
    backend = slots.Backend()

    def body(self, g):
        mine = g.input("mine", tensor("float32", (4,)))
        theirs = g.net_out("push", self.neighbours.sample(g, 1), mine)  # (2)
        g.output("mixed", (theirs + mine) * 0.5)  # (1)


def test_received_value_beside_a_local_one_on_the_same_class(refused):
    refused(
        Gossip(),
        SiblingRegions,
        "Add reads 'mine' of class 'Gossip' (region 'main', ",
        "of class 'Gossip' (region 'push', ",
        "no frame has both",
        "net_out",
    )


class UnknownClass(Federated):
    def body(self, g):
        g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        with g.at("cleint"):
            self.model.params(g)  # (1)


def test_place_on_a_class_that_is_none(refused):
    refused(
        UnknownClass(), UnknownPeerClass, "'cleint'", "server, client", "did you mean 'client'?"
    )


class PeersOfNoClass(Federated):
    def body(self, g):
        found = g.input("found", "peers")
        g.net_out("weights", found, self.model.params(g))  # (1)


def test_peers_of_unknown_class(refused):
    refused(PeersOfNoClass(), UnknownPeerClass, "edge 'weights'", "'found'", "PeerSelector(of=...)")


class PeersForgotten(Federated):
    def body(self, g):
        params = self.model.params(g)  # (2)
        g.net_out("weights", params, self.peers.sample(g, 2))  # (1)


def test_value_where_peers_are_expected(refused):
    refused(
        PeersForgotten(), UnknownPeerClass, "params, which are no peers", "the peers come first"
    )


# Fan-out


class AggregatesEachReply(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)  # (2)
        averaged, _ = self.aggregator.aggregate(g, after=folded)  # (1)
        self.model.load_params(g, averaged)


def test_aggregate_after_a_reply_instead_of_a_gather(refused):
    refused(
        AggregatesEachReply(),
        FanOutEscape,
        "Aggregate takes the result of a whole round",
        "once for every reply on edge 'update'",
        "it waits for what Contribute gives, 'done",
        "done = g.gather(value, ...)",
    )


class AggregatesAtTheCursor(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        self.aggregator.contribute(g, *reply)
        self.aggregator.aggregate(g)  # (1)


def test_aggregate_where_the_cursor_left_it(refused):
    refused(AggregatesAtTheCursor(), FanOutEscape, "the op before it stands there", "after=done")


class AggregatesNothing(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        done = g.gather(g.net_out("update", g.sender(received), self.model.params(g)))
        self.aggregator.aggregate(g, after=done)  # (1)


def test_round_to_which_nothing_contributes(refused):
    refused(
        AggregatesNothing(),
        NothingContributed,
        "Aggregate of slot 'aggregator'",
        "class 'server' (region 'main', which an invocation starts), to which nothing contributes",
        "self.aggregator.contribute(g, params, metrics)",
    )


class AnswersToTheCohort(Federated):
    def body(self, g):
        cohort = self.peers.sample(g, 8)  # (3)
        received = g.net_out("weights", cohort, self.model.params(g))  # (2)
        metrics = self.model.fit(g, self.data.batches(g, after=received))
        reply = g.net_out("update", cohort, self.model.params(g), metrics)  # (1)
        self.aggregator.contribute(g, *reply)


def test_answer_that_is_sent_to_the_peers_that_were_asked(refused):
    refused(
        AnswersToTheCohort(),
        CrossClassDataflow,
        "edge 'update' is sent from class 'client'",
        "fix: g.net_out('update', g.sender(received), ...), where received is what "
        "g.net_out('weights', ...) returned",
    )


class SendsToTheCohortAgain(Federated):
    def body(self, g):
        cohort = self.peers.sample(g, 8)  # (3)
        g.net_out("hello", cohort)
        weights = self.model.params(g)  # (1)
        g.net_out("weights", cohort, weights)  # (2)


def test_send_that_may_be_an_answer_or_not(refused):
    refused(
        SendsToTheCohortAgain(),
        AmbiguousPlacement,
        "fix: to answer whoever sent 'hello', send to g.sender(received); to send from where the "
        "peers are known, move it up there",
    )


class SendsWhatCannotTravel(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 8), self.model.params(g))
        batches = self.data.batches(g, after=received)  # (2)
        reply = g.net_out("update", g.sender(received), self.model.params(g), batches)  # (1)
        self.aggregator.contribute(g, *reply)
        g.net_out("again", self.peers.sample(g, 8), reply[1])


def test_what_follows_from_a_value_that_cannot_travel_is_not_told(refused):
    refused(SendsWhatCannotTravel(), NotSendable, "cannot cross edge 'update'")


class AggregatesWithoutWaiting(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)  # (2)
        g.output("count", g.gather(folded).count)  # (3)
        averaged, _ = self.aggregator.aggregate(g)  # (1)
        self.model.load_params(g, averaged)


def test_round_that_is_taken_before_the_replies(refused):
    refused(
        AggregatesWithoutWaiting(),
        AggregatesEarly,
        "Aggregate of slot 'aggregator' waits for no reply 'update'",
        "fix: done = g.gather(...) is there: self.aggregator.aggregate(g, after=done)",
    )


class AggregatesBesideItsOwnPart(Federated):
    def body(self, g):
        before = g.now()
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        self.aggregator.contribute(g, *reply)  # (2)
        with g.at(before):
            own = self.model.evaluate(g, self.data.batches(g))
            self.aggregator.contribute(g, self.model.params(g), own)
            self.aggregator.aggregate(g)  # (1)


def test_round_with_a_part_of_its_own_that_is_taken_before_the_replies(refused):
    refused(AggregatesBesideItsOwnPart(), AggregatesEarly, "fix: done = g.gather(folded), then")


class AggregatesAnotherFanOut(Federated):
    def body(self, g):
        with g.at("server"):
            cohort = self.peers.sample(g, 2)
            weights = self.model.params(g)
        received = g.net_out("weights", cohort, weights)
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        self.aggregator.contribute(g, *reply)  # (2)
        pinged = g.net_out("ping", cohort)
        pongs = g.gather(g.net_out("pong", g.sender(pinged)))
        self.aggregator.aggregate(g, after=pongs)  # (1)


def test_gather_of_another_fan_out_waits_for_nothing(refused):
    refused(AggregatesAnotherFanOut(), AggregatesEarly, "waits for no reply 'update'")


def rounds(after):
    """Return a body whose aggregate waits in some way."""

    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        after(self, g, g.gather(folded))

    return body


def slot_order(self, g, done):
    memory = g.record(examples=g.scalar(1))
    self.aggregator.contribute(g, self.model.params(g, after=done), memory)
    self.aggregator.aggregate(g)


def condition(self, g, done):
    with g.when(done.count > 1):
        self.aggregator.aggregate(g)


def second_phase(self, g, done):
    asked = g.net_out("again", done.senders)
    told = g.gather(g.net_out("told", g.sender(asked)))
    self.aggregator.aggregate(g, after=told)


def some_time(self, g, done):
    self.aggregator.aggregate(g, after=g.sleep("30s"))


@pytest.mark.parametrize("after", [slot_order, condition, second_phase, some_time])
def test_round_that_waits_in_some_other_way(compiled, after):
    program = type("Waits", (Federated,), {"body": rounds(after)})

    assert compiled(program()).functions


class AggregatesAnotherSlot(Federated):
    spare = slots.Aggregator()

    def body(self, g):
        metrics = self.model.fit(g, self.data.batches(g))
        folded = self.aggregator.contribute(g, self.model.params(g), metrics)  # (2)
        self.spare.aggregate(g, after=folded)  # (1)


def test_round_of_another_slot_than_what_contributes(refused):
    refused(
        AggregatesAnotherSlot(),
        NothingContributed,
        "here something contributes to slot 'aggregator'",
        "fix: aggregate slot 'aggregator'",
    )


class AggregatesInAnotherRound(Federated):
    def body(self, g):
        metrics = self.model.fit(g, self.data.batches(g))
        self.aggregator.contribute(g, self.model.params(g), metrics)  # (2)
        with g.rounds(3):
            self.aggregator.aggregate(g)  # (1)


def test_round_of_a_block_of_its_own_to_which_nothing_contributes(refused):
    refused(
        AggregatesInAnotherRound(),
        NothingContributed,
        "started by the rounds block",
        "of another round, that of class 'server' (region 'main'",
    )


class AggregatesWhatItsTurnsContributed(Federated):
    def body(self, g):
        with g.each(self.data.batches(g)):
            metrics = self.model.fit(g, self.data.batches(g))
            self.aggregator.contribute(g, self.model.params(g), metrics)
        averaged, _ = self.aggregator.aggregate(g)
        self.model.load_params(g, averaged)


def test_turns_of_a_block_contribute_to_the_round_around_it(compiled):
    assert compiled(AggregatesWhatItsTurnsContributed()).functions


class ReadsAReplyAtItsParent(Federated):
    def body(self, g):
        cohort = self.peers.sample(g, 2)
        received = g.net_out("weights", cohort)
        update = g.net_out("update", g.sender(received), self.model.params(g))  # (2)
        with g.at(cohort):
            self.model.load_params(g, update)  # (1)


def test_reply_read_in_the_round(refused):
    refused(
        ReadsAReplyAtItsParent(),
        FanOutEscape,
        "LoadParams is placed on class 'server' (region 'main', ",
        "exists once for every reply on edge 'update'",
        "done.values",
    )


class MixesAReplyWithTheGather(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        params, _ = g.net_out("update", g.sender(received), self.model.params(g), metrics)  # (3)
        done = g.gather(params)  # (2)
        self.model.load_params(g, params, after=done)  # (1)


def test_reply_mixed_with_the_gather_over_it(refused):
    refused(
        MixesAReplyWithTheGather(),
        FanOutEscape,
        "LoadParams runs once for every reply on edge 'update'",
        "needs 'count",
        "only after those replies were gathered",
    )


class MixesAReplyWithWhatCameOfTheGather(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))
        metrics = self.model.fit(g, self.data.batches(g))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)  # (3)
        done = g.gather(self.aggregator.contribute(g, *reply))
        averaged, _ = self.aggregator.aggregate(g, after=done)  # (2)
        self.aggregator.contribute(g, averaged, reply[1])  # (1)


def test_reply_mixed_with_a_value_made_of_the_gather(refused):
    refused(MixesAReplyWithWhatCameOfTheGather(), FanOutEscape, "Contribute runs once for every")


class GathersWhatExistsOnce(Federated):
    def body(self, g):
        received = g.net_out("weights", self.peers.sample(g, 2), self.model.params(g))  # (2)
        g.gather(received)  # (1)


def test_gather_over_what_is_no_reply(refused):
    refused(
        GathersWhatExistsOnce(),
        GatherOutsideFanOut,
        "class 'client' (region 'weights', ",
        "g.sender(received)",
    )


class SenderOfALocalValue(Federated):
    def body(self, g):
        params = self.model.params(g)  # (2)
        g.net_out("back", g.sender(params), params)  # (1)


def test_sender_of_a_value_that_nobody_sent(refused):
    refused(SenderOfALocalValue(), SenderOutsideMessage, "no message brought it")


class Impatient(Module):
    peer_class = "cloud"
    edges = slots.PeerSelector(of="edge")
    clients = slots.PeerSelector(of="client")
    model = slots.Model()

    def body(self, g):
        down = g.net_out("down", self.edges.sample(g, 2), self.model.params(g))
        work = g.net_out("work", self.clients.sample(g, 5), down)
        back = g.net_out("back", g.sender(work), self.model.params(g))
        done = g.gather(back, deadline="2m")  # (1)
        up = g.net_out("up", g.sender(down), self.model.params(g, after=done))
        g.gather(up, deadline="30s")  # (2)


def test_inner_gather_that_outlasts_the_outer_one(refused):
    refused(Impatient(), DeadlineInversion, "may wait 2m", "gives up after 30s")


class AsksTooFew(Federated):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def body(self, g):
        work = g.net_out("work", self.peers.sample(g, 8), self.model.params(g))  # (2)
        back = g.net_out("back", g.sender(work), self.model.params(g))
        g.gather(back, **self.options)  # (1)


def test_quorum_above_the_sample(refused):
    refused(
        AsksTooFew(quorum=12),
        QuorumUnreachable,
        "12 answers are wanted, and at most 8 peers are asked",
        "quorum=8 at most",
    )


@pytest.mark.parametrize(
    "options", [{"quorum": 8}, {"quorum": 1.0}, {"quorum": 12, "on_short": "continue"}]
)
def test_quorum_that_can_be_met_or_need_not_be(compiled, options):
    assert compiled(AsksTooFew(**options)).functions


class AsksAll(Federated):
    def body(self, g):
        work = g.net_out("work", self.peers.current_view(g), self.model.params(g))
        g.gather(g.net_out("back", g.sender(work), self.model.params(g)), quorum=12)


def test_quorum_over_peers_whose_number_is_not_known(compiled):
    assert compiled(AsksAll()).functions


# Slots and bindings


class AnyOf(PeerSelector):
    """Stands in a binding."""


class AnyModelOf(Model):
    """Stands in a binding."""


class AnyDataOf(DataSource):
    """Stands in a binding."""


class NeedsABackend(Model):
    depends: ClassVar = {"backend": Backend}


class Trains(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        self.model.fit(g, self.data.batches(g))


def compile_error(compiler, module=None):
    with pytest.raises(CompileError) as caught:
        compiler.compile((module or Trains()).build())
    return caught.value


def test_unbound_slot():
    error = compile_error(Compiler().bind_model("model", AnyModelOf))

    check(
        error,
        UnboundSlot,
        "slot 'data' is used on class 'Trains'",
        "bind_data_source",
        "bb plugins",
    )
    assert "self.model.fit(g, self.data.batches(g))" in str(error)


def test_unbound_slot_that_a_binding_almost_names():
    compiler = Compiler().bind_model("model", AnyModelOf).bind_data_source("dada", AnyDataOf)

    error = compile_error(compiler)

    check(error, UnboundSlot, "a binding names 'dada'", "did you mean 'data'")


def test_binding_of_an_unknown_slot():
    compiler = Compiler().bind_model("model", AnyModelOf).bind_data_source("data", AnyDataOf)

    error = compile_error(compiler.bind_model("modle", AnyModelOf))

    check(error, UnknownSlot, "slot 'modle'", "one of data, model", "did you mean 'model'?")


def test_binding_on_a_class_that_does_not_use_the_slot():
    compiler = Compiler().bind_model("model", AnyModelOf).bind_data_source("data", AnyDataOf)

    error = compile_error(compiler.bind_model("model", AnyModelOf, on="trains"))

    check(
        error,
        UnknownSlot,
        "on class 'trains'",
        "used on class 'Trains'",
        "did you mean on='Trains'?",
    )


def test_component_of_the_wrong_role():
    compiler = Compiler().bind_model("model", AnyModelOf).bind_model("data", AnyModelOf)

    error = compile_error(compiler)

    check(error, WrongRole, "'data' is a data_source slot", "of role model", "bind_data_source")


def test_dependency_that_is_not_bound():
    compiler = Compiler().bind_model("model", NeedsABackend).bind_data_source("data", AnyDataOf)

    error = compile_error(compiler)

    check(error, DependencyMissing, "NeedsABackend", "needs slot 'backend', which is not bound")


def test_dependency_of_another_role():
    compiler = Compiler().bind_model("model", NeedsABackend).bind_data_source("data", AnyDataOf)

    error = compile_error(compiler.bind_model("backend", AnyModelOf))

    check(error, DependencyMissing, "which is bound to a model", "of role backend")


class Previews(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        batch, _ = self.data.next_batch(g)
        self.model.forward(g, batch)
        g.output("params", self.model.params(g))


class Mistyped(AnyModelOf):
    types: ClassVar[dict[str, str]] = {"Params.params": "tensor(float32)"}


def test_component_that_declares_what_its_role_rules_out():
    compiler = Compiler().bind_model("model", Mistyped).bind_data_source("data", AnyDataOf)

    error = compile_error(compiler, Previews())

    check(error, ComponentTypeMisfit, "Params.params as tensor(float32)", "within params")


GREET = OpSchema("Greet", "greet", (Port("name", scalar("string")),), (Port("n", scalar("int64")),))


class GreeterHandle(slots.ProtocolHandle):
    ops = ops(GREET)

    def greet(self, g, name):
        return self._aloud(g, name)

    def _aloud(self, g, name):
        return self._record(g, "Greet", name)[0]


class Greeter(slots.Slot):
    handle = GreeterHandle


class Greets(Module):
    greeter = Greeter()

    def body(self, g):
        g.output("n", self.greeter.greet(g, g.input("name", scalar("string"))))  # (1)


class GreetsANumber(Module):
    greeter = Greeter()

    def body(self, g):
        number = g.input("name", scalar("int64"))  # not an op, so no line of its own
        g.output("n", self.greeter.greet(g, number))  # (1)


class Speaker(Protocol):
    ops = ops(GREET)


class Silent(Protocol):
    """Has no ops at all."""


class Shouter(Protocol):
    ops = ops(OpSchema("Great", "great"), OpSchema("Shout", "shout"))


class Reader(Protocol):
    ops = ops(replace(GREET, effect="reads"))


class Deaf(Protocol):
    ops = ops(replace(GREET, inputs=()))


USED = "slot 'greeter' is used for Greet(name: string) -> (n: int64)"


@pytest.mark.parametrize(
    ("component", "texts"),
    [
        (Silent, [f"{USED}, which '", ":Silent' does not have", "no op beside", "bind_protocol("]),
        (Shouter, ["Great() -> (), Shout() -> ()", "fix: did you mean 'Great'?"]),
        (Reader, [":Reader' has another form", "method greet, writes", "method greet, reads"]),
        (Deaf, ["expected: Greet() -> (n: int64) by method greet", "slot"]),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_component_without_an_op_that_its_slot_is_used_for(component, texts):
    error = compile_error(Compiler().bind_protocol("greeter", component), Greets())

    check(error, ComponentOpMisfit, *texts, "self.greeter.greet(g, ")
    assert [place.line for place in error.where] == marked(Greets()), "the user's line, no handle's"


def test_op_of_a_component_has_types_like_those_of_roles():
    error = compile_error(Compiler().bind_protocol("greeter", Speaker), GreetsANumber())

    check(error, TypeMismatch, "Greet is given 'name' of type int64", "string for 'name'")
    assert [place.line for place in error.where] == marked(GreetsANumber())


def test_op_of_a_component_compiles():
    artifact = Compiler().bind_protocol("greeter", Speaker).compile(Greets().build())

    [function] = artifact.functions
    greeting = next(node for node in function.node if node.op_type == "Greet")
    assert greeting.domain == "ai.bytesandbrains.role.protocol"
    assert GREET.text() in print_model(artifact).replace("\\", "")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('a = protocol.Greet() @slot=p @schema="{}"', "the schema of op 'Greet' cannot be read"),
        ('a = model.Params() @slot=p @schema="{}"', "Params of ai.bytesandbrains.role.model carri"),
        ('a = onnx.Identity(x) @slot=p @schema="{}"', "Identity of ai.onnx carries a schema"),
    ],
)
def test_schema_that_no_recorder_wrote(line, found):
    with pytest.raises(MalformedRecording, match=found):
        Compiler().compile(parse_model(HEAD + f"function M(x) -> ()\n  {line}"))


class Float32DataOf(AnyDataOf):
    types: ClassVar[dict[str, str]] = {"NextBatch.batch": "tensor(float32)"}


class FloatsOnly(AnyModelOf):
    types: ClassVar[dict[str, str]] = {"Forward.x": "tensor(float64)"}


def test_component_that_takes_less_than_its_role():
    compiler = Compiler().bind_model("model", FloatsOnly).bind_data_source("data", Float32DataOf)

    error = compile_error(compiler, Previews())

    check(error, TypeMismatch, "tensor(float32)", "tensor(float64) for 'x'")


def test_component_that_nobody_installed():
    with pytest.raises(UnknownPluginError) as caught:
        Compiler().bind_model("model", "mpl")

    assert "model.mpl" in str(caught.value)
    assert "did you mean 'mlp'?" in str(caught.value)


@pytest.mark.parametrize(
    ("bind", "texts"),
    [
        (lambda c: c.bind("model", "mlp"), ["the role", "bind_<role>"]),
        (lambda c: c.bind("model", "mlp", role="modle"), ["no role 'modle'", "one of backend"]),
        (lambda c: c.bind_model("m", NotModel), ["NotModel does not inherit bb_roles.Model"]),
        (lambda c: c.bind_index("i", NotModel), ["NotModel does not inherit bb_roles.Index"]),
        (lambda c: c.bind_model("model", 3), ["3 is bound", "a component class"]),
        (lambda c: c.bind("model", Compiler), ["Compiler", "component class"]),
        (lambda c: c.bind("model", local_class()), ["cannot be found again", "top level"]),
        (lambda c: c.bind_model("model", DependsOnNonsense), ["depends on 'x'", "one of Backend"]),
    ],
)
def test_bindings_that_cannot_be_made(bind, texts):
    with pytest.raises(BadBinding) as caught:
        bind(Compiler())

    check(caught.value, BadBinding, *texts)


@pytest.mark.parametrize(
    ("config", "texts"),
    [
        ({"layer": [2, 3]}, ["slot 'model' has no configuration field 'layer'", "'layers'?"]),
        ({"lr": "fast"}, ["`lr` of slot 'model' is 'fast' (str)", "float, default 0.1", "['lr']"]),
        ({"activation": "rleu"}, ["is 'rleu' (str)", "one of 'relu', 'tanh'", "'relu'?"]),
        ({"layers": [2]}, ["layers are (2,)", "at least two widths"]),
        ({"seed": object()}, ["cannot hold <object", "plain data", "give it to install"]),
        ({"lr": float("nan")}, ["cannot hold nan", "finite numbers", "['lr']"]),
        ({"layers": {2, 3}}, ["cannot hold {2, 3} (set)", "lists", "['layers']"]),
        ({3: 4}, ["a field of a configuration is named 3", "a text"]),
        ([64, 10], ["the configuration of slot 'model' is a list", "an instance"]),
    ],
)
def test_configurations_that_a_component_does_not_take(config, texts):
    with pytest.raises(BadConfig) as caught:
        Compiler().bind_model("model", "mlp", config=config)

    check(caught.value, BadConfig, "bind('model', 'mlp', config=...)", *texts)


def test_configuration_without_end():
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(BadConfig) as caught:
        Compiler().bind_model("model", "mlp", config={"layers": endless})

    check(caught.value, BadConfig, "data more than 16 levels deep")


class NeedsAPath(Model):
    @dataclass(frozen=True)
    class Config:
        path: str
        size: int = 1


def test_field_of_a_configuration_that_is_not_complete():
    with pytest.raises(BadConfig) as caught:
        Compiler().bind_model("model", NeedsAPath, config={"size": "big"})

    check(caught.value, BadConfig, "`size` of slot 'model' is 'big'", "int")


class NotModel:
    pass


def local_class():
    class Local(Model):
        pass

    return Local


class DependsOnNonsense(Model):
    depends: ClassVar = {"x": int}


def test_unknown_stage():
    with pytest.raises(UnknownStage) as caught:
        Compiler().without_stage("solve_type")

    check(caught.value, UnknownStage, "'solve_type'", "did you mean 'solve_types'?")


@pytest.mark.parametrize("places", [{}, {"before": "solve_types", "after": "solve_types"}])
def test_stage_without_one_place(places):
    with pytest.raises(UnknownStage) as caught:
        Compiler().insert_stage(lambda model: model, **places)

    check(caught.value, UnknownStage, "either before= or after=")


# Types


class LoadsATensor(Federated):
    def body(self, g):
        batch, _labels = self.data.next_batch(g)  # (2)
        self.model.load_params(g, batch)  # (1)


def test_tensor_given_as_parameters(refused):
    refused(
        LoadsATensor(),
        TypeMismatch,
        "LoadParams is given 'batch",
        "of type tensor as its first input",
        "params",
    )


class ContributesWithoutWeight(Federated):
    def body(self, g):
        metrics = g.record(loss=g.input("loss", "float64"))  # (2)
        self.aggregator.contribute(g, self.model.params(g), metrics)  # (1)


def test_update_without_its_weight(refused):
    refused(ContributesWithoutWeight(), TypeMismatch, "record(loss:float64)", "examples:int64")


class MixesPrecision(Module):
    backend = slots.Backend()

    def body(self, g):
        x = g.input("x", tensor("float32", (2, 3)))
        y = self.backend.op(g, "Cast", x, to=7)  # (2)
        g.output("sum", x + y)  # (1)


def test_element_types_that_onnx_does_not_mix(refused):
    refused(MixesPrecision(), TypeMismatch, "Add cannot take 'x': tensor(float32)[2,3]", "int64")


class MixesShapes(Module):
    backend = slots.Backend()
    peers = slots.PeerSelector(of="other")

    def body(self, g):
        x = g.input("x", tensor("float32", (2, 3)))
        there = g.net_out("there", self.peers.sample(g, 1), x)  # (2)
        g.output("square", there @ there)  # (1)


def test_shapes_that_do_not_fit_across_the_network(refused):
    refused(MixesShapes(), TypeMismatch, "MatMul cannot take", "Incompatible dimensions")


class AddsParameters(Federated):
    backend = slots.Backend()

    def body(self, g):
        params = g.input("params", "params")
        g.output("sum", self.backend.add(g, params, params))  # (1)


def test_tensor_maths_on_what_is_no_tensor(refused):
    refused(AddsParameters(), TypeMismatch, "Add is given 'params' of type params", "a tensor")


class SendsBatches(Federated):
    def body(self, g):
        batches = self.data.batches(g)  # (2)
        g.net_out("data", self.peers.sample(g, 1), batches)  # (1)


def test_value_that_makes_sense_locally_only(refused):
    refused(SendsBatches(), NotSendable, "local(batches)", "edge 'data'", "on its own Node only")


class SendsAnything(Federated):
    def body(self, g):
        g.net_out("data", self.peers.sample(g, 1), g.input("x"))  # (1)


def test_value_of_unknown_type_is_not_sent(refused):
    refused(SendsAnything(), NotSendable, "its type is not known", 'g.input("name", type)')


class SendsWhatACodecMade(Federated):
    codec = slots.Codec()

    def body(self, g):
        encoded = self.codec.encode(g, self.model.params(g))  # (2)
        g.net_out("data", self.peers.sample(g, 1), encoded)  # (1)


def test_value_of_unknown_type_that_a_component_made_is_told_by_it(refused):
    error = refused(
        SendsWhatACodecMade(), NotSendable, "its type is not known", "component of slot 'codec'"
    )

    assert "g.input" not in str(error)


class SendsAFieldOfUnknownType(Federated):
    def body(self, g):
        loss = self.model.fit(g, self.data.batches(g))["loss"]  # (2)
        g.net_out("loss", self.peers.sample(g, 1), loss)  # (1)


def test_field_of_unknown_type_is_not_sent(refused):
    refused(SendsAFieldOfUnknownType(), NotSendable, 'g.field(record, "loss", "float64")')


class SendsAnAddress(Federated):
    def body(self, g):
        received = g.net_out("ask", self.peers.sample(g, 1))
        back = g.sender(received)  # (2)
        g.net_out("back", back, back)  # (1)


def test_return_address_is_not_sent(refused):
    refused(SendsAnAddress(), NotSendable, "return addresses", "g.net_out(name, g.sender(received)")


class UsesAnUnknownOp(Module):
    backend = slots.Backend()

    def body(self, g):
        x = g.input("x", tensor("float32", (2, 3)))
        g.output("y", self.backend.op(g, "Matmul", x, x))  # (1)


def test_op_that_onnx_does_not_have(refused):
    refused(UsesAnUnknownOp(), UnknownOp, "no op 'Matmul' in opset 23", "did you mean 'MatMul'?")


class UsesTooManyInputs(Module):
    backend = slots.Backend()

    def body(self, g):
        x = g.input("x", tensor("float32", (2, 3)))
        g.output("y", self.backend.op(g, "Add", x, x, x))  # (1)


def test_op_with_more_inputs_than_onnx_takes(refused):
    refused(UsesTooManyInputs(), UnknownOp, "no Add with 3 inputs", "2 inputs")


# Models that no recorder made


HEAD = "model M\n  @root = M\n"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("model M", "not recorded"),
        (HEAD + "", "not recorded"),
        (HEAD + "  @compiled = v1\n", "compiled already"),
        (
            HEAD + "function M() -> ()\n  done = model.LoadParams(x) @slot=m",
            "reads 'x' before it exists",
        ),
        (
            HEAD + "function M() -> ()\n  a = model.Params() @slot=m @after=b",
            "reads 'b' before it exists",
        ),
        (
            HEAD + "function M(a) -> ()\n  a = model.Params() @slot=m",
            "gives 'a' a second time",
        ),
        (HEAD + "function M() -> (y)\n", "never gives its output 'y'"),
        (HEAD + "function M() -> ()\n  a = module.Other()", "a call of 'Other'"),
        (
            HEAD + "function M() -> ()\n  a = module.M()",
            "call each other in a circle: M",
        ),
        (
            HEAD + "function M() -> ()\n  a = module.N()\nfunction N(x) -> ()",
            "with other inputs",
        ),
        (HEAD + "function M() -> ()\nfunction M() -> ()", "two functions"),
        (HEAD + "function M() -> ()\n  a = model.Params()", "names no slot"),
        (
            'model M\n  @root = M\nfunction M(p) -> ()\n  a = wire.Send(p, edge="e")',
            "without the name of an edge",
        ),
        (
            HEAD + "function M(p) -> ()\n  a = wire.Send(p) @edge=e\n  b = wire.Send(p) @edge=e",
            "edge 'e' is sent a second time",
        ),
        (
            HEAD + "function M(p) -> ()\n  a, b = wire.Send(p, p) @edge=e",
            "gives other values than it is given",
        ),
        (HEAD + "function M() -> ()\n  a = wire.Sender()", "without inputs"),
        (HEAD + "function M(x) -> ()\n  a = syscall.Gather(x)", "a gather without"),
    ],
)
def test_models_that_no_recorder_made(text, found):
    with pytest.raises(CompileError) as caught:
        Compiler().compile(parse_model(text))

    errors = getattr(caught.value, "errors", (caught.value,))
    assert [found in str(error) for error in errors].count(True) == 1, str(caught.value)
    assert MalformedRecording in {type(error) for error in errors}


@pytest.mark.parametrize("text", ["a = model.Prams() @slot=m", "a = wire.Snd(x) @edge=e"])
def test_ops_that_do_not_exist(text):
    model = parse_model(HEAD + f"function M(x) -> ()\n  {text}")

    with pytest.raises(UnknownOp, match="has no op"):
        Compiler().compile(model)


def test_module_instead_of_its_model():
    with pytest.raises(MalformedRecording) as caught:
        Compiler().compile(Trains())

    check(caught.value, MalformedRecording, "a Trains is no recorded model", "Trains(...).build()")


@pytest.mark.parametrize("use", ["compile", "explain"])
def test_class_instead_of_its_model(use):
    with pytest.raises(MalformedRecording) as caught:
        getattr(Compiler(), use)(Trains)

    text = "the class Trains is no recorded model"
    check(caught.value, MalformedRecording, text, "fix: compile Trains().build()")


def test_stage_that_breaks_the_model():
    def break_it(model):
        del model.functions[0].node[0]
        return model

    compiler = Compiler().bind_model("model", AnyModelOf).bind_data_source("data", AnyDataOf)

    error = compile_error(compiler.insert_stage(break_it, before="verify_artifact"))

    check_found = "is never given"
    assert type(error) is ArtifactInvalid
    assert check_found in str(error)


# Limits of edges


class AllowsTooLittle(Federated):
    def body(self, g):
        x = g.input("x", tensor("float32", (1000,)))
        n = g.input("n", tensor("float32", ("n",)))
        to = self.peers.sample(g, 2)
        g.net_out("open", to, n, max_bytes=1)
        g.net_out("small", to, g.input("loss", "float64"), max_bytes=1)
        g.net_out("twice", to, x, x, max_bytes=8063)
        g.net_out("large", to, g.input("y", tensor("float64", (1010,))), max_bytes=8000)  # (1)


def test_edge_that_allows_less_than_its_types_need(refused):
    refused(
        AllowsTooLittle(),
        EdgeLimitTooLow,
        "edge 'large' may carry 8,000 bytes, but its values take 8,128",
        "max_bytes=8128 or more",
    )


# Several at once


class ManyMistakes(Federated):
    def body(self, g):
        batch, _ = self.data.next_batch(g)
        self.model.load_params(g, batch)  # (1)
        self.model.apply_delta(g, batch)  # (2)
        g.net_out("data", self.peers.sample(g, 1), self.data.batches(g))  # (3)


def test_several_errors_of_one_pass_come_together(compiled):
    with pytest.raises(SeveralErrors) as caught:
        compiled(ManyMistakes())

    errors = caught.value.errors
    assert [type(error) for error in errors] == [TypeMismatch, TypeMismatch, NotSendable]
    assert [error.where[0].line for error in errors] == marked(ManyMistakes())
    assert str(caught.value).count("-->") == sum(len(error.where) for error in errors)
