import json
import subprocess
import sys
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bb_codec_topk import bb_component
from bb_codec_topk._largest import largest
from bb_codec_topk._topk import TopK, TopKConfig
from bb_codec_topk.errors import (
    InvalidSetting,
    NotAnUpdate,
    ResidualUnfit,
    RoundNotSaved,
    SparseDamaged,
    SparseTooLarge,
    UpdateNotFinite,
    UpdateReshaped,
)
from bb_ir.errors import BytesAndBrainsError
from bb_ir.params import ParameterSet
from bb_ir.types import parse_type
from bb_roles import State
from bb_roles.config import build_config
from bb_roles.errors import ConfigError
from bb_roles.registry import component_class
from bb_testing.context import FakeContext, environment
from bb_testing.strategies import parameter_sets

CTX = FakeContext()
FLOATS = ["float64", "float32", "float16", ml_dtypes.bfloat16]
UNIT = {"float64": 2.0**-53, "float32": 2.0**-24}


def make(**fields):
    return TopK(TopKConfig(**fields), environment("codec"))


def params(**tensors):
    return ParameterSet.from_tensors(tensors)


def vector(*values, dtype="float32"):
    return params(w=np.array(values, dtype))


def there_and_back(codec, value):
    return codec.decode(CTX, codec.encode(CTX, value))


def sent_of(codec, value, number):
    """What arrives of an update, as float64."""
    ctx = FakeContext(round=number)
    decoded = codec.decode(ctx, codec.compress(ctx, value))
    return {name: decoded[name].astype(np.float64) for name in decoded}


def residual_of(codec, value):
    """What is kept: encoded with nothing new, all of it is sent."""
    other = make(share=1.0)
    other.load(codec.save())
    zero = params(**{name: np.zeros_like(array) for name, array in value.items()})
    return sent_of(other, zero, "end")


shares = st.sampled_from([0.001, 0.1, 0.5, 0.9, 1.0])
either = st.sampled_from(["set", "tensor"])


#: A few float tensors by name, small enough to be added up.
sets = parameter_sets(dtype=st.sampled_from(["float64", "float32", "float16"]), magnitude=1e4).map(
    lambda found: dict(found.items())
)


# ---- what is sent


@given(sets, shares, either)
@settings(deadline=None)
@example({"w": np.zeros((0, 2), np.float32)}, 0.1, "tensor")
def test_the_largest_are_sent_and_nothing_else(tensors, share, per):
    decoded = there_and_back(make(share=share, per=per), ParameterSet.from_tensors(tensors))
    groups = [[name] for name in tensors] if per == "tensor" else [list(tensors)]
    for names in groups:
        given_ = np.concatenate([tensors[n].astype("f8").ravel() for n in names] or [np.zeros(0)])
        got = np.concatenate([decoded[n].astype("f8").ravel() for n in names] or [np.zeros(0)])
        count = min(given_.size, max(1, round(share * given_.size)))
        sizes = np.sort(np.abs(given_))[::-1]
        assert np.array_equal(np.sort(np.abs(got))[::-1][:count], sizes[:count])
        assert np.count_nonzero(got) <= count
        assert (got[got != 0] == given_[got != 0]).all()


def test_of_equal_ones_the_first_are_sent():
    assert there_and_back(make(k=2), vector(1, -2, 2, 2))["w"].tolist() == [0, -2, 2, 0]
    assert there_and_back(make(k=3), vector(5, 5, 5, 5))["w"].tolist() == [5, 5, 5, 0]


def test_a_share_is_of_the_set_or_of_each_tensor():
    value = params(a=np.array([10, 9, 8, 7], "f4"), b=np.array([1, 2, 3, 4], "f4"))
    whole, each = (there_and_back(make(share=0.5, per=per), value) for per in ("set", "tensor"))
    assert (whole["a"].tolist(), whole["b"].tolist()) == ([10, 9, 8, 7], [0, 0, 0, 0])
    assert (each["a"].tolist(), each["b"].tolist()) == ([10, 9, 0, 0], [0, 0, 3, 4])


