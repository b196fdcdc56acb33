import importlib.util
import math
import subprocess
import sys
import tracemalloc
from fractions import Fraction
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bb_aggregator_fedavg import bb_component
from bb_aggregator_fedavg._fedavg import FedAvg, FedAvgConfig
from bb_aggregator_fedavg.errors import (
    CohortExceeded,
    GridTooCoarse,
    MetricsError,
    NothingContributed,
    RoundKeyError,
    UpdateMismatch,
    UpdateOutOfRange,
)
from bb_ir.buffers import BufferPool
from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_roles import Environment, State
from bb_roles.config import build_config
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment

NUMBA = importlib.util.find_spec("numba") is not None
ENGINES = ["numpy", pytest.param("numba", marks=pytest.mark.skipif(not NUMBA, reason="no numba"))]
CTX = FakeContext()
BITS = 26  # of the grid of the default configuration

reals = st.floats(-1024, 1024, width=32)
weights = st.sampled_from([1, 2, 3, 10, 32_768, 32_769, 65_535, 65_536])


def make(**config):
    return FedAvg(FedAvgConfig(**config), environment("aggregator"))


def params(*values, dtype="float32"):
    return ParameterSet.from_tensors({"w": np.array(values, dtype)})


def fold(aggregator, updates, ctx=CTX):
    for values, weight in updates:
        aggregator.contribute(ctx, values, {"examples": weight})
    return aggregator.aggregate(ctx)


def large(size, seed=0, dtype="float32"):
    values = np.random.default_rng(seed).uniform(-1000, 1000, size).astype(dtype)
    return ParameterSet.from_tensors({"w": values})


def on_paper(values, batch):
    """The fold of one parameter as the rules say, in exact arithmetic."""
    total = sum(round(Fraction(float(x)) * w * 2**BITS) for x, w in zip(values, batch, strict=True))
    return np.float32(np.float64(total) / np.float64(sum(batch) * 2**BITS))


# ---- the mean


@pytest.mark.parametrize("engine", ENGINES)
@settings(deadline=None)  # the first call compiles
@given(st.lists(st.tuples(reals, weights), min_size=1, max_size=8))
@example([(1024.0, 65_536)])
@example([(-1024.0, 65_536), (2.0**-30, 1)])
@example([(1.5 * 2.0**-26, 1), (2.5 * 2.0**-26, 1), (0.5 * 2.0**-26, 1)])
def test_the_mean_is_that_of_the_rules_bit_for_bit(engine, updates):
    result, _ = fold(make(engine=engine), [(params(x), w) for x, w in updates])
    expected = on_paper(*zip(*updates, strict=True))
    assert result["w"][0].tobytes() == expected.tobytes()


@given(st.lists(st.tuples(reals, weights), min_size=1, max_size=8))
def test_the_error_of_the_mean_is_within_its_bound(updates):
    result, _ = fold(make(), [(params(x), w) for x, w in updates])
    whole = sum(w for _, w in updates)
    exact = sum(Fraction(x) * w for x, w in updates) / whole
    bound = Fraction(2) ** -(BITS + 1) + abs(exact) * Fraction(2) ** -23 + Fraction(2) ** -149
    assert abs(Fraction(float(result["w"][0])) - exact) <= bound


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("size", [1, 2047, 2048, 2049, 32_768, 32_769, 100_000])
def test_order_does_not_matter_over_tiles_and_dtypes(dtype, size):
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    updates = [(large(size, seed, dtype), w) for seed, w in enumerate([1, 65_536, 100, 40_000])]
    forth, _ = fold(make(engine="numpy"), updates)
    back, _ = fold(make(engine="numpy"), updates[::-1])
    assert forth == back
    if NUMBA:
        assert forth == fold(make(engine="numba"), updates)[0]


