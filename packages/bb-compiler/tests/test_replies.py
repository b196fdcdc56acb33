"""`replies=` says how often a peer answers: only where it can, and where that can be counted."""

import json

import pytest

from bb_compiler.errors import AnswersTwice, BadReplies
from bb_compiler.explain import explain
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools


class Program(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()

    def __init__(self, body):
        super().__init__()
        self.record = body

    def body(self, g):
        self.record(self, g)


def edges(model):
    rows = json.loads(onnx_tools.get_meta(model, keys.EDGES))
    return {row["name"]: row for row in rows}


def in_turns(self, g):
    got = g.net_out("ask", self.peers.sample(g, 4))
    with g.loop(3):
        part = g.net_out("part", g.sender(got), self.model.params(g), replies=3)
    g.gather(part)


def in_turns_of_turns(self, g):
    got = g.net_out("ask", self.peers.sample(g, 4))
    with g.loop(2), g.when(g.scalar(True)), g.loop(2):
        part = g.net_out("part", g.sender(got), self.model.params(g), replies=4)
    g.gather(part)


def for_each_that_is_there(self, g):
    items = g.input("items", "list(int64)")
    got = g.net_out("ask", self.peers.sample(g, 4), items)
    with g.each(got):
        part = g.net_out("part", g.sender(got), self.model.params(g), replies=7)
    g.gather(part)


def once_is_as_without(self, g):
    got = g.net_out("ask", self.peers.sample(g, 4))
    g.gather(g.net_out("part", g.sender(got), replies=1))


@pytest.mark.parametrize(
    ("body", "replies"),
    [
        (in_turns, 3), (in_turns_of_turns, 4), (for_each_that_is_there, 7),
        (once_is_as_without, None),
    ],
)  # fmt: skip
def test_edge_says_how_often_a_peer_answers(compiled, body, replies):
    table = edges(compiled(Program(body)))
    assert table["part"].get("replies") == replies
    assert "replies" not in table["ask"]


def test_explain_counts_every_answer(compiled):
    told = explain(compiled(Program(in_turns)))
    [part] = [edge for edge in told.edges if edge.name == "part"]
    assert (part.replies, part.per_frame, part.per_round) == (3, 1, 12)


def sent_once(self, g):
    got = g.net_out("ask", self.peers.sample(g, 4))
    g.gather(g.net_out("part", g.sender(got), replies=2))


def sent_after_a_gather(self, g):
    got = g.net_out("ask", self.peers.sample(g, 4))
    told = g.net_out("tell", g.sender(got))
    done = g.gather(told)
    with g.loop(3):
        g.net_out("more", done.senders, replies=4)


def sent_once_or_not(self, g):
    got = g.net_out("ask", self.peers.sample(g, 4))
    with g.when(g.scalar(True)):
        part = g.net_out("part", g.sender(got), replies=2)
    g.gather(part)


@pytest.mark.parametrize(
    ("body", "often"),
    [
        (sent_once, "sends it once"),
        (sent_after_a_gather, "at most 3 times"),
        (sent_once_or_not, "sends it once"),
    ],
)
def test_peer_that_cannot_answer_so_often(compiled, body, often):
    with pytest.raises(BadReplies, match=often):
        compiled(Program(body))


def test_answer_in_every_turn_has_to_say_so(compiled):
    def body(self, g):
        got = g.net_out("ask", self.peers.sample(g, 4))
        with g.loop(3):
            g.net_out("part", g.sender(got))

    with pytest.raises(AnswersTwice, match="replies="):
        compiled(Program(body))
