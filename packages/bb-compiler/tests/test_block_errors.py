"""Every error about blocks, provoked by a program that a user could write.

Each case is a body; the error must name its lines marked `# (1)`, `# (2)`, in that order.
"""

import inspect
import re

import pytest

from bb_compiler import CompileError
from bb_compiler.errors import (
    AmbiguousPlacement,
    AnswersTwice,
    BlockEscape,
    CrossClassDataflow,
    DeadlineInversion,
    FanOutEscape,
    GatherOutsideFanOut,
    MalformedRecording,
    OutsideBlock,
    QuorumUnreachable,
    SenderOutsideMessage,
    SiblingRegions,
    TypeMismatch,
)
from bb_compiler.passes import verify_recording
from bb_dsl import Module, slots
from bb_ir.text import parse_model
from bb_ir.types import tensor


class Program(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()
    backend = slots.Backend()

    def __init__(self, body):
        super().__init__()
        self.record = body
        self.part = Part(model=self.model)

    def body(self, g):
        self.record(self, g)


class Part(Module):
    model = slots.Model()

    def body(self, g):
        with g.loop(2) as turn:
            self.model.params(g)
            g.output("turn", turn)


@pytest.fixture
def refused(compiled):
    """Return a function that compiles a body and checks what the compiler objects to."""

    def refuse(body, kind, *texts):
        with pytest.raises(CompileError) as caught:
            compiled(Program(body))
        error = caught.value
        assert type(error) is kind, f"{error.code}: {error}"
        for text in texts:
            assert text in str(error), str(error)
        lines, first = inspect.getsourcelines(body)
        found = {}
        for at, line in enumerate(lines):
            for mark in re.findall(r"# .*\((\d)\)", line):
                found[int(mark)] = first + at
        assert [place.line for place in error.where] == [found[n] for n in sorted(found)], error
        assert error.expected or error.fix

    return refuse


# Values of turns after the block


@pytest.mark.parametrize("block", ["loop", "each", "when"])
def test_value_of_a_turn_after_the_block(refused, block):
    def body(self, g):
        items = g.input("items", "list(int64)")
        opened = {"loop": (3,), "each": (items,), "when": (g.scalar(True),)}[block]
        with getattr(g, block)(*opened):  # (3)
            y = self.model.params(g)  # (2)
        g.output("y", y)  # (1)

    last = "g.last(params, default)" if block == "when" else "g.last(params)"
    refused(body, BlockEscape, "Output reads", f"outside the {block} block", last)


@pytest.mark.parametrize("block", ["rounds", "every", "on"])
def test_value_of_a_frame_of_its_own_after_the_block(refused, block):
    def body(self, g):
        opened = {"rounds": 3, "every": "5s", "on": "news"}[block]
        with getattr(g, block)(opened):  # (3)
            y = self.model.params(g)  # (2)
        self.model.load_params(g, y)  # (1)

    refused(body, BlockEscape, "LoadParams reads", "use it inside, or publish it there")


def test_value_of_an_inner_block_in_the_outer_one(refused):
    def body(self, g):
        with g.rounds(3):
            with g.loop(2) as turn:  # (2)
                self.model.params(g)
            g.output("y", turn)  # (1)

    refused(body, BlockEscape, "outside the loop block")


def test_value_of_an_inner_block_after_the_outer_one(refused):
    def body(self, g):
        with g.loop(3), g.loop(2) as turn:  # (2)
            self.model.params(g)
        g.output("y", turn)  # (1)

    refused(body, BlockEscape, "outside the loop block")


def test_reply_to_a_turn_after_the_block(refused):
    def body(self, g):
        with g.loop(3) as turn:  # (3)
            got = g.net_out("ask", self.peers.sample(g, 2), turn)
            reply = g.net_out("reply", g.sender(got), got)  # (2)
        g.gather(reply)  # (1)

    refused(body, BlockEscape, "Gather reads", "gather the replies inside the block first")


def test_value_of_a_turn_waited_for_after_the_block(refused):
    def body(self, g):
        with g.loop(3):  # (3)
            done = self.model.load_params(g, self.model.params(g))  # (2)
        self.model.params(g, after=done)  # (1)

    refused(body, BlockEscape, "Params reads")


def test_value_of_a_turn_inside_another_block(refused):
    def body(self, g):
        with g.loop(3) as turn:  # (2)
            self.model.params(g)
        with g.rounds(3):  # (1)
            g.output("y", turn)

    refused(body, BlockEscape, "Rounds reads")


def test_value_of_a_turn_that_a_part_gives_out(compiled):
    def body(self, g):
        g.output("y", self.part(g)["turn"])  # (1)

    with pytest.raises(BlockEscape, match="outside the loop block") as caught:
        compiled(Program(body))
    lines = [inspect.getsourcelines(one)[1] for one in (body, Part.body)]
    assert [place.line for place in caught.value.where] == [lines[0] + 1, lines[1] + 1]


def test_until_after_the_block(refused):
    def body(self, g):
        with g.loop(3) as turn:  # (2)
            self.model.params(g)
        turn.until(g.scalar(True))  # (1)

    refused(body, BlockEscape, "until is recorded outside the loop block", "turn.until(flag)")


def test_place_inside_a_block_that_has_ended(refused):
    def body(self, g):
        with g.loop(3) as turn:  # (2)
            self.model.params(g)
        with g.at(turn):
            self.model.params(g)  # (1)

    refused(body, BlockEscape, "Params is recorded outside the loop block", "`with g.at(...)`")


def test_place_of_the_frame_around_does_not_help(refused):
    def body(self, g):
        n = g.input("n", "int64")
        with g.loop(3) as turn:  # (2)
            self.model.params(g)
        with g.at(n):
            g.output("y", turn)  # (1)

    refused(body, BlockEscape, "outside the loop block")


# Ops that their block does not reach


def test_op_that_runs_on_another_class_than_its_block(refused):
    def body(self, g):
        params = self.model.params(g)  # (3)
        g.net_out("ask", self.peers.sample(g, 2), params)
        with g.loop(3):  # (2)
            self.model.load_params(g, params)  # (1)

    refused(body, OutsideBlock, "LoadParams is recorded inside the loop block", "class 'server'",
            "`with g.at(...):` around the block")  # fmt: skip


def test_class_that_only_something_outside_the_block_reaches(refused):
    def body(self, g):
        g.net_out("ask", self.peers.sample(g, 2))
        with g.at("server"), g.loop(3):  # (2)
            with g.at("client"):
                self.model.params(g)  # (1)
            self.model.params(g)

    refused(body, OutsideBlock, "Params is recorded inside the loop block", "class 'client'")


def test_values_of_another_class_handed_to_rounds(refused):
    def body(self, g):
        n = g.input("n", "int64")
        got = g.net_out("ask", self.peers.sample(g, 2), n)  # (2)
        with g.at("server"), g.rounds(3):  # (1)
            g.output("y", got)

    refused(body, CrossClassDataflow, "Rounds reads")


def test_op_without_inputs_handed_to_rounds_elsewhere(refused):
    def body(self, g):
        params = self.model.params(g)  # (1)
        g.net_out("ask", self.peers.sample(g, 2))
        with g.rounds(3):  # (2)
            self.model.load_params(g, params)

    refused(body, AmbiguousPlacement, "but Rounds uses its", "`with g.at(value):`")


def test_reply_beside_a_turn(refused):
    def body(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        reply = g.net_out("reply", g.sender(got), got)  # (2)
        done = g.gather(reply)
        with g.loop(done.count) as turn:  # (3)
            g.output("y", g.record(turn=turn, reply=reply))  # (1)

    refused(body, SiblingRegions, "Record reads", "'turn'", "'reply'")


# The last one, and all of them


def test_last_of_what_exists_once(refused):
    def body(self, g):
        params = self.model.params(g)  # (2)
        g.output("y", g.last(params))  # (1)

    refused(body, BlockEscape, "g.last(params)", "exists once", "use the value itself")


def test_last_of_a_reply(refused):
    def body(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        reply = g.net_out("reply", g.sender(got), got)  # (2)
        g.last(reply)  # (1)

    refused(body, BlockEscape, "once for every reply", "g.gather(reply, values=True)")


@pytest.mark.parametrize("call", ["last", "gather"])
def test_last_or_all_of_frames_of_their_own(refused, call):
    def body(self, g):
        with g.rounds(3) as number:  # (2)
            self.model.params(g)
        getattr(g, call)(number)  # (1)

    refused(body, BlockEscape, f"g.{call}(", "in frames of its own, which the rounds block starts")


@pytest.mark.parametrize("call", ["last", "gather"])
@pytest.mark.parametrize("block", ["loop", "rounds"])
def test_last_or_all_inside_its_own_block(refused, call, block):
    def body(self, g):
        with getattr(g, block)(3) as number:  # (2)
            taken = getattr(g, call)(number)  # (1)
            g.output("y", taken)

    refused(body, BlockEscape, f"is recorded inside the {block} block whose turns give")


def test_default_that_stands_inside_the_block(refused):
    def body(self, g):
        with g.loop(3) as turn:  # (3)
            other = turn + 1  # (2)
        g.output("y", g.last(turn, other))  # (1)

    refused(body, BlockEscape, "Last reads")


def test_default_of_another_class(refused):
    def body(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), g.scalar(1))  # (2)
        with g.at("server"), g.loop(3) as turn:
            self.model.params(g)
        g.output("y", g.last(turn, got))  # (1)

    refused(body, CrossClassDataflow, "Last reads")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"quorum": 2}, "quorum="),
        ({"deadline": "3s"}, "deadline="),
        ({"wait": "all", "on_short": "continue"}, "wait=, on_short="),
    ],
)
def test_options_of_peers_for_turns(refused, options, text):
    def body(self, g):
        with g.loop(3) as turn:  # (2)
            self.model.params(g)
        g.gather(turn, **options)  # (1)

    refused(body, GatherOutsideFanOut, f"with {text}, which is about answers of peers")