def test_encoded_sets_are_those_of_the_documentation():
    value = params(w=np.array([[1, -4], [3, 0]], "f4"), n=np.array([7], "u1"))
    encoded = make(k=2).encode(CTX, value)
    assert encoded["indices"].dtype == np.int32
    assert encoded["indices"].tolist() == [1, 2]
    assert encoded["values"].tolist() == [-4, 3]
    assert encoded["kept"].tolist() == [7]
    assert encoded["layout"].tobytes() == (
        b'{"codec":"topk/1","tensors":{"w":["float32",[2,2]],"n":["uint8",[1]]}}'
    )


def test_one_in_a_hundred_takes_a_fiftieth_of_the_bytes():
    value = params(w=np.random.default_rng(0).standard_normal((784, 512)).astype("f4"))
    assert 49 < value.nbytes / make().encode(CTX, value).nbytes < 50


# ---- error feedback


@given(
    st.integers(1, 6),
    shares,
    either,
    st.sampled_from(["float32", "float64"]),
    st.data(),
)
@settings(deadline=None)
def test_what_was_sent_plus_what_is_kept_is_what_was_given(rounds, share, per, dtype, data):
    codec = make(share=share, per=per)
    elements = st.floats(-1e6, 1e6, width=32)
    total, sent, reach = np.zeros(6), np.zeros(6), 0.0
    for number in range(rounds):
        update = data.draw(arrays(dtype, 6, elements=elements))
        value = params(w=update)
        total += update
        reach += np.abs(update).max()
        sent += sent_of(codec, value, number)["w"]
    kept = residual_of(codec, value)["w"]
    # float64 itself rounds in the sums of this test.
    allowed = rounds * UNIT[dtype] * reach + 4 * rounds * 2.0**-53 * reach
    assert np.abs(sent + kept - total).max() <= allowed


@given(st.lists(st.lists(st.integers(-1000, 1000), min_size=9, max_size=9), min_size=1, max_size=8))
@settings(deadline=None)
def test_the_sum_is_exact_where_nothing_is_rounded(updates):
    for dtype in FLOATS[:2]:
        codec = make(k=2)
        sent = [sent_of(codec, vector(*u, dtype=dtype), n)["w"] for n, u in enumerate(updates)]
        kept = residual_of(codec, vector(*updates[0], dtype=dtype))["w"]
        assert (np.sum(sent, axis=0) + kept == np.sum(updates, axis=0)).all()


@pytest.mark.parametrize("dtype", FLOATS[2:], ids=["float16", "bfloat16"])
def test_the_rounding_of_narrow_entries_is_kept_as_well(dtype):
    step = np.array([1 + 2.0**-7, 3.0], dtype)
    codec, value = make(share=1.0), params(w=step)
    sent, rounds = np.zeros(2), 100
    for number in range(rounds):
        sent += sent_of(codec, value, number)["w"]
    assert np.array_equal(sent, step.astype("f8") * rounds)
    small = np.array([2.0**-9, 1.0], dtype)
    codec = make(k=1)
    sent = sum(sent_of(codec, params(w=small), n)["w"] for n in range(600))
    total, kept = small.astype("f8") * 600, codec.save().tensors["residual"]
    assert np.array_equal(sent + kept, total)


def test_what_exceeds_a_narrow_dtype_is_sent_later():
    codec, given_ = make(k=1), [(60000, 49984)] * 3 + [(0, 0)] * 4
    sent = [
        sent_of(codec, vector(*update, dtype="float16"), n)["w"].tolist()
        for n, update in enumerate(given_)
    ]
    assert sent[:4] == [[60000, 0], [0, 65504], [65504, 0], [0, 65504]]
    assert np.sum(sent, axis=0).tolist() == [180000, 149952]
    assert (codec.save().tensors["residual"] == 0).all()


def test_a_small_entry_is_sent_in_the_end():
    codec = make(k=1)
    seen = [sent_of(codec, vector(1.0, 0.25), number)["w"][1] for number in range(12)]
    assert sum(seen) + float(codec.save().tensors["residual"][1]) == 3.0
    assert any(seen)


def test_other_tensors_go_through_and_are_not_summed():
    codec = make(k=1)
    for number in (1, 2):
        value = params(w=np.ones(3, "f4"), n=np.array([number]), flag=np.array(True))
        ctx = FakeContext(round=number)
        decoded = codec.decode(ctx, codec.compress(ctx, value))
        assert (decoded["n"].tolist(), decoded["flag"].tolist()) == ([number], True)


