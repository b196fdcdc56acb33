"""Strategies draw what they say, and nothing else."""

import numpy as np
import pytest
from hypothesis import find, given
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_ir.wire import DEFAULT_LIMITS, PRELUDE_SIZE, EnvelopeRefused, read_header, read_prelude
from bb_testing import strategies
from bb_testing.context import peer_id

ROUND = ParameterSet.from_tensors(
    {"w": np.zeros((2, 3), np.float32), "n": np.array(1), "a": np.zeros(0, bool)},
    metadata={"model": "x"},
)


def read(data):
    prelude = read_prelude(data, DEFAULT_LIMITS)
    end = PRELUDE_SIZE + prelude.header_length
    head = read_header(prelude, data[PRELUDE_SIZE:end], DEFAULT_LIMITS)
    return head, data[end:]


# ---- tensors


@pytest.mark.parametrize("dtype", strategies.DTYPES)
@given(data=st.data())
def test_tensors_have_the_dtype_and_shape_asked_for(dtype, data):
    tensor = data.draw(strategies.tensors(dtype, (2, 3)))

    assert isinstance(tensor, np.ndarray)
    assert tensor.dtype.name == dtype
    assert tensor.shape == (2, 3)
    assert np.isfinite(tensor.astype("f8")).all()


@pytest.mark.parametrize("dtype", strategies.FLOATS)
@given(data=st.data())
def test_magnitude_bounds_floats(dtype, data):
    tensor = data.draw(strategies.tensors(dtype, magnitude=2.0))

    assert (np.abs(tensor.astype("f8")) <= 2).all()


@given(strategies.tensors(st.sampled_from(["int8", "bool"]), st.just((4,))))
def test_strategies_stand_for_values(tensor):
    assert tensor.dtype.name in {"int8", "bool"}
    assert tensor.shape == (4,)


@pytest.mark.parametrize("dtype", strategies.FLOATS)
@pytest.mark.parametrize("odd", [np.isnan, np.isinf])
def test_floats_that_are_not_finite_are_drawn_when_wanted(dtype, odd):
    with np.errstate(invalid="ignore"):  # a signalling NaN
        found = find(
            strategies.tensors(dtype, (2,), finite=False),
            lambda tensor: odd(tensor.astype("f8")).any(),
        )
    assert found.dtype.name == dtype


def test_no_elements_and_no_axes_are_drawn():
    for wanted in [(), (0,)]:
        assert find(strategies.shapes(), lambda shape, w=wanted: shape == w) == wanted


def test_a_magnitude_of_what_need_not_be_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        strategies.tensors(finite=False, magnitude=1.0)


# ---- parameter sets, metrics, batches


@given(strategies.parameter_sets(dtype="float32", min_tensors=1, max_tensors=3, magnitude=1.0))
def test_sets_have_as_many_tensors_as_asked_for(params):
    assert 1 <= len(params) <= 3
    assert set(params.dtypes) == {"float32"}


@given(strategies.parameter_sets(like=ROUND))
def test_sets_of_a_round_have_its_layout(params):
    assert params.layout == ROUND.layout


@given(strategies.parameter_sets())
def test_types_can_spell_the_names(params):
    assert parse_type(str(params.layout.type)) == params.layout.type


@given(strategies.parameter_sets(free_names=True))
def test_names_may_be_anything_that_a_file_can_hold(params):
    assert ParameterSet.from_image(params.to_bytes()) == params


def test_names_that_types_cannot_spell_are_drawn_when_wanted():
    assert find(strategies.names(free=True), lambda name: "," in name or name == "") == ""


@given(strategies.metrics(max_examples=9))
def test_metrics_have_examples_and_loss(metrics):
    assert 1 <= metrics["examples"] <= 9
    assert all(np.isfinite(value) for value in metrics.values())


def test_metrics_that_are_not_finite_are_drawn_when_wanted():
    assert find(strategies.metrics(finite=False), lambda metrics: np.isnan(metrics["loss"]))


@given(strategies.batches(inputs=(2, 2), classes=3, max_examples=7))
def test_batches_are_of_one_dataset(batches):
    drawn = list(batches)

    assert sum(len(x) for x, _ in drawn) == batches.examples <= 7
    assert all(x.shape[1:] == (2, 2) and x.dtype == np.float32 for x, _ in drawn)
    assert all(len(x) == len(y) and ((y >= 0) & (y < 3)).all() for x, y in drawn)
    assert [y.tolist() for _, y in batches] == [y.tolist() for _, y in drawn]


# ---- peers


@given(strategies.peers(min_size=1, max_size=4))
def test_peers_are_different_test_peers(peers):
    assert 1 <= len(set(peers)) == len(peers) <= 4
    assert set(peers) <= {peer_id(n) for n in range(4)}


# ---- envelopes


@given(strategies.envelopes())
def test_envelopes_can_be_read(data):
    head, payload = read(data)

    assert len(payload) == head.payload_length


@pytest.mark.parametrize("control", [True, False])
@given(data=st.data())
def test_control_messages_are_drawn_when_wanted(control, data):
    head, _ = read(data.draw(strategies.envelopes(control=control)))

    assert (head.control is not None) == control


@given(strategies.damaged(strategies.envelopes(), mend=False))
def test_damage_is_bytes(data):
    assert isinstance(data, bytes)


def reason_of(data):
    try:
        read(data)
    except EnvelopeRefused as refused:
        return refused.reason
    return ""


def test_damage_is_found_by_the_checksum_unless_it_is_mended():
    broken = strategies.envelopes()
    assert find(strategies.damaged(broken, mend=False), lambda data: reason_of(data) == "bad_crc")
    with pytest.raises(NoSuchExample):
        find(strategies.damaged(broken, mend=True), lambda data: reason_of(data) == "bad_crc")


def test_other_bytes_are_not_mended():
    assert find(strategies.damaged(st.just(b"four"), mend=True), lambda data: len(data) < 4)