@pytest.mark.parametrize("what", ["missing", "senders"])
def test_peers_of_a_gather_over_turns(refused, what):
    def body(self, g):
        with g.loop(3) as turn:
            self.model.params(g)
        done = g.gather(turn)  # (2)
        g.net_out("thanks", getattr(done, what))  # (1)

    refused(body, GatherOutsideFanOut, f"`{what}` of a gather over the turns of a block")


# Return addresses, quorums and deadlines


def test_sender_of_a_turn(refused):
    def body(self, g):
        with g.loop(3) as turn:  # (2)
            g.sender(turn)  # (1)

    refused(body, SenderOutsideMessage, "nobody sent it")


@pytest.mark.parametrize("before", [True, False])
def test_return_address_inside_frames_that_outlive_it(refused, before):
    def early(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        back = g.sender(got)
        with g.rounds(3) as number:  # (2)
            g.net_out("reply", back, number)  # (1)

    def late(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        with g.rounds(3) as number:  # (2)
            g.net_out("reply", g.sender(got), number)  # (1)

    refused(early if before else late, BlockEscape, "inside the rounds block, whose frames outlive")


def test_quorum_above_a_sample_that_was_taken_before_the_rounds(refused):
    def body(self, g):
        cohort = self.peers.sample(g, 2)  # (2)
        with g.rounds(3), g.loop(2):
            got = g.net_out("ask", cohort, self.model.params(g))
            g.gather(g.net_out("reply", g.sender(got)), quorum=3)  # (1)

    refused(body, QuorumUnreachable, "3 answers are wanted, and at most 2 peers are asked")


def test_gather_that_may_wait_longer_than_the_block_around_it(refused):
    def body(self, g):
        with g.loop(3, deadline="10s"):  # (2)
            got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
            g.gather(g.net_out("reply", g.sender(got)), deadline="20s")  # (1)

    refused(body, DeadlineInversion, "this gather may wait 20s", "the loop block around it")


def test_block_that_may_take_longer_than_who_waits_for_its_peer(refused):
    def body(self, g):
        got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
        with g.each(self.data.batches(g), deadline="1m"):  # (1)
            self.model.params(g)
        g.gather(g.net_out("reply", g.sender(got)), deadline="20s")  # (2)

    refused(body, DeadlineInversion, "this each block may take 1m", "gives up after 20s")


def test_blocks_with_deadlines_that_fit(compiled):
    def body(self, g):
        with g.rounds(3), g.loop(3, deadline="1m"):
            got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
            with g.each(self.data.batches(g), deadline="20s"):
                self.model.params(g)
            g.gather(g.net_out("reply", g.sender(got)), deadline="30s")
        with g.loop(2, deadline="5s"):
            self.model.params(g)

    compiled(Program(body))


def test_aggregate_for_each_reply_inside_a_block(refused):
    def body(self, g):
        with g.rounds(3):
            got = g.net_out("ask", self.peers.sample(g, 2), self.model.params(g))
            metrics = self.model.fit(g, self.data.batches(g))
            reply = g.net_out("reply", g.sender(got), got, metrics)
            self.aggregator.contribute(g, *reply)
            with g.loop(2):
                self.aggregator.aggregate(g)  # (1)

    refused(body, FanOutEscape, "runs once for every reply on edge 'reply'")


# Types


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (lambda g, x: g.loop(x), "a number of turns"),
        (lambda g, x: g.rounds(x), "a number of turns"),
        (lambda g, x: g.when(x < 1.0), "a tensor of one bool"),
    ],
)
def test_what_blocks_are_given(compiled, record, text):
    def body(self, g):
        x = g.input("x", tensor("float32", (2,)))
        with record(g, x):
            self.model.params(g)

    with pytest.raises(TypeMismatch, match=text):
        compiled(Program(body))


