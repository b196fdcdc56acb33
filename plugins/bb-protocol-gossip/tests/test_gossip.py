import math
import random

import numpy as np
import pytest

from bb_dsl.errors import BadOption
from bb_ir.params import Draft, Layout, ParameterSet
from bb_protocol_gossip._gossip import Gossip, GossipConfig
from bb_protocol_gossip.errors import (
    InvalidMessage,
    InvalidSetting,
    MixedModes,
    NoSender,
    NotFinite,
    NotOneNeighbour,
    NoValue,
    StaleSequence,
    StateMismatch,
    TooManyPeers,
    ValueMismatch,
    WeightExhausted,
)
from bb_protocol_gossip.slots import Gossip as GossipSlot
from bb_roles import State
from bb_testing import FakeContext, environment, peer_id

SECOND = 10**9
A, B, C = (peer_id(n) for n in range(1, 4))


def make(value=None, **config):
    return Gossip(GossipConfig(value=value, **config), environment("gossip"))


def at(seconds=0.0, sender=None):
    return FakeContext(now_ns=round(seconds * SECOND), sender=sender)


def params(*values, dtype=np.float32):
    return ParameterSet.from_tensors({"w": np.array(values, dtype)})


def held(node):
    """Return a Node's sum and weight."""
    state = node.save()
    return state.tensors["sum"], state.data["weight"]


def part(value, weight=0.5, sequence=1):
    return {"sequence": sequence, "weight": weight}, value


# What a Node holds


def test_first_value_gets_a_weight_of_one_and_later_ones_keep_what_there_is():
    node = make()
    node.put(at(), 3.0)
    node.share(at(), (B,))

    node.put(at(), 10.0)

    assert node.estimate(at()) == 10.0
    assert held(node) == (5.0, 0.5)


def test_configured_value_is_as_if_it_had_been_put():
    assert make(4.0).estimate(at()) == 4.0


@pytest.mark.parametrize(
    "value",
    [2.5, np.array([[1.5, -2.0]]), np.array([1, 5], np.int32), np.float16([0.5]), params(1.0, 2.0),
     params(1, 2, dtype=np.int64), params(True, False, dtype=np.bool_)],
    ids=str,
)  # fmt: skip
def test_estimate_has_the_form_of_what_was_put(value):
    node = make()
    node.put(at(), value)

    found = node.estimate(at())

    assert type(found) is type(value)
    assert np.array_equal(found, value) if isinstance(value, np.ndarray) else found == value
    if isinstance(value, np.ndarray):
        assert found.dtype == value.dtype


def test_integers_are_rounded_half_to_even_and_bools_by_majority():
    node = make()
    node.put(at(), params(1, 2, 4))
    node.mix(at(sender=B), params(2, 3, 5))
    whole = make()
    whole.put(at(), np.array([1, 2, 4]))
    whole.mix(at(sender=B), np.array([2, 3, 5]))

    assert node.estimate(at())["w"].tolist() == [1.5, 2.5, 4.5]
    assert whole.estimate(at()).tolist() == [2, 2, 4]


def test_largest_integers_stay_in_range():
    node = make()
    node.put(at(), np.array([2**63 - 1, -(2**63)]))

    assert node.estimate(at()).tolist() == [2**63 - 1024, -(2**63)]


@pytest.mark.parametrize("value", ["text", True, None, [1.0], np.array(["a"]), np.array([1j])])
def test_what_is_no_number_cannot_be_put(value):
    with pytest.raises(ValueMismatch, match="the value of this Node is a"):
        make().put(at(), value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, np.array([1.0, -math.inf]), params(math.nan)]
)
def test_own_value_has_to_be_finite(value):
    with pytest.raises(NotFinite, match="the value of this Node holds NaN or an infinity"):
        make().put(at(), value)


def test_later_value_of_another_form_is_refused():
    node = make()
    node.put(at(), params(1.0))

    with pytest.raises(ValueMismatch, match="is a number, and this Node holds a parameter set"):
        node.put(at(), 1.0)
    assert node.estimate(at()) == params(1.0)


# Push


def test_push_takes_the_mean_of_two():
    node = make(1.0)
    node.mix(at(sender=B), 4.0)

    assert node.estimate(at()) == 2.5


# Push-sum


