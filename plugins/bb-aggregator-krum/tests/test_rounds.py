"""What the rule keeps of a round, refuses, saves and says in its summary."""

import math
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bb_aggregator_krum import bb_component
from bb_aggregator_krum._krum import Krum, KrumConfig
from bb_aggregator_krum.errors import (
    CohortExceeded,
    InvalidSetting,
    MetricsError,
    NothingContributed,
    RoundKeyError,
    UpdateMismatch,
    UpdateOutOfRange,
)
from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_roles import State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment, peer_id

CTX = FakeContext(sender=peer_id(3))
WHO = str(peer_id(3))
LEAST = 5


def make(**config):
    return Krum(KrumConfig(**config), environment("aggregator"))


def params(*values, dtype="float32"):
    return ParameterSet.from_tensors({"w": np.array(values, dtype)})


def fill(aggregator, count=LEAST, ctx=CTX, **metrics):
    for at in range(count):
        aggregator.contribute(ctx, params(at, -at), {"examples": at + 1, **metrics})


def refuse(error, update, metrics, match):
    aggregator, clean = make(), make()
    fill(aggregator)
    fill(clean)
    with pytest.raises(error, match=match) as caught:
        aggregator.contribute(CTX, update, metrics)
    assert aggregator.aggregate(CTX) == clean.aggregate(CTX)
    return str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 32_767, 32_768, 69_999])
def test_a_value_that_is_not_finite_is_refused_and_its_peer_named(dtype, bad, at):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    values = np.ones(70_000, dtype)
    values[at] = bad
    update = ParameterSet.from_tensors({"fine": np.ones(2, dtype), "w": values})
    with pytest.raises(UpdateOutOfRange, match="tensor 'w'") as caught:
        make().contribute(CTX, update, {"examples": 1})
    assert WHO in str(caught.value)


def test_a_refused_value_leaves_no_trace():
    assert WHO in refuse(UpdateOutOfRange, params(1, np.nan), {"examples": 1, "loss": 1.0}, "nan")


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"v": np.zeros(2, "f4")}, "'v'"),
        ({"w": np.zeros(3, "f4")}, r"float32\[3\]"),
        ({"w": np.zeros(2, "f8")}, "float64"),
        ({}, "no tensor 'w'"),
    ],
)
def test_an_update_of_another_layout_is_refused(other, said):
    assert WHO in refuse(UpdateMismatch, ParameterSet.from_tensors(other), {"examples": 1}, said)


def test_an_image_whose_dtypes_are_scattered_is_refused():
    header = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"I32","shape":[1],"data_offsets":[4,8]},'
        b'"c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}'
    )
    scattered = ParameterSet.from_image(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(UpdateMismatch, match="do not lie together"):
        make().contribute(CTX, scattered, {"examples": 1})


@pytest.mark.parametrize("examples", [None, 0, -1, 2**40 + 1, 1.0, "3", True, np.nan])
def test_a_number_of_examples_that_is_none_is_refused(examples):
    assert WHO in refuse(MetricsError, params(1, 1), {"examples": examples}, "examples")
    with pytest.raises(MetricsError, match="examples"):
        make().contribute(CTX, params(1), {})


def test_too_many_metrics_are_refused():
    metrics = {"examples": 1, **{f"m{i}": 1.0 for i in range(64)}}
    refuse(MetricsError, params(1, 1), metrics, "65 metrics")


def test_more_updates_than_the_cohort_are_refused():
    aggregator = make(cohort=LEAST)
    fill(aggregator)
    with pytest.raises(CohortExceeded, match=f"{LEAST} updates") as caught:
        aggregator.contribute(CTX, params(1, 1), {"examples": 1})
    assert WHO in str(caught.value)
    assert aggregator.aggregate(CTX)[1]["count"] == LEAST


def test_an_update_of_nobody_is_this_nodes():
    with pytest.raises(UpdateOutOfRange, match="this Node"):
        make().contribute(FakeContext(), params(np.nan), {"examples": 1})


def test_an_empty_round_has_no_result():
    with pytest.raises(NothingContributed, match="without updates"):
        make().aggregate(CTX)


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"cohort": 0}, "cohort"),
        ({"cohort": 2**20 + 1}, "cohort"),
        ({"defer_above": -1}, "defer_above"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(config, name):
    with pytest.raises(InvalidSetting, match=name):
        make(**config)
    with pytest.raises(ConfigError, match=name):
        build_config(Krum.Config, config, "aggregator")


# ---- the summary


def test_metrics_are_averaged_by_examples_in_the_order_of_their_names():
    aggregator = make()
    for at in range(max(3, LEAST)):
        loss = np.float32(2.0) if at else math.nan
        metrics = {"z": 1.0, "examples": at + 1, "loss": loss, "bad": np.inf, "note": "x", "n": 3}
        aggregator.contribute(CTX, params(1.0), {**metrics, "count": 9.0})

    summary = aggregator.aggregate(CTX)[1]

    # All are equal, and of equal updates the one with the fewest examples comes first.
    assert list(summary) == ["count", "examples", "selected", "bad", "loss", "z"]
    assert math.isnan(summary.pop("bad"))
    assert math.isnan(summary.pop("loss"))
    assert summary == {"count": 5, "examples": 15, "selected": 1, "z": 1.0}


@given(
    st.lists(
        st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.integers(1, 2**40)),
        min_size=LEAST,
        max_size=LEAST + 3,
    ),
    st.randoms(),
)
def test_the_summary_does_not_depend_on_the_order(updates, random):
    def summary(order):
        aggregator = make()
        for loss, examples in order:
            aggregator.contribute(CTX, params(1.0), {"examples": examples, "loss": loss})
        return aggregator.aggregate(CTX)

    shuffled = list(updates)
    random.shuffle(shuffled)
    assert summary(updates) == summary(shuffled)