def test_number_of_turns_of_a_type_that_only_the_compiler_knows(refused):
    def body(self, g):
        x = self.backend.relu(g, g.input("x", tensor("float32", (1,))))  # (2)
        with g.loop(x):  # (1)
            self.model.params(g)

    refused(body, TypeMismatch, "Loop is given", "an int64, or a tensor of one whole number")


def test_condition_of_a_type_that_only_the_compiler_knows(refused):
    def body(self, g):
        x = self.backend.relu(g, g.input("x", tensor("float32", (1,))))  # (3)
        with g.rounds() as number:  # (2)
            number.until(x)  # (1)

    refused(body, TypeMismatch, "Until is given", "a bool, or a tensor of one bool")


def test_default_of_another_type(refused):
    def body(self, g):
        with g.loop(3):
            params = self.model.params(g)
        g.last(params, g.scalar(1))  # (1)

    refused(body, TypeMismatch, "Last is given", "a default of the value's own type, params")


def test_event_of_another_type(refused):
    def body(self, g):
        with g.on("news", "int64") as event:  # (3)
            g.output("y", event)
        params = self.model.params(g)  # (2)
        g.publish("news", params)  # (1)

    refused(body, TypeMismatch, "published under topic 'news'", "g.on('news', 'params')")


def test_events_of_other_classes_and_topics_may_differ(compiled):
    def body(self, g):
        with g.on("news", "int64") as event:
            g.output("y", event)
        g.publish("olds", self.model.params(g))
        g.net_out("ask", self.peers.sample(g, 2))
        g.publish("news", self.model.params(g))

    compiled(Program(body))


