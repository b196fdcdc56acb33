import math

import pytest

from bb_protocol_registry import bb_component
from bb_protocol_registry._registry import Registry, RegistryConfig
from bb_protocol_registry.errors import (
    InvalidMessage,
    InvalidSetting,
    NoSender,
    RegistryFull,
    StaleSequence,
    StateMismatch,
)
from bb_roles import State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing import FakeContext, environment, peer_id

SECOND = 10**9
A, B, C, D = (peer_id(n) for n in range(1, 5))


def make(**config):
    return Registry(RegistryConfig(**config), environment("registry"))


def at(seconds, sender=None):
    return FakeContext(now_ns=round(seconds * SECOND), sender=sender)


def told(sequence=1, ttl=90, labels=()):
    return {"sequence": sequence, "ttl_ns": ttl * SECOND, "labels": list(labels)}


def join(registry, peer, seconds=0.0, sequence=1, **fields):
    return registry.register(at(seconds, peer), told(sequence, **fields))


def test_declaration_names_the_class():
    assert component_class(bb_component()) is Registry


# The lease


def test_lease_is_what_was_asked_for_and_renewed_after_a_third():
    lease = join(make(), A, ttl=60)

    assert lease == {
        "sequence": 1, "ttl_ns": 60 * SECOND, "renew_after_ns": 20 * SECOND, "members": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "granted"), [(0, 30), (29, 30), (30, 30), (300, 300), (999, 300)]
)
def test_lease_is_bounded_both_ways(asked, granted):
    assert join(make(), A, ttl=asked)["ttl_ns"] == granted * SECOND


def test_member_is_there_until_its_lease_ends_and_not_at_that_instant():
    registry = make()
    join(registry, A, seconds=10, ttl=90)

    assert registry.members(at(99.999999999)) == (A,)
    assert registry.members(at(100)) == ()


def test_renewal_prolongs_the_lease_and_keeps_the_place():
    registry = make()
    join(registry, A)
    join(registry, B)
    join(registry, A, seconds=60, sequence=2)

    assert registry.members(at(60)) == (A, B)
    assert registry.members(at(120)) == (A,)


def test_who_comes_again_after_its_lease_comes_last():
    registry = make()
    join(registry, A, ttl=30)
    join(registry, B)
    join(registry, A, seconds=40)  # its old number is forgotten with its lease

    assert registry.members(at(40)) == (B, A)


def test_leases_end_in_their_order_and_not_in_that_of_joining():
    registry = make()
    for peer, ttl in ((A, 60), (B, 30), (C, 45)):
        join(registry, peer, ttl=ttl)
    version, *_ = registry.view(at(0), 0)

    assert registry.view(at(70), version)[3] == (B, C, A)


# Who says so


def test_member_is_the_sender_whatever_the_message_says():
    registry = make()
    registry.register(at(0, A), {**told(), "peer": str(B)})

    assert registry.members(at(0)) == (A,)


def test_without_a_message_nobody_is_taken_in_or_out():
    with pytest.raises(NoSender, match="Register ran where no message had arrived") as caught:
        make().register(at(0), told())
    with pytest.raises(NoSender, match="Remove ran"):
        make().remove(at(0), {"sequence": 1})

    assert "g.net_out" in caught.value.fix


@pytest.mark.parametrize("sequence", [1, 4, 5])
def test_overtaken_messages_are_refused(sequence):
    registry = make()
    join(registry, A, sequence=5)

    with pytest.raises(StaleSequence, match=f"sent message {sequence}, and message 5 is here"):
        join(registry, A, seconds=50, sequence=sequence, labels=["late"])
    with pytest.raises(StaleSequence, match=f"sent message {sequence}, and message 5 is here"):
        registry.remove(at(50, A), {"sequence": sequence})

    assert registry.members(at(89)) == (A,)
    assert registry.members(at(90)) == (), "the lease was not prolonged"


