"""The component alone: versions published, planned for, staged, committed, refused."""

import dataclasses

import numpy as np
import pytest

from bb_ir.params import ParameterSet
from bb_ir.plan import (
    DigestAlgorithm,
    InvalidPlan,
    Plan,
    PlanFormatError,
    content_digest,
    digest_text,
    from_bytes,
    parse_digest,
    sealed,
    to_bytes,
)
from bb_plans.deltas import encode
from bb_plans.errors import DifferenceDamaged, VersionUnknown
from bb_plans.hashing import digest_of
from bb_protocol_swap import bb_component
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_protocol_swap.errors import (
    NobodyReady,
    NothingPublished,
    NotStaged,
    SwapRefused,
    SwapTooLarge,
)
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing import FakeContext, ProtocolSuite, environment, peer_id

A, B, C = (peer_id(n) for n in (1, 2, 3))
CTX = FakeContext()


def weights(seed, changed=0.0, size=5000):
    rng = np.random.default_rng(7)
    w = rng.standard_normal(size).astype(np.float32)
    mask = np.random.default_rng(seed).random(size) < changed
    w[mask] += np.float32(0.001)
    return ParameterSet.from_tensors({"w": w, "b": np.full(3, seed, np.float64)})


def make(**config):
    return Swap(SwapConfig(**config), environment("swap"))


def swapped(publisher, server, epoch=None):
    """Bring a server to what is published; returns the parameters and the receipt."""
    plan, spans = publisher.plan(CTX, server.held(CTX))
    ready = server.ready(CTX, plan, spans)
    publisher.vote(FakeContext(sender=A), ready)
    _, decision = publisher.decide(CTX, (A, B))
    if epoch is not None:
        decision = {**decision, "epoch": epoch}
    return server.commit(CTX, decision)


class TestInMemory(ProtocolSuite):
    config = SwapConfig()

    def make(self):
        return Swap(self.config, environment("swap"))

    def story(self, story):
        # One component plays both parts.
        story("Held")
        for seed in (1, 2):
            story("Manifest", weights(seed, 0.01))
            plan, spans = story("Plan", story("Held"))
            ready = story("Ready", plan, spans, sender=C)
            story("Vote", ready, sender=A)
            story("Vote", ready, sender=B)
            asked, decision = story("Decide", (A, B, C))
            assert asked == (A, B)
            story("Commit", decision, sender=C)
            story("Commit", decision, sender=C)
        story("Held")

    def deferred_calls(self):
        large = make(defer_above=0)
        large.manifest(CTX, weights(1))
        plan, spans = make_plan(weights(1), {"root": "", "epoch": 0})
        return {
            "manifest": (make(defer_above=0), lambda ctx: large.manifest(ctx, weights(2))),
            "plan": (large, lambda ctx: large.plan(ctx, {"root": "", "epoch": 0})),
            "ready": (large, lambda ctx: large.ready(ctx, plan, spans)),
        }


def make_plan(params, held):
    publisher = make()
    publisher.manifest(CTX, params)
    return publisher.plan(CTX, held)


def test_declaration_names_the_class_and_its_ops():
    assert component_class(bb_component()) is Swap
    assert bb_component().ops == Swap.ops


@pytest.mark.parametrize("schema", Swap.ops.values(), ids=lambda schema: schema.name)
def test_slot_has_a_method_for_each_op(schema):
    from bb_protocol_swap.slots import SwapHandle

    assert callable(getattr(SwapHandle, schema.method))


def test_parameters_arrive_as_they_are():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))

    params, receipt = swapped(publisher, server)

    assert params.to_bytes() == weights(1).to_bytes()
    assert receipt["left"] == ""
    assert receipt["sent"] > 0
    assert server.held(CTX) == {"root": receipt["root"], "epoch": 1}


def test_what_changed_little_is_sent_as_a_difference():
    publisher, server = make(link=1e6), make()
    publisher.manifest(CTX, weights(1))
    first = swapped(publisher, server)[1]
    publisher.manifest(CTX, weights(2, changed=0.01))

    params, receipt = swapped(publisher, server)

    assert params.to_bytes() == weights(2, changed=0.01).to_bytes()
    assert receipt["left"] == first["root"]
    assert receipt["sent"] < first["sent"] / 10