def test_auto_gives_the_same_bits_for_large_models():
    updates = [(large(70_000, seed), seed + 1) for seed in range(3)]
    assert fold(make(), updates)[0] == fold(make(engine="numpy"), updates)[0]


def test_tensors_of_many_dtypes_are_averaged_at_once():
    def one(x):
        return ParameterSet.from_tensors(
            {
                "f": np.array([x], np.float32),
                "d": np.array([x / 2], np.float64),
                "h": np.array([x / 4], np.float16),
                "i": np.array([x, -x], np.int64),
                "u": np.array([x], np.uint8),
                "flag": np.array([x > 4, True]),
                "none": np.zeros((0, 3), np.int32),
            }
        )

    result, _ = fold(make(), [(one(4), 1), (one(8), 3)])
    assert result["f"].tolist() == [7.0]
    assert result["d"].tolist() == [3.5]
    assert result["h"].tolist() == [1.75]
    assert result["i"].tolist() == [7, -7]
    assert result["u"].tolist() == [7]
    assert result["flag"].tolist() == [True, True]
    assert result["none"].shape == (0, 3)


@given(st.lists(st.tuples(st.integers(-(2**36), 2**36), weights), min_size=1, max_size=6))
def test_integers_get_the_exact_mean_rounded_half_to_even(updates):
    result, _ = fold(make(), [(params(x, dtype="int64"), w) for x, w in updates])
    exact = Fraction(sum(x * w for x, w in updates), sum(w for _, w in updates))
    assert int(result["w"][0]) == round(exact)


def test_zero_size_sets_are_averaged():
    empty = ParameterSet.from_tensors({})
    result, summary = fold(make(), [(empty, 1), (empty, 1)])
    assert len(result) == 0
    assert summary["count"] == 2


# ---- what is refused


