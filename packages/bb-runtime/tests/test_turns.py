"""Causes take turns, then frames: who sends much delays others by one turn at a time."""

from collections import Counter, deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_ir.values import encode_value
from bb_ir.wire import build_envelope
from bb_runtime import Dropped, FrameEnded, Options, install
from bb_runtime._frames import ENDED, Frame
from bb_runtime._peers import Peer
from bb_runtime._turns import Turns, longest_line, stand_in_line

TYPE = tensor("float64", (None,))
SERVER, FLOOD, *OTHERS = (PeerId.from_seed(b"turns", n) for n in range(7))


class Streams(bb.Module):
    """Clients send arrays on two edges; one of them is passed on once more after a while."""

    peer_class = "client"
    servers = bb.slots.PeerSelector(of="server")
    model = bb.slots.Model()
    other = bb.slots.Model()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", TYPE)
        to = self.servers.sample(g, 1)
        got = g.net_out("push", to, x)
        self.model.forward(g, got)
        self.model.forward(g, g.sleep("1s", got))
        self.other.forward(g, g.net_out("pull", to, x))
        with g.every("10s"):
            self.other.params(g)


@pytest.fixture(scope="module")
def streams(compiled) -> Any:
    return compiled(Streams())


def server(artifact: Any, **options: Any) -> Any:
    node = install(SERVER, [], artifact, ["Streams.server"], options=Options(**options))
    for peer in (FLOOD, *OTHERS):
        node.authorize(peer, "client")
    return node


def send(node: Any, artifact: Any, source: PeerId, number: int, edge: str = "push") -> None:
    data = build_envelope(
        bytes.fromhex(artifact.program)[:16], artifact.edges[edge].id, 1, number,
        fills=[encode_value(np.ones(2), TYPE)],
    ).to_bytes()  # fmt: skip
    assert node.receive_bytes(data, source) is None


def order(node: Any, part: str = "model") -> list[int]:
    """Tell who was served, by place in the list of peers."""
    peers = [FLOOD, *OTHERS]
    return [peers.index(call.sender) for call in node.component(part).calls]


# Frames in line


def test_flood_delays_others_by_one_turn(streams):
    node = server(streams)
    for number in range(1, 101):
        send(node, streams, FLOOD, number, "pull")
    for peer in OTHERS:
        send(node, streams, peer, 1, "pull")
    while node.busy:
        node.poll(max_ops=1)
    served = order(node, "other")
    # One frame of the flood was begun, and one has its turn before those who came later.
    assert served[:7] == [0, 0, 1, 2, 3, 4, 5]
    assert served[7:] == [0] * 98


def test_peers_that_send_several_alternate(streams):
    node = server(streams)
    for peer in (FLOOD, OTHERS[0]):
        for number in range(1, 5):
            send(node, streams, peer, number, "pull")
    node.poll()
    assert order(node, "other") == [0, 0, 1, 0, 1, 0, 1, 1]


def test_full_line_turns_away_the_last_of_who_has_most(streams):
    node = server(streams, max_queued=4)
    for number in range(1, 6):
        send(node, streams, FLOOD, number)
    send(node, streams, OTHERS[0], 1)
    steps = node.poll()
    assert [s.peer for s in steps if isinstance(s, Dropped)] == [FLOOD]
    [ended] = [s for s in steps if isinstance(s, FrameEnded) and s.reason == "queue_full"]
    assert ended.how == "cancelled"
    # The sleepers hold their region; all others wait their turn.
    for _ in range(5):
        node.advance(node._engine.now_ns + 10**9)
        node.poll()
    assert Counter(order(node)) == {0: 8, 1: 2}
    assert node.counters["queue_full"] == 1


def test_flood_finds_its_own_line_full(streams):
    node = server(streams, max_queued=2)
    for number in range(1, 6):
        send(node, streams, FLOOD, number)
    assert node.counters["queue_full"] == 2
    send(node, streams, OTHERS[0], 1)
    send(node, streams, OTHERS[1], 1)
    assert node.counters["queue_full"] == 4, "the other has as many now as who comes"


def test_line_is_the_same_in_a_snapshot(streams):
    node, again = server(streams), server(streams)
    for number in range(1, 5):
        send(node, streams, FLOOD, 2 * number, "pull")
        send(node, streams, FLOOD, 2 * number + 1, "pull")
        for peer in OTHERS[:2]:
            send(node, streams, peer, number, "pull")
    node.poll(max_ops=1)
    data = node.snapshot()
    again.restore(data)
    assert again.snapshot() == data
    before = len(order(node, "other"))
    node.poll()
    again.poll()
    assert order(again, "other") == order(node, "other")[before:]
    assert again.snapshot() == node.snapshot()