def test_half_moves_to_the_neighbour():
    here, there = make(8.0), make(2.0)

    to, *sent = here.share(at(), (B,))
    receipt = there.receive(at(sender=A), *sent)

    assert to == (B,)
    assert there.estimate(at()) == (0.5 * 8 + 2) / 1.5
    assert here.status(at()) == {"weight": 0.5, "unconfirmed": 0.5, "waiting": 1, "peers": 0}
    here.confirm(at(sender=B), receipt)
    assert here.status(at()) == {"weight": 0.5, "unconfirmed": 0.0, "waiting": 0, "peers": 0}
    assert there.status(at()) == {"weight": 1.5, "unconfirmed": 0.0, "waiting": 0, "peers": 1}


def test_what_is_not_confirmed_is_sent_again_as_it_was_and_counts_once():
    here, there = make(8.0), make(2.0)
    sent = here.share(at(), (B,))
    here.put(at(), 100.0)

    again = here.share(at(1), (B,))
    there.receive(at(sender=A), *sent[1:])
    there.receive(at(sender=A), *again[1:])

    assert again == sent
    assert held(there) == (6.0, 1.5)


def test_what_is_not_confirmed_has_every_other_turn():
    node = make(1.0)
    node.share(at(), (A,))
    turns = [node.share(at(n), (peer,))[0][0] for n, peer in enumerate((B, C, peer_id(4), B))]

    assert turns == [A, C, A, B], "A again, C anew, A again, and B anew"


def test_late_receipts_change_nothing():
    here = make(8.0)
    _, note, _ = here.share(at(), (B,))
    receipt = {"sequence": note["sequence"]}
    here.confirm(at(sender=B), receipt)
    here.share(at(1), (B,))

    here.confirm(at(sender=B), receipt)
    here.confirm(at(sender=C), receipt)

    assert here.status(at())["waiting"] == 1


def test_what_a_peer_that_is_gone_never_got_is_taken_back():
    here = make(8.0)
    here.receive(at(sender=B), *part(2.0))
    before = held(here)
    here.share(at(), (B,))

    here.reclaim(at(), (C, B))

    assert held(here) == before
    assert here.status(at()) == {"weight": 1.5, "unconfirmed": 0.0, "waiting": 0, "peers": 0}


def test_question_to_a_peer_that_is_gone_is_forgotten():
    here = make(8.0)
    here.ask(at(), (B,))

    here.reclaim(at(), (B,))

    assert held(here) == (8.0, 1.0)
    assert here.ask(at(), (C,))[0] == (C,)


def test_receipt_for_what_was_never_sent_is_refused():
    with pytest.raises(InvalidMessage, match=f"the receipt of {A} is for exchange 7"):
        make(1.0).confirm(at(sender=A), {"sequence": 7})


def test_numbers_grow_even_without_state():
    first = make(1.0).share(at(5), (B,))[1]["sequence"]
    reborn = make(1.0).share(at(6), (B,))[1]["sequence"]

    assert reborn > first


@pytest.mark.parametrize("weight", [0.0, -0.5, math.nan, math.inf, 10_001.0, 1, None, "1"])
def test_part_needs_a_weight(weight):
    node = make(1.0)

    with pytest.raises(InvalidMessage, match=f"the note from {A} says weight="):
        node.receive(at(sender=A), *part(1.0, weight))

    assert held(node) == (1.0, 1.0)


@pytest.mark.parametrize("sequence", [0, -1, True, 1.0, None, 1 << 63])
def test_part_needs_a_number(sequence):
    with pytest.raises(InvalidMessage, match="sequence="):
        make(1.0).receive(at(sender=A), *part(1.0, sequence=sequence))


def test_weight_that_is_given_away_and_never_comes_back_runs_out():
    node = make(1.0)
    for n in range(332):
        _, note, _ = node.share(at(n), (B,))
        node.confirm(at(sender=B), {"sequence": note["sequence"]})

    with pytest.raises(WeightExhausted, match=r"a weight of 1\.14\d*e-100 left"):
        node.share(at(), (B,))
    assert node.estimate(at()) == 1.0


# Push-pull


def test_both_have_the_mean_after_an_exchange():
    here, there = make(8.0), make(2.0)

    to, *question = here.ask(at(), (B,))
    answer = there.answer(at(sender=A), *question)
    here.settle(at(sender=B), *answer)

    assert to == (B,)
    assert (here.estimate(at()), there.estimate(at())) == (5.0, 5.0)


