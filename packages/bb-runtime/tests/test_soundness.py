"""An artifact whose regions and blocks do not fit together is refused when it is installed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import bb_dsl as bb
from bb_ir.ids import PeerId
from bb_runtime import Artifact, install
from bb_runtime.artifact import Op, RegionInfo
from bb_runtime.errors import InvalidArtifact


class Everything(bb.Module):
    """One block of each kind."""

    peer_class = "server"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        n = g.input("n", "int64")
        with g.loop(n, deadline="1m") as turn:
            turn.until(turn > 3)
            with g.when(turn > 1):
                self.model.fit(g, self.data.batches(g))
        g.output("last", g.last(turn, n))
        g.output("all", g.gather(turn, values=True).values)
        with g.each(self.data.batches(g)) as (x, y):
            g.output("x", x)
            g.output("y", y)
        with g.rounds(3, width=2) as r:
            g.output("round", r + n)
        with g.every("5s", jitter="1s") as tick:
            g.output("tick", tick + n)
        with g.on("topic", "int64") as event:
            g.output("event", event)
        g.publish("topic", n)


@pytest.fixture(scope="module")
def artifact(compiled) -> Artifact:
    return compiled(Everything())


def put(artifact: Artifact) -> None:
    install(PeerId.from_seed(0, 0), [], artifact, ["Everything"])


def changed(
    artifact: Artifact,
    ops: Callable[[Op], Op | None] = lambda op: op,
    regions: Callable[[RegionInfo], RegionInfo] = lambda info: info,
) -> Artifact:
    """Return an artifact with other ops and regions; what becomes `None` is left out."""
    (target,) = artifact.targets.values()
    kept = tuple(new for op in target.ops if (new := ops(op)) is not None)
    other = replace(target, ops=kept, regions=tuple(map(regions, target.regions)))
    return replace(artifact, targets={target.name: other}, programs={})


def refused(artifact: Artifact) -> str:
    with pytest.raises(InvalidArtifact) as caught:
        put(artifact)
    assert caught.value.fix == "compile the program again"
    assert "Everything" in caught.value.found
    return caught.value.found


def with_facts(kind: str, /, **facts: Any) -> Callable[[Op], Op]:
    def change(op: Op) -> Op:
        if op.name != kind:
            return op
        merged = {**op.attributes, **facts}
        return replace(op, attributes={k: v for k, v in merged.items() if v is not ...})

    return change


def test_what_the_compiler_wrote_is_installed(artifact):
    put(changed(artifact))


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("Loop", {"times": "3"}),
        ("Loop", {"times": True}),
        ("Loop", {"deadline_ns": -1}),
        ("Loop", {"deadline_ns": 1.5}),
        ("Rounds", {"times": [1]}),
        ("Rounds", {"width": 0}),
        ("Rounds", {"width": ...}),
        ("Rounds", {"on_fail": "explode"}),
        ("Rounds", {"on_fail": ...}),
        ("Every", {"period_ns": 0}),
        ("Every", {"period_ns": "5s"}),
        ("Every", {"period_ns": ...}),
        ("Every", {"jitter_ns": -1}),
        ("Every", {"jitter_ns": 5 * 10**9}),
        ("Every", {"jitter_ns": ...}),
        ("Every", {"overlap": "maybe"}),
        ("On", {"overlap": ...}),
        ("On", {"topic": ...}),
        ("On", {"topic": 3}),
    ],
)
def test_a_block_with_wrong_attributes(artifact, name, facts):
    found = refused(changed(artifact, with_facts(name, **facts)))
    assert f"the block {name} opens" in found
    assert f"{next(iter(facts))}=" in found


@pytest.mark.parametrize("captured", [-1, 2, 99, "1", None, True, 0.5])
@pytest.mark.parametrize("name", ["Rounds", "Every"])
def test_a_block_that_hands_over_more_or_less_than_it_has(artifact, name, captured):
    refused(changed(artifact, with_facts(name, captured=captured)))


@pytest.mark.parametrize("name", ["Loop", "When", "Each"])
def test_a_turn_reads_what_is_around_it_and_is_handed_nothing(artifact, name):
    assert "hands over 1" in refused(changed(artifact, with_facts(name, captured=1)))


def test_a_block_with_too_many_or_too_few_inputs(artifact):
    def fewer(op):
        return replace(op, inputs=()) if op.name in ("Each", "When") else op

    def more(op):
        return replace(op, inputs=("n", "n")) if op.name == "Loop" else op

    assert "0 inputs of its own" in refused(changed(artifact, fewer))
    assert "2 inputs of its own" in refused(changed(artifact, more))


@pytest.mark.parametrize("items", [1, 3, -2, "2", None])
def test_an_each_whose_turn_takes_another_number_of_items(artifact, items):
    refused(changed(artifact, with_facts("Each", items=items)))


def test_a_turn_that_gives_more_than_it_is_given(artifact):
    def more(op):
        return replace(op, outputs=(*op.outputs, "more")) if op.region == "@on" else op

    def none(op):
        return replace(op, outputs=()) if op.name == "Turn" and op.region == "@loop" else op

    def only_turn(op):
        return more(op) if op.name == "Turn" else op

    assert "whose Turn gives 2" in refused(changed(artifact, only_turn))
    refused(changed(artifact, none))


@pytest.mark.parametrize("kind", ["@loop", "@when", "@each", "@rounds", "@every", "@on"])
def test_a_block_without_its_turn_or_a_turn_without_its_block(artifact, kind):
    def no_turn(op):
        return None if op.name == "Turn" and op.region == kind else op

    def no_block(op):
        return None if op.name != "Turn" and op.opens == kind else op

    def stray(op):
        return replace(op, region="main") if op.name == "Turn" and op.region == kind else op

    refused(changed(artifact, no_turn))
    refused(changed(artifact, no_block))
    refused(changed(artifact, stray))


def test_a_turn_in_a_region_that_is_no_block(artifact):
    (target,) = artifact.targets.values()
    stray = next(op for op in target.ops if op.name == "Turn")
    stray = replace(stray, region="main", outputs=("stray",), opens="")
    other = replace(target, ops=(*target.ops, stray))
    found = refused(replace(artifact, targets={target.name: other}, programs={}))
    assert "a Turn stands in no block's region" in found


@pytest.mark.parametrize("opens", ["", "main", "@nowhere", "@when"])
def test_a_block_that_opens_another_region(artifact, opens):
    def change(op):
        return replace(op, opens=opens) if op.name == "Loop" else op

    refused(changed(artifact, change))


def test_two_blocks_that_open_one_region(artifact):
    (target,) = artifact.targets.values()
    twin = replace(next(op for op in target.ops if op.name == "Loop"), outputs=("twin",))
    other = replace(target, ops=(*target.ops, twin))
    found = refused(replace(artifact, targets={target.name: other}, programs={}))
    assert "2 blocks open @loop" in found


@pytest.mark.parametrize("kind", ["", "loop", "every", "magic"])
def test_a_region_of_another_kind_than_its_block(artifact, kind):
    def change(info):
        return replace(info, kind=kind) if info.name == "@rounds" else info

    refused(changed(artifact, regions=change))


@pytest.mark.parametrize(
    ("region", "parent"),
    [
        ("@loop", ""), ("@loop", "@each"), ("@loop", "@loop"), ("@loop", "@when"),
        ("@loop", "nowhere"), ("@rounds", "main"), ("@on", "main"), ("main", "@when"),
    ],
)  # fmt: skip
def test_regions_that_are_parts_of_the_wrong_ones(artifact, region, parent):
    def change(info):
        return replace(info, parent=parent) if info.name == region else info

    refused(changed(artifact, regions=change))


@pytest.mark.parametrize("deadline", [0, -5, "60s", None, 1.5])
def test_a_region_without_a_deadline(artifact, deadline):
    def change(info):
        return replace(info, deadline_ns=deadline) if info.name == "@when" else info

    assert "the deadline of @when" in refused(changed(artifact, regions=change))


def test_two_regions_of_one_name(artifact):
    (target,) = artifact.targets.values()
    other = replace(target, regions=(*target.regions, target.regions[0]))
    found = refused(replace(artifact, targets={target.name: other}, programs={}))
    assert "two regions have one name" in found


def test_an_op_in_a_region_that_is_not_there(artifact):
    def change(op):
        return replace(op, region="@nowhere") if op.name == "Fit" else op

    assert "'@nowhere'" in refused(changed(artifact, change))


def test_until_last_and_gather_of_what_is_no_block(artifact):
    def until(op):
        return replace(op, inputs=("n", op.inputs[1])) if op.name == "Until" else op

    def short(op):
        return replace(op, inputs=op.inputs[:1]) if op.name == "Until" else op

    def last(op):
        return replace(op, inputs=("n",)) if op.name == "Last" else op

    def out(op):
        return replace(op, outputs=()) if op.name == "Last" else op

    def gather(op):
        event = "event." + next(o.outputs[0] for o in ops if o.region == "@on").partition(".")[2]
        return replace(op, inputs=(event,)) if op.name == "Gather" else op

    def elsewhere(op):
        return replace(op, region="@each") if op.name == "Last" else op

    (target,) = artifact.targets.values()
    ops = target.ops
    for change in (until, short, last, out, gather, elsewhere):
        refused(changed(artifact, change))


@pytest.mark.parametrize(("name", "key"), [("Publish", "topic"), ("Output", "name")])
def test_ops_of_the_engine_without_their_names(artifact, name, key):
    refused(changed(artifact, with_facts(name, **{key: ...})))
    refused(changed(artifact, with_facts(name, **{key: 3})))
    refused(changed(artifact, lambda op: replace(op, inputs=()) if op.name == name else op))


def test_values_that_nothing_makes_or_that_are_out_of_reach(artifact):
    def unknown(op):
        return replace(op, inputs=("nothing",)) if op.name == "Loop" else op

    def sideways(op):
        inner = next(o.outputs[0] for o in ops if o.name == "Turn" and o.region == "@each")
        return replace(op, inputs=(inner,)) if op.name == "Loop" else op

    (target,) = artifact.targets.values()
    ops = target.ops
    assert "nothing" in refused(changed(artifact, unknown))
    refused(changed(artifact, sideways))