# Stretches that are ready


def frame(number: int, account: Peer | None, parent: Frame | None = None) -> Frame:
    bound: Any = SimpleNamespace(runs=(), start_later=())
    made = Frame(number, bound, [], 0, 0)
    made.account, made.parent = account, parent
    return made


def taken(turns: Turns, arrived: Any) -> list[tuple[int, int]]:
    line = deque(arrived)
    found = []
    while (item := turns.next(line)) is not None:
        found.append((item[0].number, item[1]))
    return found


def test_causes_take_turns_and_then_frames():
    a, b = Peer(FLOOD), Peer(OTHERS[0])
    one, two, own, host = frame(1, a), frame(2, a), frame(3, b), frame(4, None)
    child = frame(5, b, parent=host)  # an answer is work of the frame that asked
    arrived = [(one, 0), (one, 1), (one, 2), (two, 0), (host, 0), (child, 0), (own, 0)]
    turns = Turns()
    assert taken(turns, arrived) == [(1, 0), (4, 0), (3, 0), (2, 0), (5, 0), (1, 1), (1, 2)]
    assert not turns.lanes


def test_strangers_are_one_cause():
    common, a, b = Peer(SERVER), Peer(FLOOD), Peer(OTHERS[0])
    a.group = b.group = common
    one, two, host = frame(1, a), frame(2, b), frame(3, None)
    turns = Turns()
    assert taken(turns, [(one, 0), (two, 0), (host, 0), (host, 1)]) == [
        (1, 0), (3, 0), (2, 0), (3, 1),
    ]  # fmt: skip


def test_stranger_that_is_authorized_takes_turns_of_its_own():
    common, a, b = Peer(SERVER), Peer(FLOOD), Peer(OTHERS[0])
    a.group = b.group = common
    one, two = frame(1, a), frame(2, b)
    turns = Turns()
    found = turns.next(deque([(one, 0), (one, 1), (one, 2), (two, 0), (two, 1)]))
    assert found == (one, 0)
    b.group = None
    turns.regroup()
    again = Turns()
    assert taken(turns, ()) == taken(again, [(two, 0), (one, 1), (two, 1), (one, 2)])


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 7), st.integers(0, 3)),
        st.tuples(st.just("take"), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("end"), st.integers(0, 7), st.just(0)),
    ),
    max_size=60,
)


@given(EVENTS, st.integers(0, 60))
def test_order_of_what_waits_is_all_there_is_to_know(events, stop):
    accounts: list[Peer | None] = [None, Peer(FLOOD), Peer(OTHERS[0])]
    frames = [frame(number, accounts[number % 3]) for number in range(6)]
    frames += [frame(6, None, parent=frames[1]), frame(7, None, parent=frames[4])]
    turns, again = Turns(), None
    line: deque[Any] = deque()
    other: deque[Any] = deque()
    for number, (kind, which, index) in enumerate(events):
        if number == stop:
            again = Turns()  # as one that was restored
            other = deque(item for item in (*turns, *line) if item[0].state != ENDED)
        if kind == "add":
            line.append((frames[which], index))
            other.append((frames[which], index))
        elif kind == "end":
            frames[which].state = ENDED
        for _ in range(which if kind == "take" else 0):
            found = turns.next(line)
            assert found is None or found[0].state != ENDED
            assert again is None or again.next(other) == found
    rest = taken(turns, line)
    assert again is None or taken(again, other) == rest


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_nobody_stands_behind_more_than_as_many_of_each_other(causes):
    accounts = [None, *(Peer(peer) for peer in OTHERS[:3])]
    for account in accounts[1:]:
        assert account is not None
        account.frames = 2  # there may be more of them
    line: list[Frame] = []
    for number, cause in enumerate(causes):
        made = frame(number, accounts[cause])
        own = 1 + sum(one.account is made.account for one in line)
        stand_in_line(line, made)
        ahead = Counter(one.account for one in line[: line.index(made)])
        assert all(count <= own for count in ahead.values())
        assert ahead[made.account] == own - 1
    for account in accounts:
        numbers = [one.number for one in line if one.account is account]
        assert numbers == sorted(numbers), "of one cause, first come first"


def test_whose_line_is_longest():
    a, b = Peer(FLOOD), Peer(OTHERS[0])
    line = [frame(1, a), frame(2, a), frame(3, b)]
    assert longest_line(line, frame(4, b)) is line[1]
    new = frame(4, a)
    assert longest_line(line, new) is new
    assert longest_line([], new) is new