def test_exchanges_that_overlap_keep_the_sum():
    nodes = {A: make(8.0), B: make(2.0), C: make(-1.0)}
    asked = {peer: nodes[peer].ask(at(), (to,)) for peer, to in ((A, B), (B, C), (C, A))}
    answers = {
        (peer, to): nodes[to].answer(at(sender=peer), note, value)
        for peer, ((to,), note, value) in asked.items()
    }
    for (peer, to), answer in answers.items():
        nodes[peer].settle(at(sender=to), *answer)

    assert sum(node.estimate(at()) for node in nodes.values()) == 9.0


def test_question_that_comes_again_moves_nothing_and_gets_its_answer():
    here, there = make(8.0), make(2.0)
    _, *question = here.ask(at(), (B,))
    first = there.answer(at(sender=A), *question)
    there.put(at(), 100.0)

    assert here.ask(at(1), (B,))[1:] == tuple(question)
    assert there.answer(at(sender=A), *question) == first
    here.settle(at(sender=B), *first)
    here.settle(at(sender=B), *first)
    assert here.estimate(at()) == 5.0
    assert there.estimate(at()) == 100.0


def test_question_that_was_overtaken_is_refused():
    there = make(2.0)
    there.answer(at(sender=A), {"sequence": 5}, 1.0)

    with pytest.raises(StaleSequence, match=f"{A} sent exchange 4, and exchange 5 is here"):
        there.answer(at(sender=A), {"sequence": 4}, 1.0)


# What is refused


def test_without_a_message_nothing_is_received():
    node = make(1.0)
    for call in (
        lambda: node.receive(at(), *part(1.0)),
        lambda: node.confirm(at(), {"sequence": 1}),
        lambda: node.answer(at(), {"sequence": 1}, 1.0),
        lambda: node.settle(at(), {"sequence": 1}, 1.0),
    ):
        with pytest.raises(NoSender, match="ran where no message had arrived"):
            call()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_with_its_sender(bad):
    node = make()
    node.put(at(), params(1.0, 2.0))
    found = f"the value from {A} holds NaN or an infinity in 'w'"

    with pytest.raises(NotFinite, match=found):
        node.receive(at(sender=A), *part(params(1.0, bad)))
    with pytest.raises(NotFinite, match=found):
        node.mix(at(sender=A), params(bad, 1.0))
    with pytest.raises(NotFinite, match=found):
        node.answer(at(sender=A), {"sequence": 1}, params(bad, 1.0))

    assert held(node)[0].tolist() == [1.0, 2.0]
    assert node.status(at())["peers"] == 0


def test_answer_that_is_not_finite_leaves_the_exchange_open():
    node = make(1.0)
    _, note, _ = node.ask(at(), (B,))

    with pytest.raises(NotFinite, match=f"the value from {B}"):
        node.settle(at(sender=B), note, math.nan)

    assert node.status(at())["waiting"] == 1


def test_sum_that_would_not_be_finite_is_refused():
    node = make(1e308)
    with pytest.raises(NotFinite, match=f"from {A} is too large"):
        node.receive(at(sender=A), *part(1e308, weight=2.0))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (1.0, "is a number, and this Node holds a parameter set"),
        (params(1.0, 2.0, 3.0), r"has 'w' as float32\[3\], and this Node has 'w' as float32\[2\]"),
        (params(1.0, 2.0, dtype=np.float64), r"has 'w' as float64\[2\]"),
        (ParameterSet.from_tensors({}), "has 'w' as nothing"),
        (ParameterSet.from_tensors({"v": np.float32([1, 2])}), "has 'w' as nothing"),
        ("text", "is a str"),
    ],
)
def test_value_of_another_form_is_refused_with_its_sender(value, found):
    node = make()
    node.put(at(), params(1.0, 2.0))

    with pytest.raises(ValueMismatch, match=f"the value from {A} {found}"):
        node.receive(at(sender=A), *part(value))


def test_tensors_of_another_order_are_the_same_value():
    one = {"a": np.float32([1]), "b": np.float32([2])}
    other = {"b": np.float32([4]), "a": np.float32([3])}
    node = make()
    node.put(at(), ParameterSet.from_tensors(one))
    node.mix(at(sender=A), ParameterSet.from_tensors(other))

    assert {name: float(x[0]) for name, x in node.estimate(at()).items()} == {"a": 2.0, "b": 3.0}