@pytest.mark.parametrize(
    ("metrics", "summary"),
    [
        (
            "record(examples:int64,loss:float64)",
            "record(count:int64,examples:int64,selected:int64,loss:float64)",
        ),
        ("record", None),
        ("record(examples:int64,loss:any)", None),
        ("any", None),
    ],
)
def test_type_of_the_summary_follows_from_that_of_the_metrics(metrics, summary):
    given_ = (parse_type("params"), parse_type(metrics))

    told = Krum.infer_types(KrumConfig(), "Aggregate", given_)

    assert told == (summary and {"summary": parse_type(summary)})
    assert Krum.infer_types(KrumConfig(), "Contribute", given_) is None


# ---- work that takes long


def test_a_large_round_is_deferred_and_gives_the_same():
    direct, deferred = make(defer_above=None), make(defer_above=0)
    for aggregator in (direct, deferred):
        fill(aggregator, loss=0.5)
    ctx = FakeContext(sender=peer_id(3), keeps=True)

    work = deferred.aggregate(ctx)
    saved = deferred.save()  # the Node may be stopped meanwhile, and asks again elsewhere
    work.run()

    assert work.result() == direct.aggregate(CTX)
    with pytest.raises(NothingContributed):
        deferred.aggregate(CTX)
    other = make()
    other.load(saved)
    assert other.aggregate(CTX)[1]["count"] == LEAST


def test_at_the_limit_nothing_is_deferred():
    aggregator = make(defer_above=2 * LEAST)
    fill(aggregator)
    ctx = FakeContext(sender=peer_id(3), keeps=True)
    assert aggregator.aggregate(ctx)[1]["count"] == LEAST
    assert ctx.works == []


# ---- state


KEYS = st.recursive(
    st.one_of(st.integers(), st.text(), st.binary(), st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
)


@given(KEYS)
def test_rounds_with_plain_keys_are_saved_and_loaded(key):
    first, second = make(), make()
    ctx = FakeContext(round=key)
    fill(first, ctx=ctx, loss=0.1, bad=-np.inf)
    second.load(first.save())
    for aggregator in (first, second):
        aggregator.contribute(ctx, params(2.5, 1), {"examples": 1, "loss": 0.3})
    (ours, said), (theirs, heard) = first.aggregate(ctx), second.aggregate(ctx)
    assert ours == theirs
    assert math.isnan(said.pop("bad", math.nan))
    assert math.isnan(heard.pop("bad", math.nan))
    assert said == heard


def test_a_round_with_another_key_cannot_be_saved():
    aggregator = make()
    fill(aggregator, ctx=FakeContext(round=object()))
    with pytest.raises(RoundKeyError, match="cannot be saved"):
        aggregator.save()


def test_a_round_that_is_named_as_the_engine_names_frames_is_saved():
    class Name(NamedTuple):
        incarnation: int
        number: int

    ctx = FakeContext(round=Name(1, 4))
    aggregator, other = make(), make()
    fill(aggregator, ctx=ctx)
    other.load(aggregator.save())
    assert other.aggregate(ctx) == aggregator.aggregate(ctx)


def test_what_is_loaded_is_not_the_memory_that_was_given():
    aggregator, other = make(), make()
    fill(aggregator)
    state = aggregator.save()
    tensors = {name: tensor.copy() for name, tensor in state.tensors.items()}
    other.load(State(tensors=tensors, data=state.data))
    for tensor in tensors.values():
        tensor[:] = 0xFF
    assert other.aggregate(CTX) == aggregator.aggregate(CTX)


def test_loading_replaces_what_was_there():
    aggregator = make()
    fill(aggregator)
    aggregator.load(State())
    with pytest.raises(NothingContributed):
        aggregator.aggregate(CTX)


def test_a_closed_aggregator_holds_nothing():
    aggregator = make()
    fill(aggregator)
    aggregator.close()
    assert not aggregator._rounds


def test_updates_are_kept_and_not_copied():
    update = params(1.0, 2.0)
    aggregator = make()
    aggregator.contribute(CTX, update, {"examples": 1})
    assert aggregator._rounds[CTX.round][0].params is update


def test_empty_sets_have_an_empty_result():
    aggregator = make()
    for _ in range(LEAST):
        aggregator.contribute(CTX, ParameterSet.from_tensors({}), {"examples": 1})
    result, summary = aggregator.aggregate(CTX)
    assert len(result) == 0
    assert summary["count"] == LEAST


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is Krum
    code = "import sys, bb_aggregator_krum; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