def test_announcement_that_arrives_after_the_farewell_brings_nobody_back():
    registry = make()
    join(registry, A, sequence=1)
    registry.remove(at(1, A), {"sequence": 3})

    assert registry.members(at(1)) == ()
    with pytest.raises(StaleSequence):
        join(registry, A, seconds=2, sequence=2)
    join(registry, A, seconds=3, sequence=4)
    assert registry.members(at(3)) == (A,)


def test_farewell_of_a_stranger_does_nothing():
    registry = make()
    registry.remove(at(0, A), {"sequence": 1})

    assert registry.members(at(0)) == ()
    assert join(registry, A)["members"] == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"sequence": 0}, "sequence=0"),
        ({"sequence": True}, "sequence=True"),
        ({"sequence": 1 << 63}, "sequence=9223372036854775808"),
        ({"sequence": 1.0}, r"sequence=1\.0"),
        ({"ttl_ns": -1}, "ttl_ns=-1"),
        ({"ttl_ns": None}, "ttl_ns=None"),
        ({"labels": "gpu"}, "labels are 'gpu'"),
        ({"labels": None}, "labels are None"),
        ({"labels": ["x"] * 17}, "there are 17 labels"),
        ({"labels": ["x" * 65]}, "'x+' is a label"),
        ({"labels": [""]}, "'' is a label"),
        ({"labels": [7]}, "'7' is a label"),
    ],
)
def test_announcement_that_is_none_is_refused(change, found):
    registry = make()

    with pytest.raises(InvalidMessage, match=found):
        registry.register(at(0, A), {**told(), **change})

    assert registry.members(at(0)) == ()


# Room


def test_full_registry_takes_nobody_new_and_renews_the_others():
    registry = make(max_members=2)
    join(registry, A)
    join(registry, B)

    with pytest.raises(RegistryFull, match="there are 2 members") as caught:
        join(registry, C)

    assert "max_members" in caught.value.fix
    assert join(registry, A, sequence=2)["members"] == 2
    assert registry.members(at(0)) == (A, B)


def test_who_left_or_ran_out_leaves_room():
    registry = make(max_members=2)
    join(registry, A)
    join(registry, B, ttl=30)
    registry.remove(at(1, A), {"sequence": 2})

    join(registry, C, seconds=2)
    join(registry, D, seconds=31)

    assert registry.members(at(31)) == (C, D)


# A member


def test_announcements_are_due_before_the_first_and_after_a_third():
    member = make(ttl_s=60.0)

    assert member.due(at(5))
    first = member.announce(at(5))
    assert first["ttl_ns"] == 60 * SECOND
    assert not member.due(at(24))
    assert member.due(at(25)), "no lease came, and a third of the wish has passed"
    member.accept(at(6), join(make(), A, sequence=first["sequence"], ttl=30))
    assert not member.due(at(14))
    assert member.due(at(15)), "the time counts from the announcement"


def test_after_leaving_nothing_is_due_until_one_announces_again():
    member = make()
    member.announce(at(0))
    member.leave(at(1))

    assert not member.due(at(1000))
    member.announce(at(1000))
    assert member.due(at(1030))


def test_sequences_grow_even_without_state_and_when_time_stands():
    member = make()
    sequences = [member.announce(at(0))["sequence"] for _ in range(2)]
    sequences += [member.leave(at(0))["sequence"], member.announce(at(9))["sequence"]]
    reborn = make().announce(at(10))["sequence"]

    assert sequences == [1, 2, 3, 9 * SECOND]
    assert reborn > sequences[-1]


def test_lease_for_an_earlier_announcement_is_passed_over():
    member = make(ttl_s=90.0)
    first = member.announce(at(0))
    member.announce(at(10))
    lease = {"sequence": first["sequence"], "ttl_ns": 30, "renew_after_ns": 10, "members": 1}

    member.accept(at(11), lease)

    assert not member.due(at(39))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"sequence": 2}, "answers announcement 2"),
        ({"ttl_ns": 0}, "ttl_ns=0"),
        ({"renew_after_ns": 0}, "renew_after_ns=0"),
        ({"renew_after_ns": 31}, "renewed after 31 ns"),
        ({"members": -1}, "members=-1"),
    ],
)
def test_lease_that_is_none_is_refused(change, found):
    member = make()
    member.announce(at(0))
    lease = {"sequence": 1, "ttl_ns": 30, "renew_after_ns": 10, "members": 1}

    with pytest.raises(InvalidMessage, match=found):
        member.accept(at(0), {**lease, **change})


