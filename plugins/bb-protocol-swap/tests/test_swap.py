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
    sealed,
    to_bytes,
)
from bb_plans.errors import DifferenceDamaged
from bb_protocol_swap import bb_component
from bb_protocol_swap._swap import Swap, SwapConfig
from bb_protocol_swap.errors import (
    NobodyReady,
    NothingPublished,
    NotStaged,
    SwapRefused,
    SwapTooLarge,
)
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


def test_epochs_go_on_from_what_a_server_has():
    publisher, server = make(), make()
    publisher.manifest(CTX, weights(1))
    swapped(publisher, server, epoch=41)
    later = make()  # the publisher was replaced by another one
    later.manifest(CTX, weights(2))

    assert swapped(later, server)[1]["epoch"] == 42


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