def test_without_a_value_nothing_is_exchanged():
    node = make()
    for call in (
        lambda: node.estimate(at()),
        lambda: node.mix(at(sender=A), 1.0),
        lambda: node.share(at(), (B,)),
        lambda: node.receive(at(sender=A), *part(1.0)),
        lambda: node.ask(at(), (B,)),
        lambda: node.answer(at(sender=A), {"sequence": 1}, 1.0),
        lambda: node.settle(at(sender=A), {"sequence": 1}, 1.0),
    ):
        with pytest.raises(NoValue, match="this Node has no value yet"):
            call()
    assert node.status(at()) == {"weight": 0.0, "unconfirmed": 0.0, "waiting": 0, "peers": 0}


@pytest.mark.parametrize("drawn", [(), (A, B)])
def test_exchange_is_with_one_neighbour(drawn):
    node = make(1.0)
    with pytest.raises(NotOneNeighbour, match=f"Share is to go to {len(drawn)} peers"):
        node.share(at(), drawn)
    with pytest.raises(NotOneNeighbour, match=f"Ask is to go to {len(drawn)} peers"):
        node.ask(at(), drawn)
    assert held(node) == (1.0, 1.0)


def test_modes_do_not_mix():
    node = make(1.0)
    node.share(at(), (B,))
    for call in (
        lambda: node.ask(at(), (B,)),
        lambda: node.mix(at(sender=A), 1.0),
        lambda: node.answer(at(sender=A), {"sequence": 1}, 1.0),
    ):
        with pytest.raises(MixedModes, match=r"a weight of 0\.5"):
            call()
    asking = make(1.0)
    asking.ask(at(), (B,))
    with pytest.raises(MixedModes, match="Share ran"):
        asking.share(at(), (B,))


def test_account_is_kept_of_so_many_peers():
    node = make(1.0, max_peers=2)
    for n, peer in enumerate((A, B, A), start=1):
        node.receive(at(sender=peer), *part(1.0, sequence=n))

    with pytest.raises(TooManyPeers, match="there were 2 other peers") as caught:
        node.receive(at(sender=C), *part(1.0))

    assert "max_peers" in caught.value.fix
    assert node.status(at())["weight"] == 2.5


@pytest.mark.parametrize(
    ("config", "found"),
    [({"value": math.nan}, "value is nan"), ({"value": math.inf}, "value is inf"),
     ({"max_peers": 0}, "max_peers is 0"), ({"max_peers": 1 << 32}, "max_peers is")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(config, found):
    with pytest.raises(InvalidSetting, match=found):
        GossipConfig(**config)


@pytest.mark.parametrize("value", ["string", "int64", "peers(client)", "bytes"])
def test_slot_is_of_what_can_be_averaged(value):
    with pytest.raises(BadOption, match="a slot for gossip of"):
        GossipSlot(value)


# State


def test_exchanges_go_on_after_load():
    here, there = make(8.0), make(2.0)
    sent = here.share(at(), (B,))
    there.receive(at(sender=A), *sent[1:])
    asked, answering = make(8.0), make(2.0)
    answer = answering.answer(at(sender=A), *asked.ask(at(), (B,))[1:])

    elsewhere = [make() for _ in range(4)]
    for new, old in zip(elsewhere, (here, there, asked, answering), strict=True):
        new.load(old.save())

    assert elsewhere[0].share(at(9), (B,)) == sent
    elsewhere[1].receive(at(sender=A), *sent[1:])
    assert held(elsewhere[1]) == (6.0, 1.5)
    assert elsewhere[3].answer(at(sender=A), *asked.ask(at(), (B,))[1:]) == answer
    elsewhere[2].settle(at(sender=B), *answer)
    assert elsewhere[2].estimate(at()) == 5.0


def test_bfloat16_is_saved_and_loaded():
    draft = Draft(Layout.of({"w": ("bfloat16", (2,))}))
    draft["w"][:] = [1.5, -3.0]
    node = make()
    node.put(at(), draft.freeze())
    elsewhere = make()
    elsewhere.load(node.save())

    assert elsewhere.estimate(at()) == node.estimate(at()) == draft.freeze()


def test_state_of_a_node_without_a_value_is_none():
    node = make(3.0)
    node.load(make().save())
    assert node.status(at())["weight"] == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"form": None, "sequence": "x"},
        {"form": ["odd", []]},
        {"form": ["params", [["w", "float32", [3]]]]},
        {"weight": None},
        {"weight": math.nan},
        {"weight": 0.0},
        {"opened": [["?", 1, 0.5]]},
        {"opened": [[str(A), 1, 0.5], [str(B), 2, 0.5]]},
        {"seen": None},
    ],
)
def test_damaged_state_is_refused_whole(change):
    node = make(3.0)
    node.share(at(), (A,))
    whole = node.save()

    with pytest.raises(StateMismatch, match="no state of gossip"):
        node.load(State(tensors=whole.tensors, data={**whole.data, **change}))
    with pytest.raises(StateMismatch, match="no state of gossip"):
        node.load(State())

    assert node.save() == whole