def test_a_node_that_was_away_is_planned_for_from_what_it_has():
    publisher, here, away = make(link=1e6), make(), make()
    publisher.manifest(CTX, weights(1))
    swapped(publisher, here)
    swapped(publisher, away)
    publisher.manifest(CTX, weights(2, changed=0.01))
    swapped(publisher, here)
    publisher.manifest(CTX, weights(3, changed=0.01))
    swapped(publisher, here)

    params, receipt = swapped(publisher, away)

    assert params.to_bytes() == weights(3, changed=0.01).to_bytes()
    assert 0 < receipt["sent"] < 4000


def test_a_node_with_an_unknown_version_is_sent_everything():
    publisher, server, other = make(keep=0), make(), make()
    other.manifest(CTX, weights(9, changed=1.0))
    swapped(other, server)
    publisher.manifest(CTX, weights(2))

    params, _ = swapped(publisher, server, epoch=2)

    assert params.to_bytes() == weights(2).to_bytes()


def test_plan_is_made_once_for_all_who_hold_the_same():
    publisher = make()
    publisher.manifest(CTX, weights(1))
    held = {"root": "", "epoch": 0}

    assert publisher.plan(CTX, held)[1] is publisher.plan(CTX, held)[1]


def test_what_is_staged_changes_nothing_that_is_served():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    swapped(publisher, server)
    before = server.held(CTX)
    publisher.manifest(CTX, weights(2))

    server.ready(CTX, *publisher.plan(CTX, before))

    assert server.held(CTX) == before


def test_decision_that_comes_twice_is_answered_alike():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    params, receipt = swapped(publisher, server)
    decision = {"root": receipt["root"], "epoch": receipt["epoch"]}

    again, _ = server.commit(CTX, decision)

    assert again.to_bytes() == params.to_bytes()
    assert server.held(CTX) == decision


def test_decision_that_comes_late_is_refused():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    old = swapped(publisher, server)[1]
    publisher.manifest(CTX, weights(2))
    new = swapped(publisher, server)[1]

    with pytest.raises(NotStaged, match=r"epoch 1; here epoch 2 is served"):
        server.commit(CTX, {"root": old["root"], "epoch": 1})
    assert server.held(CTX)["root"] == new["root"]


def test_decision_for_what_is_not_staged_is_refused():
    publisher, server = make(), make()
    root = publisher.manifest(CTX, weights(1))["root"]

    with pytest.raises(NotStaged, match="none is ready"):
        server.commit(CTX, {"root": root, "epoch": 1})
    assert server.held(CTX) == {"root": "", "epoch": 0}


def test_plan_for_another_version_is_refused():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    swapped(publisher, server)
    publisher.manifest(CTX, weights(2))
    plan, spans = publisher.plan(CTX, server.held(CTX))

    with pytest.raises(SwapRefused, match="and none is served here"):
        make().ready(CTX, plan, spans)