BAD = [
    np.nan,
    -np.nan,
    np.inf,
    -np.inf,
    1025.0,
    -1024.0001,
    3e38,
    np.uint32(0x7F800001).view(np.float32),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weight", [1, 65_536])
@pytest.mark.parametrize("at", [0, 2047, 2048, 69_999])
@pytest.mark.parametrize("bad", BAD, ids=str)
def test_one_bad_value_anywhere_leaves_no_trace(engine, weight, at, bad):
    size = 70_000
    aggregator = make(engine=engine)
    aggregator.contribute(CTX, large(size), {"examples": 3})
    before = aggregator.save().tensors["0.float32"]
    wrong = large(size, 1)["w"].copy()
    wrong[at] = bad
    with pytest.raises(UpdateOutOfRange) as caught:
        aggregator.contribute(
            CTX, ParameterSet.from_tensors({"w": wrong}), {"examples": weight, "loss": 1.0}
        )
    assert "tensor 'w'" in str(caught.value)
    assert (aggregator.save().tensors["0.float32"] == before).all()
    assert aggregator.aggregate(CTX)[1] == {"count": 1, "examples": 3}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_bound_itself_is_in_range_and_the_next_value_is_not(engine, dtype):
    kind = np.dtype(dtype).type
    aggregator = make(engine=engine)
    fold(aggregator, [(params(1024, -1024, dtype=dtype), 65_536)])
    for sign in (1, -1):
        beyond = sign * np.nextafter(kind(1024), kind(np.inf))
        with pytest.raises(UpdateOutOfRange):
            fold(aggregator, [(params(beyond, dtype=dtype), 1)])


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bound_that_no_float32_equals_is_kept(engine):
    bound = 2**24 + 1  # between two values of float32
    config = {"cohort": 1, "weight_max": 1, "value_max": bound}
    fold(make(engine=engine, **config), [(params(2.0**24), 1)])
    with pytest.raises(UpdateOutOfRange):
        fold(make(engine=engine, **config), [(params(2.0**24 + 2), 1)])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("weight", [3, 65_536])
def test_what_the_memory_held_before_is_in_no_sum(engine, weight):
    size = 70_001
    dirty = BufferPool()
    dirty.take(8 * size)[:] = 0xA5
    env = environment("aggregator")
    config = FedAvgConfig(engine=engine, value_max=1 << 12)
    aggregator = FedAvg(config, Environment(env.peer, env.slot, env.seed, {}, dirty))
    bad = large(size)["w"].copy()
    bad[-1] = np.inf

    for _ in range(2):  # the second round has the memory of the first
        with pytest.raises(UpdateOutOfRange):
            aggregator.contribute(CTX, params(*bad), {"examples": weight})
        mean, _ = fold(aggregator, [(large(size), weight), (large(size, 1), weight)])
        expected = (large(size)["w"].astype("f8") + large(size, 1)["w"]) / 2
        assert np.abs(mean["w"] - expected).max() < 2e-4
        del mean
    assert dirty.reused >= 2


@pytest.mark.parametrize("engine", ENGINES)
def test_a_fault_in_the_last_dtype_undoes_the_others(engine):
    def one(x, count):
        return ParameterSet.from_tensors(
            {"i": np.array([count]), "w": np.full(3, x, "f4"), "h": np.full(3, x, "f2")}
        )

    aggregator = make(engine=engine)
    aggregator.contribute(CTX, one(1, 5), {"examples": 2})
    before = aggregator.save()
    for bad in (one(2000, 1), one(float("nan"), 2**40), one(1, 2**36 + 1)):
        with pytest.raises(UpdateOutOfRange):
            aggregator.contribute(CTX, bad, {"examples": 7})
    late = ParameterSet.from_tensors(
        {"i": np.array([5]), "w": np.full(3, 1, "f4"), "h": np.array([1, 1, np.inf], "f2")}
    )
    with pytest.raises(UpdateOutOfRange, match="'h'"):
        aggregator.contribute(CTX, late, {"examples": 7})
    after = aggregator.save()
    assert all((after.tensors[name] == before.tensors[name]).all() for name in before.tensors)
    assert after.data == before.data


@pytest.mark.parametrize("examples", [None, 0, -1, 65_537, 1.0, "3", True, np.nan])
def test_a_weight_that_is_no_number_of_examples_is_refused(examples):
    with pytest.raises(MetricsError, match="examples"):
        make().contribute(CTX, params(1), {"examples": examples})
    with pytest.raises(MetricsError, match="examples"):
        make().contribute(CTX, params(1), {})


def test_a_weight_of_numpy_is_a_weight():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": np.int64(3)})
    summary = aggregator.aggregate(CTX)[1]
    assert summary == {"count": 1, "examples": 3}
    assert type(summary["examples"]) is int


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
    aggregator = make()
    aggregator.contribute(CTX, params(1, 2), {"examples": 1})
    with pytest.raises(UpdateMismatch, match=said):
        aggregator.contribute(CTX, ParameterSet.from_tensors(other), {"examples": 1})
    other_metadata = ParameterSet.from_tensors({"w": np.zeros(2, "f4")}, metadata={"a": "b"})
    with pytest.raises(UpdateMismatch, match="metadata"):
        aggregator.contribute(CTX, other_metadata, {"examples": 1})


def test_an_image_whose_dtypes_are_scattered_is_refused():
    header = (
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"b":{"dtype":"I32","shape":[1],"data_offsets":[4,8]},'
        b'"c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}'
    )
    scattered = ParameterSet.from_image(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(UpdateMismatch, match="do not lie together"):
        make().contribute(CTX, scattered, {"examples": 1})


def test_data_that_is_not_aligned_is_folded():
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    data = np.array([1, 3], "f4").tobytes()
    odd = ParameterSet.from_image(len(header).to_bytes(8, "little") + header + data)
    for engine in ["numpy", *(["numba"] if NUMBA else [])]:
        assert fold(make(engine=engine), [(odd, 1)])[0]["w"].tolist() == [1, 3]


def test_more_updates_than_the_cohort_are_refused():
    aggregator = make(cohort=2)
    updates = [(params(x), 1) for x in (1, 2)]
    for values, weight in updates:
        aggregator.contribute(CTX, values, {"examples": weight})
    with pytest.raises(CohortExceeded, match="2 updates"):
        aggregator.contribute(CTX, params(3), {"examples": 1})
    assert aggregator.aggregate(CTX)[0]["w"].tolist() == [1.5]


def test_a_full_cohort_of_the_largest_updates_does_not_overflow():
    config = {"cohort": 4, "weight_max": 8, "value_max": 16}
    for sign in (1, -1):
        result, _ = fold(make(**config), [(params(16 * sign), 8)] * 4)
        assert result["w"].tolist() == [16 * sign]


def test_an_empty_round_has_no_mean():
    with pytest.raises(NothingContributed, match="without updates"):
        make().aggregate(CTX)


@pytest.mark.parametrize(
    "config",
    [
        {"value_max": 1 << 13},
        {"cohort": 1 << 13},
        {"cohort": 0},
        {"weight_max": 1 << 29},
        {"value_max": -1},
    ],
)
def test_bounds_that_leave_no_grid_are_refused(config):
    with pytest.raises(GridTooCoarse):
        make(**config)


def test_the_coarsest_grid_has_24_bits():
    assert make(value_max=1 << 12).save().data["bits"] == 24
    assert make().save().data["bits"] == BITS
    assert make(cohort=3, weight_max=1, value_max=1).save().data["bits"] == 60


# ---- metrics


def test_float_metrics_are_averaged_by_weight():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": 1, "loss": 4.0, "steps": 3, "note": "a"})
    aggregator.contribute(CTX, params(1), {"examples": 3, "loss": np.float32(2.0), "auc": 0.5})
    _, summary = aggregator.aggregate(CTX)
    assert summary == {"count": 2, "examples": 4, "loss": 2.5, "auc": 0.5}


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(finite, weights), min_size=2, max_size=6), st.randoms())
@example([(1e308, 1), (5e-324, 1), (-1e308, 1)], None)
def test_metrics_do_not_depend_on_the_order(updates, random):
    def mean(order):
        aggregator = make()
        for loss, weight in order:
            aggregator.contribute(CTX, params(1), {"examples": weight, "loss": loss})
        return aggregator.aggregate(CTX)[1]

    shuffled = updates[::-1]
    if random is not None:
        random.shuffle(shuffled)
    exact = sum(Fraction(x) * w for x, w in updates) / sum(w for _, w in updates)
    assert mean(updates) == mean(shuffled)
    assert mean(updates)["loss"] == float(exact)