RNG, AT = np.random.default_rng(1), np.arange(70_000)
SAMPLED = AT % (AT.size // 8192) == 0
MISLEADING = {
    "normal": RNG.standard_normal(AT.size),
    "equal": np.where(RNG.random(AT.size) < 0.5, 1.0, -1.0),
    "zeros": np.zeros(AT.size),
    "ascending": AT,
    "nothing in the sample": np.where(SAMPLED, 0, 1 + AT),
    "all in the sample": np.where(SAMPLED, 1 + AT, 0),
    "few values": RNG.integers(-3, 4, AT.size),
}


@pytest.mark.parametrize("count", [1, 7, 500, 9_000, 60_000, 69_999, 70_000])
@pytest.mark.parametrize("kind", MISLEADING)
def test_the_largest_of_many_do_not_depend_on_a_sample(kind, count):
    values = MISLEADING[kind].astype(np.float32)

    found = largest(values, count)

    # Largest first, of equal ones the first: as a stable sort has them.
    expected = np.argsort(-np.abs(values), kind="stable")[:count]
    assert found.tolist() == sorted(expected.tolist())


def test_thinning_a_large_update_out_takes_no_copy_of_it():
    update = ParameterSet.from_tensors(
        {"w": np.random.default_rng(0).standard_normal(4_000_000).astype(np.float32)}
    )
    codec = make(share=0.01)
    tracemalloc.start()
    codec.encode(FakeContext(), update)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < update.nbytes / 4


def bits(codec):
    state = codec.save()
    return {name: array.tobytes() for name, array in state.tensors.items()}, dict(state.data)


def test_encode_and_decode_do_not_touch_what_is_kept():
    codec = make(k=1)
    codec.compress(CTX, vector(1, 2))
    before = bits(codec)
    assert there_and_back(codec, vector(5, 3))["w"].tolist() == [5, 0]
    assert bits(codec) == before


# ---- frames that fail


def compressed(codec, *rounds):
    for number in rounds:
        codec.compress(FakeContext(round=number), vector(0.1 * number, 0.2, 0.3, 1e-9))


def test_a_frame_that_failed_leaves_no_trace():
    codec, other = make(k=1), make(k=1)
    compressed(codec, 1, 2)
    compressed(other, 1)
    codec.abandon(FakeContext(round=2))
    assert codec.save().tensors["residual"].tobytes() == other.save().tensors["residual"].tobytes()
    compressed(codec, 3)
    compressed(other, 3)
    assert bits(codec) == bits(other)


def test_the_first_frame_that_failed_leaves_a_fresh_codec():
    codec = make(k=1)
    compressed(codec, 1)
    codec.abandon(FakeContext(round=1))
    assert bits(codec) == bits(make())
    assert codec.compress(CTX, vector(1, 2, dtype="float64"))["values"].tolist() == [2]


def test_a_frame_that_compressed_twice_is_undone_as_a_whole():
    codec = make(k=1)
    compressed(codec, 1, 2, 2, 2)
    codec.abandon(FakeContext(round=2))
    other = make(k=1)
    compressed(other, 1)
    assert codec.save().tensors["residual"].tobytes() == other.save().tensors["residual"].tobytes()


@pytest.mark.parametrize("number", [1, 7])
def test_only_the_last_frame_is_undone(number):
    codec = make(k=1)
    compressed(codec, 1, 2)
    before = bits(codec)
    codec.abandon(FakeContext(round=number))
    assert bits(codec) == before


def test_a_frame_is_undone_once():
    codec = make(k=1)
    compressed(codec, 1, 2)
    codec.abandon(FakeContext(round=2))
    before = bits(codec)
    codec.abandon(FakeContext(round=2))
    assert bits(codec) == before


def test_nothing_is_kept_of_an_update_that_is_refused():
    codec = make(k=1, max_bytes=400)
    codec.compress(FakeContext(round=1), vector(1, 2))
    before = bits(codec)
    refused = [
        (UpdateNotFinite, vector(1, np.nan)),
        (UpdateReshaped, vector(1, 2, 3)),
        (SparseTooLarge, params(w=np.ones(200, "f4"))),
        (NotAnUpdate, np.ones(2)),
    ]
    for number, (kind, value) in enumerate(refused, start=2):
        with pytest.raises(kind):
            codec.compress(FakeContext(round=number), value)
        assert bits(codec) == before


def test_a_sum_that_is_not_finite_is_refused():
    codec = make(k=1)
    codec.compress(CTX, vector(3e38, 2e38))
    with pytest.raises(UpdateNotFinite, match="'w' holds a value that is not finite, or does"):
        codec.compress(CTX, vector(0, 3e38))


# ---- state


@pytest.mark.parametrize("rounds", [(), (1,), (1, 2), (1, 2, 2)])
def test_what_is_kept_survives_saving_and_loading(rounds):
    codec, other = make(k=1), make(k=1)
    compressed(other, 5)  # replaced
    compressed(codec, *rounds)
    other.load(codec.save())
    assert bits(codec) == bits(other)
    for one in (codec, other):
        one.abandon(FakeContext(round=2))
        compressed(one, 3)
    assert bits(codec) == bits(other)


def test_what_was_saved_does_not_change_any_more():
    codec = make(k=1)
    compressed(codec, 1)
    state = codec.save()
    before = state.tensors["residual"].tobytes()
    other = make(k=1)
    other.load(state)
    compressed(codec, 2)
    compressed(other, 2)
    assert state.tensors["residual"].tobytes() == before


def test_rounds_are_tuples_of_plain_values_or_cannot_be_saved():
    codec = make(k=1)
    codec.compress(FakeContext(round=("client", 3, b"x")), vector(1, 2))
    other = make(k=1)
    other.load(codec.save())
    other.abandon(FakeContext(round=("client", 3, b"x")))
    assert bits(other) == bits(make())
    codec.compress(FakeContext(round=frozenset([1])), vector(1, 2))
    with pytest.raises(RoundNotSaved, match="frozenset"):
        codec.save()


def saved():
    codec = make(k=1)
    compressed(codec, 1, 2)
    return codec.save()


@pytest.mark.parametrize(
    ("tensors", "data"),
    [
        ({"header": None}, {}),
        ({"residual": None}, {}),
        ({"residual": np.zeros(3, "f4")}, {}),
        ({"residual": np.zeros((2, 2), "f4")}, {}),
        ({"residual": np.zeros(4)}, {}),
        ({"residual": np.array([1, 2, 3, np.nan], "f4")}, {}),
        ({"header": np.zeros(9, np.uint8)}, {}),
        ({"before.residual": np.zeros(1, "f4")}, {}),
        ({"header": None, "residual": None}, {}),
        ({}, {"round": "open("}),
        ({}, {"round": 3}),
        ({}, {"round": None}),
    ],
)
def test_a_state_of_something_else_is_refused_and_changes_nothing(tensors, data):
    whole, codec = saved(), make(k=1)
    changed = {k: v for k, v in {**whole.tensors, **tensors}.items() if v is not None}
    with pytest.raises(ResidualUnfit, match="this state cannot be loaded"):
        codec.load(State(tensors=changed, data={**whole.data, **data}))
    assert bits(codec) == bits(make())


# ---- what is refused


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_values_that_are_not_finite_are_refused(dtype, bad):
    values = np.ones(5, dtype)
    values[3] = bad
    with pytest.raises(UpdateNotFinite, match="tensor 'w'"):
        make().encode(CTX, params(v=np.ones(2), w=values))


@pytest.mark.parametrize("value", [np.ones(3, "f4"), {"w": np.ones(3)}, None, b""])
def test_only_parameter_sets_are_taken(value):
    for method in ("encode", "compress"):
        with pytest.raises(NotAnUpdate, match="was to be encoded"):
            getattr(make(), method)(CTX, value)
    with pytest.raises(NotAnUpdate, match="was to be decoded"):
        make().decode(CTX, value)


@pytest.mark.parametrize(
    "other",
    [
        params(v=np.ones(2, "f4")),
        vector(1, 2, dtype="float64"),
        params(w=np.ones((2, 1), "f4")),
        params(w=np.ones(2, "f4"), b=np.ones(1, "f4")),
        params(),
    ],
    ids=["name", "dtype", "shape", "more", "none"],
)
def test_updates_of_another_model_are_refused(other):
    codec = make(k=1)
    codec.compress(CTX, vector(1, 2))
    with pytest.raises(UpdateReshaped, match="what is kept of former updates is of"):
        codec.compress(CTX, other)


def test_metadata_may_change_between_updates():
    codec = make(k=1)
    for epoch in "12":
        value = ParameterSet.from_tensors({"w": np.ones(3, "f4")}, metadata={"epoch": epoch})
        assert dict(codec.compress(CTX, value).layout.metadata) == {"epoch": epoch}


def base():
    return make(k=4).encode(
        CTX,
        params(
            w=np.array([[3, -1], [0, 2]], "f4"),
            half=np.array([9, 8], "f2"),
            flag=np.array([True, False]),
        ),
    )


BASE = base()
TOLD = BASE["layout"].tobytes()


def changed(**parts):
    kept = {n: a for n, a in {**dict(BASE.items()), **parts}.items() if a is not None}
    return ParameterSet.from_tensors(kept)


def text(**entries):
    return spelled(json.dumps({**json.loads(TOLD), **entries}, separators=(",", ":")).encode())


def spelled(data):
    return changed(layout=np.frombuffer(data, np.uint8))


def patched(array, at, value):
    array = array.copy()
    array[at] = value
    return array


def of(tensors, kept=0, indices=(), values=()):
    """A set that claims to be of these tensors, with everything else as it should be."""
    return changed(
        layout=text(tensors=tensors)["layout"],
        indices=np.array(indices, "i4"),
        values=np.array(values, "f4"),
        kept=np.zeros(kept, "u1"),
    )


INDICES, VALUES = BASE["indices"], BASE["values"]
DAMAGED = {
    "no tensors": ParameterSet.from_tensors({}),
    "no values": changed(values=None),
    "more tensors": changed(more=np.zeros(1)),
    "another codec": text(codec="topk/2"),
    "tensors that are a list": text(tensors=[]),
    "a tensor that is a number": text(tensors={"w": 3}),
    "a tensor without a shape": text(tensors={"w": ["float32"]}),
    "a shape that is a text": text(tensors={"w": ["float32", "ab"]}),
    "a shape with a bool": text(tensors={"w": ["float32", [True]]}),
    "a negative shape": text(tensors={"w": ["float32", [-1]]}),
    "a dtype that is none": text(tensors={"w": ["float31", [1]]}),
    "a name that no tensor has": text(tensors={"__metadata__": ["float32", [1]]}),
    "a name that is no text": text(tensors={"\ud800": ["float32", [1]]}),
    "spelled with a space": spelled(TOLD.replace(b":", b": ", 1)),
    "too deep": spelled(b"[" * 100_000),
    "a number too long": spelled(b"1" * 5_000),
    "no text": spelled(b"\xff" * 9),
    "an index too large": changed(indices=patched(INDICES, -1, 6)),
    "an index below zero": changed(indices=patched(INDICES, 0, -1)),
    "indices that descend": changed(indices=INDICES[::-1]),
    "an index twice": changed(indices=patched(INDICES, 1, INDICES[0])),
    "indices cut": changed(indices=INDICES[:-1]),
    "indices wide": changed(indices=INDICES.astype("i8")),
    "indices in lines": changed(indices=INDICES[None]),
    "values cut": changed(values=VALUES[:-1]),
    "values wide": changed(values=VALUES.astype("f8")),
    "a value that is nan": changed(values=patched(VALUES, 0, np.nan)),
    "a value that is infinite": changed(values=patched(VALUES, 0, np.inf)),
    "a value too large for its dtype": changed(values=patched(VALUES, -1, 1e6)),
    "kept cut": changed(kept=BASE["kept"][1:]),
    "a bool of two": changed(kept=patched(BASE["kept"], 0, 2)),
    "huger than any memory": of({"w": ["float32", [1 << 70]]}),
    "more entries than numbers": of({"w": ["float32", [1]]}, 0, [0, 1], [1, 2]),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_sets_are_refused_before_memory_is_taken(damage):
    refused(DAMAGED[damage], SparseDamaged)


@pytest.mark.parametrize(
    "shape",
    [[1 << 28], [1 << 40], [1 << 55], [1 << 20, 1 << 20]],
    ids=lambda s: "x".join(map(str, s)),
)
def test_huge_claims_are_refused_before_memory_is_taken(shape):
    refused(of({"w": ["float32", shape]}, 0, [0], [1.0]), SparseTooLarge)


def refused(damaged, kind):
    codec = make()
    tracemalloc.start()
    with pytest.raises(kind):
        codec.decode(CTX, damaged)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_claim_within_the_limit_is_decoded():
    decoded = make(max_bytes=1000).decode(CTX, of({"w": ["float32", [200]]}, 0, [7], [1.0]))
    assert np.flatnonzero(decoded["w"]).tolist() == [7]
    with pytest.raises(SparseTooLarge, match="at most 500 bytes"):
        make(max_bytes=500).decode(CTX, of({"w": ["float32", [200]]}, 0, [7], [1.0]))


@pytest.mark.parametrize("shape", [[1 << 40, 0], [0, 1 << 40], [0, 1 << 62]])
def test_shapes_of_nothing_are_decoded_or_refused(shape):
    try:
        decoded = make().decode(CTX, of({"w": ["float32", shape]}))
    except (SparseDamaged, SparseTooLarge):
        return
    assert decoded["w"].shape == tuple(shape)


def test_values_that_another_codec_has_rounded_are_rounded_to_their_dtype():
    rough = changed(values=patched(VALUES, -1, 8.0001))
    assert make().decode(CTX, rough)["half"].tolist() == [9, 8]


def test_the_set_that_is_damaged_here_is_right_without_it():
    assert make().decode(CTX, changed())["half"].tolist() == [9, 8]


@given(st.data())
@settings(deadline=None)
def test_any_changed_byte_is_refused_or_decoded(data):
    image = bytearray(BASE.to_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    try:
        value = ParameterSet.from_image(bytes(image))
    except BytesAndBrainsError:
        return
    try:
        decoded = make(max_bytes=1 << 20).decode(CTX, value)
    except (SparseDamaged, SparseTooLarge):
        return
    assert all(np.isfinite(decoded[n].astype("f8")).all() for n in decoded)


@pytest.mark.parametrize(
    "config",
    [
        {"share": 0},
        {"share": 1.1},
        {"share": -0.5},
        {"share": float("nan")},
        {"share": True},
        {"share": "1"},
        {"k": 0},
        {"k": True},
        {"k": 2.0},
        {"per": "row"},
        {"max_bytes": 0},
    ],
    ids=str,
)
def test_configuration_out_of_range_is_refused(config):
    with pytest.raises(InvalidSetting, match=f"{next(iter(config))} is"):
        make(**config)


def test_every_error_is_one_of_ours_and_a_value_error():
    for kind in (
        InvalidSetting, NotAnUpdate, ResidualUnfit, RoundNotSaved, SparseDamaged, SparseTooLarge,
        UpdateNotFinite, UpdateReshaped,
    ):  # fmt: skip
        assert issubclass(kind, BytesAndBrainsError)
        assert issubclass(kind, ValueError)


# ---- types


@given(sets, shares, either)
@settings(deadline=None)
def test_the_type_of_what_is_encoded_follows(tensors, share, per):
    value = ParameterSet.from_tensors({**tensors, "n": np.arange(3)}, metadata={"epoch": "3"})
    codec = make(share=share, per=per)
    for op, encoded in (
        ("Encode", codec.encode(CTX, value)),
        ("Compress", codec.compress(CTX, value)),
    ):
        told = TopK.infer_types(codec.config, op, (value.layout.type,))
        assert told == {"encoded": encoded.layout.type}


@pytest.mark.parametrize(
    ("op", "given_"),
    [
        ("Decode", "params(w:tensor(float32)[3])"),
        ("Encode", "any"),
        ("Encode", "params"),
        ("Compress", "params(w:tensor)"),
        ("Compress", "params(w:tensor(float32))"),
        ("Encode", "params(w:tensor(float32)[n])"),
        ("Encode", "params(w:tensor(string)[3])"),
    ],
)
def test_nothing_is_said_where_the_original_is_not_known(op, given_):
    assert TopK.infer_types(TopKConfig(), op, (parse_type(given_),)) is None


# ---- the plugin


def test_the_plugin_declares_the_class_and_imports_nothing_heavy():
    spec = bb_component()
    assert component_class(spec) is TopK
    assert spec.ops == TopK.ops
    code = "import sys, bb_codec_topk; sys.exit(bool({'numpy', 'bb_dsl'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_configuration_is_checked_by_the_contract():
    config = build_config(TopK.Config, {"share": 1, "k": 5, "per": "tensor"}, "codec")
    assert config == TopKConfig(1.0, 5, "tensor")
    with pytest.raises(ConfigError):
        build_config(TopK.Config, {"share": 2.0}, "codec")