def test_flipped_byte_is_found_before_anything_is_staged():
    plan, spans = make_plan(weights(1), {"root": "", "epoch": 0})

    for at in (0, len(spans) // 2, len(spans) - 1):
        server = make()
        damaged = spans.copy()
        damaged[at] ^= 1
        with pytest.raises(DifferenceDamaged):
            server.ready(CTX, plan, damaged)
        assert server.held(CTX) == {"root": "", "epoch": 0}
        assert server.save().data == make().save().data
        assert server.ready(CTX, plan, spans)["sent"] == len(spans)


def test_plan_that_writes_elsewhere_is_refused():
    plan, spans = make_plan(weights(1), {"root": "", "epoch": 0})
    swap = from_bytes(Plan, plan).swap
    ops = (dataclasses.replace(swap.ops[0], src="mem://secrets"), *swap.ops[1:])
    other = sealed(dataclasses.replace(swap, ops=ops), producer="somebody", created_ns=0)

    with pytest.raises(SwapRefused, match=r"ops\[0\] moves mem://secrets to"):
        make().ready(CTX, to_bytes(other), spans)


def test_plan_that_brings_what_is_in_no_version_is_refused():
    plan, spans = make_plan(weights(1), {"root": "", "epoch": 0})
    swap = from_bytes(Plan, plan).swap
    bomb = bytes(1 << 20)
    encoded = np.frombuffer(encode("xorz", bomb), np.uint8)
    op = dataclasses.replace(
        swap.ops[0], dst=f"cas://{digest_text(digest_of(bomb))}", length=len(bomb),
        src_offset=len(spans), digest=digest_of(bomb), codec="xorz", encoded_length=len(encoded),
        src_digest=None,
    )  # fmt: skip
    other = dataclasses.replace(swap, ops=(*swap.ops, op), total_bytes=swap.total_bytes + op.length)
    server = make(max_bytes=100_000)

    with pytest.raises(SwapRefused, match=f"brings {1 << 20} bytes that no chunk"):
        server.ready(
            CTX, to_bytes(sealed(other, producer="somebody", created_ns=0)),
            np.concatenate([spans, encoded]),
        )  # fmt: skip


def test_plan_that_brings_too_little_is_refused():
    plan, spans = make_plan(weights(1), {"root": "", "epoch": 0})
    swap = dataclasses.replace(from_bytes(Plan, plan).swap, ops=(), total_bytes=0)

    with pytest.raises(InvalidPlan, match="is brought by no op"):
        make().ready(CTX, to_bytes(sealed(swap, producer="somebody", created_ns=0)), spans)


def test_version_that_is_too_large_is_refused_before_it_is_decoded():
    plan, spans = make_plan(weights(1), {"root": "", "epoch": 0})

    with pytest.raises(SwapTooLarge, match="at most 1000"):
        make(max_bytes=1000).ready(CTX, plan, spans[:0])


@pytest.mark.parametrize(("root", "epoch"), [("", 1 << 48), ("", -1), ("", 1.5), ("sha256:0", 1)])
def test_what_nobody_can_hold_is_refused(root, epoch):
    publisher = make()
    publisher.manifest(CTX, weights(1))
    before = publisher.save().data

    with pytest.raises((SwapRefused, PlanFormatError)):
        publisher.plan(CTX, {"root": root, "epoch": epoch})
    assert publisher.save().data == before


@pytest.mark.parametrize("wrong", [{"keep": -1}, {"link": 0.0}, {"max_bytes": -1}])
def test_configuration_is_checked(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make(**wrong)


@pytest.mark.parametrize("op", ["plan", "decide"])
def test_nothing_is_planned_or_decided_before_something_is_published(op):
    argument = {"root": "", "epoch": 0} if op == "plan" else (A,)

    with pytest.raises(NothingPublished):
        getattr(make(), op)(CTX, argument)


def test_nobody_flips_when_nobody_is_ready():
    publisher = make()
    publisher.manifest(CTX, weights(1))
    publisher.vote(FakeContext(sender=A), {"root": "sha256:" + "0" * 64, "sent": 0, "shared": 0})

    with pytest.raises(NobodyReady, match="none of 2 Nodes"):
        publisher.decide(CTX, (A, B))


def test_nobody_who_says_so_brings_epochs_to_their_end():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    publisher.plan(CTX, {"root": "", "epoch": (1 << 48) - 1})

    epoch = swapped(publisher, server)[1]["epoch"]
    publisher.manifest(CTX, weights(2))

    assert swapped(publisher, server)[1]["epoch"] == epoch + 1


@pytest.fixture(params=["memory", "disk"])
def both(request, tmp_path):
    """A component that publishes and serves, with its versions in memory or on disk."""
    made = make(keep=1, store="" if request.param == "memory" else str(tmp_path / "both"))
    yield made
    made.close()


def test_a_node_that_publishes_keeps_what_it_was_asked_to_serve(both):
    publisher = make()
    publisher.manifest(CTX, weights(5))
    ready = both.ready(CTX, *publisher.plan(CTX, both.held(CTX)))
    for seed in (6, 7, 8):
        both.manifest(CTX, weights(seed))

    params, _ = both.commit(CTX, {"root": ready["root"], "epoch": 1})

    assert params.to_bytes() == weights(5).to_bytes()


def test_a_node_that_serves_keeps_what_it_published(both):
    both.manifest(CTX, weights(1))
    publisher = make()
    for seed in (5, 6, 7):
        publisher.manifest(CTX, weights(seed))
        swapped(publisher, both)

    plan, spans = both.plan(CTX, {"root": "", "epoch": 0})

    server = make()
    ready = server.ready(CTX, plan, spans)
    params, _ = server.commit(CTX, {"root": ready["root"], "epoch": 1})
    assert params.to_bytes() == weights(1).to_bytes()


def test_what_was_staged_and_never_decided_for_is_not_kept(both):
    publisher = make()
    publisher.manifest(CTX, weights(1))
    swapped(publisher, both)
    publisher.manifest(CTX, weights(2, 0.1))
    swapped(publisher, both)
    served = {one.root for one in both._store.versions()}
    for seed in (3, 4, 5, 6):
        publisher.manifest(CTX, weights(seed, 0.1))
        ready = both.ready(CTX, *publisher.plan(CTX, both.held(CTX)))

    kept = {one.root for one in both._store.versions()}

    assert kept == served | {parse_digest(ready["root"])}


def test_what_was_staged_and_is_gone_is_refused():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    ready = server.ready(CTX, *publisher.plan(CTX, server.held(CTX)))
    server._store.prune()

    with pytest.raises(NotStaged, match="does not have it any more"):
        server.commit(CTX, {"root": ready["root"], "epoch": 1})
    with pytest.raises(VersionUnknown, match="is not staged"):
        server._store.commit(parse_digest(ready["root"]), 1)


def test_epochs_go_on_from_what_a_server_has():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    swapped(publisher, server, epoch=41)
    later = make()  # the publisher was replaced by another one
    later.manifest(CTX, weights(2))

    assert swapped(later, server)[1]["epoch"] == 42


@pytest.mark.parametrize("keep", [0, 2])
def test_publisher_on_disk_keeps_as_many_versions_as_it_was_told(tmp_path, keep):
    publisher = make(store=str(tmp_path / "p"), keep=keep)
    roots = [publisher.manifest(CTX, weights(seed, 0.1))["root"] for seed in range(6)]

    kept = {digest_text(one.root) for one in publisher._store.versions()}

    assert kept == {*roots[-1 - keep :]}


def test_server_on_disk_keeps_the_version_before_and_no_older_one(tmp_path):
    publisher, server = make(), make(store=str(tmp_path / "s"))
    roots = []
    for seed in range(5):
        publisher.manifest(CTX, weights(seed, 0.1))
        roots.append(swapped(publisher, server)[1]["root"])
    publisher.manifest(CTX, weights(9))
    ready = server.ready(CTX, *publisher.plan(CTX, server.held(CTX)))

    kept = {digest_text(one.root) for one in server._store.versions()}

    assert kept == {*roots[-2:], ready["root"]}


def test_work_that_nobody_wants_any_more_changes_nothing_that_is_served(tmp_path):
    publisher, server = make(), make(store=str(tmp_path / "s"))
    publisher.manifest(CTX, weights(1))
    swapped(publisher, server)
    before = server.held(CTX)
    publisher.manifest(CTX, weights(2))
    plan = publisher.plan(CTX, before)
    context = FakeContext(keeps=True)
    server.ready(context, *plan)
    [work] = context.works
    work.run()  # and its result is dropped

    assert server.held(CTX) == before
    with pytest.raises(NotStaged):
        server.commit(CTX, {"root": digest_text(publisher._root), "epoch": 2})
    assert swapped(publisher, server)[1]["left"] == before["root"]


def test_versions_on_disk_outlive_the_component(tmp_path):
    publisher = make()
    publisher.manifest(CTX, weights(1))
    server = make(store=str(tmp_path / "store"))
    held = swapped(publisher, server)[1]
    server.close()

    again = make(store=str(tmp_path / "store"))

    assert again.held(CTX) == {"root": held["root"], "epoch": 1}
    publisher.manifest(CTX, weights(2, changed=0.01))
    params, receipt = swapped(publisher, again)
    assert params.to_bytes() == weights(2, changed=0.01).to_bytes()
    assert receipt["left"] == held["root"]
    again.close()


def test_saved_versions_are_hashed_when_they_are_loaded():
    publisher = make()
    publisher.manifest(CTX, weights(1))
    state = publisher.save()
    name, blob = next((name, blob) for name, blob in state.tensors.items() if len(blob) > 100)
    wrong = blob.copy()
    wrong[50] ^= 1
    fresh = make()

    with pytest.raises(DifferenceDamaged):
        fresh.load(dataclasses.replace(state, tensors={**state.tensors, name: wrong}))
    assert fresh.save().data == make().save().data


def test_root_is_the_digest_of_the_manifest():
    publisher = make(model="digits")
    root = publisher.manifest(CTX, weights(1))["root"]
    plan = from_bytes(Plan, publisher.plan(CTX, {"root": "", "epoch": 0})[0])

    assert digest_text(content_digest(plan.swap.to)) == root
    assert plan.swap.to.model_id == "digits"
    assert {chunk.digest.algorithm for chunk in plan.swap.to.files} == {DigestAlgorithm.BLAKE3}