def test_metrics_come_in_the_order_of_their_names():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"z": 1.0, "examples": 1, "a": 1.0})
    assert list(aggregator.aggregate(CTX)[1]) == ["count", "examples", "a", "z"]


def test_a_metric_that_is_not_finite_is_left_out():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": 1, "loss": float("nan"), "x": np.inf})
    aggregator.contribute(CTX, params(1), {"examples": 3, "loss": 2.0})
    summary = aggregator.aggregate(CTX)[1]

    assert math.isnan(summary.pop("x"))
    assert summary == {"count": 2, "examples": 4, "loss": 2.0}


@pytest.mark.parametrize(
    ("metrics", "summary"),
    [
        ("record(examples:int64,loss:float64)", "record(count:int64,examples:int64,loss:float64)"),
        (
            "record(z:float64,examples:int64,a:float64,count:float64,note:string)",
            "record(count:int64,examples:int64,a:float64,z:float64)",
        ),
        ("record", None),
        ("record(examples:int64,loss:any)", None),
        ("record(examples:int64,loss:tensor(float32)[])", None),
        ("any", None),
    ],
)
def test_type_of_the_summary_follows_from_that_of_the_metrics(metrics, summary):
    given_ = (parse_type("params"), parse_type(metrics))

    told = FedAvg.infer_types(FedAvgConfig(), "Aggregate", given_)

    assert told == (summary and {"summary": parse_type(summary)})
    assert FedAvg.infer_types(FedAvgConfig(), "Contribute", given_) is None