# Samples


def test_sample_draws_members_evenly_in_the_order_of_registration():
    registry = make()
    for peer in (A, B, C, D):
        join(registry, peer)
    drawn = [registry.sample(FakeContext(seed=n), n=2) for n in range(600)]

    order = [A, B, C, D]
    assert all(order.index(one) < order.index(other) for one, other in drawn)
    counts = [sum(peer in pair for pair in drawn) for peer in order]
    assert all(abs(count - 300) < 60 for count in counts)
    assert registry.sample(FakeContext(seed=3), n=2) == drawn[3]


def test_sample_is_of_those_whose_leases_live_and_not_of_the_node_itself():
    registry, own = make(), FakeContext().peer
    join(registry, A, ttl=30)
    join(registry, B, labels=["gpu"])
    join(registry, own)

    assert registry.sample(at(0), n=9) == (A, B)
    assert registry.sample(at(0), n=9, label="gpu") == (B,)
    assert registry.sample(at(60), n=1) == (B,)
    assert registry.sample(at(60), n=1, label="eu") == ()


def test_sample_of_nobody_cannot_be_asked_for():
    with pytest.raises(InvalidSetting, match="a sample of 0 members"):
        make().sample(at(0), n=0)


# Views


def test_member_learns_of_so_many_and_no_more():
    member = make(max_members=2)
    member.learn(at(0), 1, True, (A,), ())

    with pytest.raises(InvalidMessage, match="would know 3 members") as caught:
        member.learn(at(0), 2, False, (B, C), ())
    assert "max_members" in caught.value.fix
    assert (member.members(at(0)), member.known(at(0))) == ((A,), 1)
    member.learn(at(0), 2, False, (B, C), (A,))
    assert member.members(at(0)) == (B, C)


def test_view_tells_what_changed_since():
    registry, member = make(), make()
    join(registry, A)
    join(registry, B)
    version, complete, joined, left = registry.view(at(0), member.known(at(0)))
    assert (complete, joined, left) == (True, (A, B), ())
    member.learn(at(0), version, complete, joined, left)

    join(registry, C, seconds=1)
    registry.remove(at(2, A), {"sequence": 2})
    later = registry.view(at(2), member.known(at(2)))
    assert later[1:] == (False, (C,), (A,))
    member.learn(at(2), *later)

    assert member.members(at(2)) == registry.members(at(2)) == (B, C)
    assert registry.view(at(3), later[0])[1:] == (False, (), ())


def test_who_went_and_came_again_is_in_both_and_stays_known():
    registry, member = make(), make()
    join(registry, A)
    member.learn(at(0), *registry.view(at(0), 0))
    registry.remove(at(1, A), {"sequence": 2})
    join(registry, A, seconds=2, sequence=3)

    member.learn(at(2), *registry.view(at(2), member.known(at(2))))

    assert member.members(at(2)) == (A,)


def test_view_of_a_label_follows_those_who_change_it():
    registry, member = make(), make()
    join(registry, A, labels=["gpu"])
    join(registry, B)
    member.learn(at(0), *registry.view(at(0), 0, label="gpu"))
    assert member.members(at(0)) == (A,)

    join(registry, A, seconds=1, sequence=2)
    join(registry, B, seconds=1, sequence=2, labels=["gpu", "eu"])
    member.learn(at(1), *registry.view(at(1), member.known(at(1)), label="gpu"))

    assert member.members(at(1)) == (B,)
    assert registry.members(at(1), label="eu") == (B,)
    assert member.members(at(1), label="gpu") == (), "a view tells no labels"


def test_who_asks_for_what_is_forgotten_gets_all_of_it():
    registry = make(max_members=2)
    join(registry, A)
    early, *_ = registry.view(at(0), 0)
    for n in range(1, 5):  # more departures than are remembered
        join(registry, B, seconds=n, sequence=n * SECOND)
        registry.remove(at(n, B), {"sequence": n * SECOND + 1})

    assert registry.view(at(5), early)[1:] == (True, (A,), ())