# Nothing is lost


class Net:
    """Carries messages between Nodes by chance: late, in any order, twice, or never."""

    def __init__(self, seed, values, loss):
        self.peers = [peer_id(n) for n in range(len(values))]
        self.nodes = {peer: make() for peer in self.peers}
        for peer, value in zip(self.peers, values, strict=True):
            self.nodes[peer].put(at(), value)
        self.dice, self.loss, self.under_way = random.Random(seed), loss, []  # noqa: S311  # a test

    def send(self, source, to, method, message):
        for _ in range(self.dice.choice((1, 1, 2))):
            if self.dice.random() >= self.loss:
                self.under_way.append((source, to, method, message))

    def begin(self, method, now):
        source = self.dice.choice(self.peers)
        drawn = self.dice.choice([peer for peer in self.peers if peer != source])
        (to,), *message = getattr(self.nodes[source], method)(at(now), (drawn,))
        self.send(source, to, {"share": "receive", "ask": "answer"}[method], message)

    def deliver(self):
        spot = self.dice.randrange(len(self.under_way))
        source, to, method, message = self.under_way.pop(spot)
        try:
            reply = getattr(self.nodes[to], method)(at(sender=source), *message)
        except StaleSequence:
            return
        if method in ("receive", "answer"):
            back = {"receive": "confirm", "answer": "settle"}[method]
            self.send(to, source, back, reply if isinstance(reply, tuple) else (reply,))

    def run(self, method, steps):
        for now in range(steps):
            self.begin(method, now)
            while self.under_way and self.dice.random() < 0.9:
                self.deliver()

    def settle(self, method):
        """Let everything arrive from now on."""
        self.loss = 0.0
        while True:
            while self.under_way:
                self.deliver()
            open_ = [p for p in self.peers if self.nodes[p].status(at())["waiting"]]
            if not open_:
                return
            for peer in open_:
                to = next(iter(self.nodes[peer]._accounts.opened))
                _, *message = getattr(self.nodes[peer], method)(at(), (to,))
                self.send(peer, to, {"share": "receive", "ask": "answer"}[method], message)


@pytest.mark.parametrize("method", ["share", "ask"])
@pytest.mark.parametrize("loss", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_sum_and_weight_are_conserved_whatever_the_network_does(method, loss, seed):
    values = np.random.default_rng(seed).normal(size=9).tolist()
    net = Net(seed, values, loss)

    net.run(method, 400)
    net.settle(method)

    sums, weights = zip(*map(held, net.nodes.values()), strict=True)
    assert math.fsum(weights) == pytest.approx(9, rel=1e-12)
    assert math.fsum(map(np.sum, sums)) == pytest.approx(math.fsum(values), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("method", ["share", "ask"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int32])
def test_rounding_of_what_travels_moves_no_mass(method, dtype):
    # Sums are kept in float64, and what is taken off is what was sent after rounding.
    values = (np.random.default_rng(3).normal(size=(9, 4)) * 100).astype(dtype)
    net = Net(1, [params(*row, dtype=dtype) for row in values], 0.2)

    net.run(method, 2000)
    net.settle(method)

    total = np.sum([held(node)[0] for node in net.nodes.values()], axis=0)
    np.testing.assert_allclose(total, values.astype(np.float64).sum(axis=0), rtol=1e-12)
    for node in net.nodes.values():
        mean = values.astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(node.estimate(at())["w"], mean, atol=1.5, rtol=2e-2)


@pytest.mark.parametrize("method", ["share", "ask"])
def test_estimates_come_to_the_mean(method):
    net = Net(4, [float(n) for n in range(10)], 0.0)
    net.run(method, 1500)
    net.settle(method)

    for node in net.nodes.values():
        assert node.estimate(at()) == pytest.approx(4.5, abs=1e-6)
