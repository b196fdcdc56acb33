from collections.abc import Sequence

import pytest

from bb_ir.ops import Attribute, OpSchema, Port, ops
from bb_ir.types import peers
from bb_peers_registry import bb_component
from bb_peers_registry._members import Members, MembersConfig, PeersError
from bb_roles import Protocol
from bb_roles.registry import component_class
from bb_testing import PeerSelectorSuite
from bb_testing.context import FakeContext, environment, peer_id


class Table(Protocol):
    """A table whose rows end at an instant; the op stands on a method with a name of its own."""

    ops = ops(
        OpSchema("Members", "alive", (), (Port("peers", peers()),), (Attribute("label", ""),))
    )

    def __init__(self, rows):
        super().__init__(None, environment("registry"))
        self.rows = rows

    def alive(self, ctx, *, label=""):
        return tuple(
            peer for peer, ends, labels in self.rows
            if ctx.now_ns < ends and (not label or label in labels)
        )  # fmt: skip


class Mute(Protocol):
    """Another protocol."""


def make(count=5, **config):
    rows = [(peer_id(n), 100 * n, ("gpu",) if n % 2 else ()) for n in range(1, count + 1)]
    return over(Table(rows), **config)


def over(table, **config):
    return Members(
        MembersConfig(**config), environment("clients", dependencies={"registry": table})
    )


class TestMembers(PeerSelectorSuite):
    def make(self):
        return make()


def test_declaration_names_the_class_and_what_it_needs():
    assert component_class(bb_component()) is Members
    assert bb_component().depends == {"registry": "protocol"}
    assert Members.depends == {"registry": Protocol}


def test_view_is_that_of_the_registry_at_this_instant():
    made = make()

    assert made.current_view(FakeContext(now_ns=250)) == (peer_id(3), peer_id(4), peer_id(5))
    assert made.current_view(FakeContext(now_ns=600)) == ()


def test_sample_is_of_the_living_in_their_order():
    made = make()

    for seed in range(30):
        sample = made.sample(FakeContext(seed=seed, now_ns=150), n=3)
        assert isinstance(sample, Sequence)
        assert peer_id(1) not in sample
        assert sorted(sample, key=[peer_id(n) for n in range(6)].index) == list(sample)


def test_every_cohort_is_equally_likely():
    made = make(4)

    drawn = [frozenset(made.sample(FakeContext(seed=seed), n=2)) for seed in range(1200)]

    counts = [drawn.count(cohort) for cohort in set(drawn)]
    assert len(counts) == 6
    assert min(counts) > 140  # 200 are expected; the standard deviation is 13


def test_label_selects():
    made = make(label="gpu")

    assert made.current_view(FakeContext()) == (peer_id(1), peer_id(3), peer_id(5))


def test_node_does_not_select_itself_unless_told_to():
    me = FakeContext(peer=peer_id(2))

    assert peer_id(2) not in make().current_view(me)
    assert peer_id(2) not in make().sample(me, n=5)
    assert peer_id(2) in make(include_self=True).sample(me, n=5)


@pytest.mark.parametrize("n", [0, -1])
def test_sample_of_nobody_is_refused(n):
    with pytest.raises(PeersError, match=f"a sample of {n} peers"):
        make().sample(FakeContext(), n=n)


@pytest.mark.parametrize(
    ("config", "found"),
    [({}, "slot 'clients' knows no member to sample"), ({"label": "tpu"}, "with label 'tpu' to")],
)
def test_without_members_sampling_says_what_is_missing(config, found):
    with pytest.raises(PeersError, match=found) as caught:
        make(**config).sample(FakeContext(now_ns=10**9 * (not config)), n=1)

    assert "announce themselves" in caught.value.fix


def test_protocol_without_members_is_refused():
    with pytest.raises(PeersError, match="slot 'registry' holds a Mute, which has no op Members"):
        over(Mute(None, environment()))
    with pytest.raises(PeersError, match="slot 'registry' holds nothing"):
        Members(MembersConfig(), environment())