def test_own_metrics_cannot_be_forged():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": 1, "count": 9.0})
    assert aggregator.aggregate(CTX)[1] == {"count": 1, "examples": 1}


def test_too_many_metrics_are_refused():
    metrics = {"examples": 1, **{f"m{i}": 1.0 for i in range(64)}}
    with pytest.raises(MetricsError, match="65 metrics"):
        make().contribute(CTX, params(1), metrics)


# ---- state and memory


KEYS = st.recursive(
    st.one_of(st.integers(), st.text(), st.binary(), st.none(), st.booleans()),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
)


@given(KEYS)
def test_rounds_with_plain_keys_are_saved_and_loaded(key):
    first, second = make(), make()
    ctx = FakeContext(round=key)
    first.contribute(ctx, params(1.5), {"examples": 2, "loss": 0.1})
    second.load(first.save())
    second.contribute(ctx, params(2.5), {"examples": 1, "loss": 0.3})
    first.contribute(ctx, params(2.5), {"examples": 1, "loss": 0.3})
    assert first.aggregate(ctx) == second.aggregate(ctx)


def test_a_round_with_another_key_cannot_be_saved():
    aggregator = make()
    aggregator.contribute(FakeContext(round=object()), params(1), {"examples": 1})
    with pytest.raises(RoundKeyError, match="cannot be saved"):
        aggregator.save()


def test_saved_sums_are_the_same_from_every_engine():
    states = []
    for engine in ["numpy", *(["numba"] if NUMBA else [])]:
        aggregator = make(engine=engine)
        aggregator.contribute(CTX, large(5000), {"examples": 7})
        states.append(aggregator.save().tensors["0.float32"])
    assert all((state == states[0]).all() for state in states)
    expected = np.rint(large(5000)["w"].astype("f8") * 7 * 2**BITS).astype("i8")
    assert (states[0] == expected).all()


def test_a_round_on_another_grid_is_not_loaded():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": 1})
    with pytest.raises(GridTooCoarse, match="26 bits"):
        make(value_max=1).load(aggregator.save())


def test_loading_replaces_what_was_there():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": 1})
    aggregator.load(State())
    with pytest.raises(NothingContributed):
        aggregator.aggregate(CTX)


def test_memory_does_not_grow_with_the_number_of_updates():
    size = 500_000
    aggregator = make(engine="numpy")
    update = large(size)
    aggregator.contribute(CTX, update, {"examples": 1})
    tracemalloc.start()
    for _ in range(5):
        aggregator.contribute(CTX, update, {"examples": 1})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size  # the model itself is four times this


def test_a_closed_aggregator_holds_nothing():
    aggregator = make()
    aggregator.contribute(CTX, params(1), {"examples": 1})
    aggregator.close()
    assert not aggregator._rounds


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    assert component_class(bb_component()) is FedAvg
    code = "import sys, bb_aggregator_fedavg; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_configuration_is_checked_by_the_contract():
    config = build_config(FedAvg.Config, {"cohort": 8, "engine": "numpy"}, "aggregator")
    assert config == FedAvgConfig(cohort=8, engine="numpy")


def test_a_round_that_is_named_as_the_engine_names_frames_is_saved():
    class Name(NamedTuple):
        incarnation: int
        number: int

    ctx = FakeContext(round=Name(1, 4))
    aggregator, other = make(), make()
    aggregator.contribute(ctx, params(1.0), {"examples": 1})
    other.load(aggregator.save())
    other.contribute(ctx, params(3.0), {"examples": 1})
    assert other.aggregate(ctx)[0]["w"].tolist() == [2.0]