def test_item_used_as_something_else(refused):
    def body(self, g):
        with g.each(g.input("names", "list(string)")) as name:  # (2)
            self.model.load_params(g, name)  # (1)

    refused(body, TypeMismatch, "LoadParams is given", "string")


# Models that no recorder made


LOOP = "a = syscall.Loop() @opens=@l\n  t = syscall.Turn() @opens=@l @block=@l"


@pytest.mark.parametrize(
    ("ops", "text"),
    [
        ("a = syscall.Loop() @opens=@l", "opens a block that holds nothing"),
        (f"{LOOP}\n  b = syscall.Loop() @opens=@l", "'@l' is opened a second time"),
        ("a = syscall.Until(x, x) @block=@l", "stands in a block that has not begun"),
        ("a = syscall.Turn() @opens=@l @block=@l", "a turn that does not begin its block"),
        (
            "a = syscall.Loop() @opens=@l\n  t = syscall.Turn() @opens=@l",
            "a turn that does not begin its block",
        ),
        ("a = syscall.Until(x)", "Until with 1 inputs"),
        ("a = syscall.Last(x, x, x)", "Last with 3 inputs"),
        ("a = syscall.Publish(x, x)", "Publish with 2 inputs"),
        ("a = syscall.Loop()", "Loop without a region or a result"),
    ],
)
def test_malformed_blocks(ops, text):
    model = parse_model(f"model M\n  @root = M\nfunction M(x) -> ()\n  {ops}\n")

    with pytest.raises(CompileError) as caught:
        verify_recording(model)

    errors = getattr(caught.value, "errors", (caught.value,))
    assert {type(error) for error in errors} == {MalformedRecording}
    assert text in str(caught.value)


def test_an_answer_in_every_turn_is_refused(refused):
    def body(self, g):
        asked = g.net_out("ask", self.peers.current_view(g))
        with g.loop(3):  # (2)
            metrics = self.model.fit(g, self.data.batches(g))
            told = g.net_out("tell", g.sender(asked), metrics)  # (1)
        g.gather(told)

    refused(body, AnswersTwice, "'tell' answers", "in every turn", "after the block")


def test_an_answer_in_a_condition_is_fine(compiled):
    def body(self, g):
        asked = g.net_out("ask", self.peers.current_view(g))
        metrics = self.model.fit(g, self.data.batches(g))
        with g.when(g.field(metrics, "loss", "float64") < 1.0):
            told = g.net_out("tell", g.sender(asked), metrics)
        g.gather(told)

    compiled(Program(body))


def test_a_turn_may_answer_what_was_asked_inside_it(compiled):
    def body(self, g):
        with g.loop(3):
            asked = g.net_out("ask", self.peers.current_view(g))
            told = g.net_out("tell", g.sender(asked))
            g.gather(told)

    compiled(Program(body))