def test_registry_that_lost_its_table_gives_all_to_those_who_knew_more():
    old, new, member = make(), make(), make()
    join(old, A, seconds=10)
    member.learn(at(10), *old.view(at(10), 0))
    join(new, B, seconds=5)

    view = new.view(at(5), member.known(at(5)))
    member.learn(at(5), *view)

    assert member.members(at(5)) == (B,)


def test_view_that_was_overtaken_is_passed_over():
    registry, member = make(), make()
    join(registry, A)
    early = registry.view(at(0), 0)
    join(registry, B)
    between = registry.view(at(0), early[0])
    join(registry, C)
    member.learn(at(0), *early)
    member.learn(at(0), *registry.view(at(0), early[0]))
    member.learn(at(0), *between)

    assert member.members(at(0)) == (A, B, C)


@pytest.mark.parametrize("since", [-1, True, None, 1 << 63])
def test_question_that_is_none_is_refused(since):
    with pytest.raises(InvalidMessage, match="since="):
        make().view(at(0), since)


@pytest.mark.parametrize(
    ("view", "found"),
    [
        ((-1, True, (), ()), "version=-1"),
        ((1, 1, (), ()), "complete is 1"),
        ((1, True, (A, "B"), ()), "joined is a tuple"),
        ((1, True, (), None), "left is a NoneType"),
    ],
)
def test_view_that_is_none_is_refused(view, found):
    member = make()
    member.learn(at(0), 1, True, (A,), ())

    with pytest.raises(InvalidMessage, match=found):
        member.learn(at(0), *view)

    assert member.members(at(0)) == (A,)


# State


def test_leases_go_on_under_another_clock_with_what_was_left():
    registry = make()
    join(registry, A, seconds=1000, ttl=90)
    join(registry, B, seconds=1030, ttl=30)
    registry.announce(at(1030))
    registry.members(at(1040))  # the last call before it is saved

    elsewhere = make()
    elsewhere.load(registry.save())

    assert elsewhere.members(at(5)) == (A, B)  # 50 s and 20 s are left
    assert not elsewhere.due(at(24))
    assert elsewhere.due(at(25))
    assert elsewhere.members(at(25)) == (A,)
    assert elsewhere.members(at(55)) == ()


def test_state_that_was_never_used_is_saved_as_it_was_loaded():
    registry = make()
    join(registry, A, seconds=1000)
    registry.leave(at(1001))
    state = registry.save()

    elsewhere = make()
    elsewhere.load(state)

    assert elsewhere.save() == state


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"member": {}, "table": {}},
        {"member": None, "table": None},
        {"table": {"version": 0, "forgotten": 0, "gone": [], "entries": [{"peer": "?"}]}},
    ],
)
def test_damaged_state_is_refused_whole(data):
    registry = make()
    join(registry, A)
    whole = registry.save().data

    with pytest.raises(StateMismatch, match="no state of a registry"):
        registry.load(State(data={**({} if not data else whole), **data}))

    assert registry.members(at(0)) == (A,)


# Configuration


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"ttl_s": 0}, "ttl_s is 0"),
        ({"ttl_s": math.nan}, "ttl_s is nan"),
        ({"max_ttl_s": math.inf}, "max_ttl_s is inf"),
        ({"min_ttl_s": 301}, "min_ttl_s is 301"),
        ({"max_members": 0}, "max_members is 0"),
        ({"labels": ("",)}, "'' is a label"),
    ],
)
def test_settings_out_of_range_are_refused(config, found):
    with pytest.raises(InvalidSetting, match=found):
        RegistryConfig(**config)


def test_settings_come_from_a_mapping():
    config = build_config(RegistryConfig, {"ttl_s": 5, "labels": ["a"]}, "registry")

    assert config == RegistryConfig(ttl_s=5.0, labels=("a",))
    with pytest.raises(ConfigError, match="max_members is 0"):
        build_config(RegistryConfig, {"max_members": 0}, "registry")
