import copy
import hashlib
import json
import pickle
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import example, given
from hypothesis import strategies as st

from bb_ir import _layout, types
from bb_ir.buffers import BufferPool, counts_references
from bb_ir.errors import ParameterSetError
from bb_ir.params import MAX_HEADER_BYTES, Draft, Layout, ParameterSet
from bb_testing.strategies import names
from bb_testing.strategies import tensors as arrays

counted = pytest.mark.skipif(not counts_references(), reason="references are not counted here")

DTYPES = [
    np.dtype(name)
    for name in (
        *("float64", "float32", "float16", "bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", ml_dtypes.bfloat16),
    )
]
tensors = st.dictionaries(names(free=True), arrays(finite=False), max_size=6)


def params(**kwargs):
    return ParameterSet.from_tensors(kwargs)


def small():
    return params(
        w=np.arange(6, dtype=np.float32).reshape(3, 2),
        step=np.array(3, np.int64),
        b=np.ones(2, np.float32),
    )


def image(header, data=b"", pad=True):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    if pad:
        text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def same(array, other):
    return (
        array.dtype == other.dtype
        and array.shape == other.shape
        and array.tobytes() == other.tobytes()
    )


# ---- what goes in comes out


@given(tensors)
def test_tensors_come_back_bit_for_bit(given_tensors):
    made = ParameterSet.from_tensors(given_tensors)
    again = ParameterSet.from_image(made.to_bytes())
    assert again == made
    assert set(again) == set(given_tensors)
    assert all(same(again[name], array) for name, array in given_tensors.items())
    assert again.count == sum(array.size for array in given_tensors.values())


@given(tensors)
def test_safetensors_reads_what_we_write(given_tensors):
    # `safetensors.numpy.load` knows no bfloat16; this is the same reader beneath it.
    loaded = dict(safetensors.deserialize(ParameterSet.from_tensors(given_tensors).to_bytes()))
    assert set(loaded) == set(given_tensors)
    for name, array in given_tensors.items():
        assert tuple(loaded[name]["shape"]) == array.shape
        assert bytes(loaded[name]["data"]) == array.tobytes()


@given(tensors)
def test_we_read_what_safetensors_writes(given_tensors):
    written = safetensors.numpy.save({name: a.copy() for name, a in given_tensors.items()})
    ours = ParameterSet.from_image(written)
    assert set(ours.names) == set(given_tensors)
    assert all(same(ours[name], array) for name, array in given_tensors.items())
    assert ours.to_bytes() == written


def test_files_are_shared_both_ways(tmp_path):
    ours = small()
    (tmp_path / "ours.safetensors").write_bytes(ours.image)
    loaded = safetensors.numpy.load_file(tmp_path / "ours.safetensors")
    assert {name: array.tolist() for name, array in loaded.items()} == {
        name: array.tolist() for name, array in ours.items()
    }
    safetensors.numpy.save_file(loaded, tmp_path / "theirs.safetensors", metadata={"a": "b"})
    theirs = ParameterSet.from_image((tmp_path / "theirs.safetensors").read_bytes())
    assert theirs.layout.metadata == (("a", "b"),)
    assert theirs["w"].tolist() == ours["w"].tolist()


def test_metadata_is_carried_and_read_by_safetensors(tmp_path):
    made = ParameterSet.from_tensors({"x": np.zeros(1)}, metadata={"round": "7"})
    (tmp_path / "x").write_bytes(made.image)
    with safetensors.safe_open(tmp_path / "x", framework="np") as opened:
        assert opened.metadata() == {"round": "7"}
    assert ParameterSet.from_image(made.image).layout.metadata == (("round", "7"),)


@given(tensors)
def test_data_is_aligned_and_dtypes_lie_together(given_tensors):
    made = ParameterSet.from_tensors(given_tensors)
    whole = np.frombuffer(made.image, np.uint8)
    assert made.layout.data_offset % 64 == 0
    assert whole.ctypes.data % 64 == 0
    sizes = [made.flat(dtype).dtype.itemsize for dtype in made.dtypes]
    assert sizes == sorted(sizes, reverse=True)
    for dtype in made.dtypes:
        inside = [array for _, array in made.items() if array.dtype.name == dtype]
        joined = b"".join(array.tobytes() for array in inside)
        assert made.flat(dtype).tobytes() == joined
        assert made.flat(dtype).flags.aligned


def test_tensors_of_one_dtype_keep_their_order():
    made = params(
        z=np.zeros(1, "f4"), n=np.zeros(1, "i8"), a=np.zeros(1, "f4"), m=np.zeros(1, "i4")
    )
    assert made.names == ("n", "z", "a", "m")


def test_flat_of_an_absent_dtype_is_empty():
    assert small().flat("float16").shape == (0,)
    with pytest.raises(ParameterSetError, match="complex64"):
        small().flat("complex64")


def test_an_empty_set_is_a_set():
    made = ParameterSet.from_tensors({})
    assert (len(made), made.count, made.dtypes) == (0, 0, ())
    assert safetensors.numpy.load(made.to_bytes()) == {}


def test_arrays_of_other_memory_orders_are_taken():
    array = np.arange(6, dtype=">f4").reshape(2, 3).T
    assert params(x=array)["x"].tolist() == array.tolist()
    assert params(x=2.5)["x"].shape == ()


def test_a_set_behaves_like_a_mapping():
    made = small()
    assert list(made) == ["step", "w", "b"]
    assert len(made) == 3
    assert "w" in made
    assert "x" not in made
    assert [name for name, _ in made.items()] == list(made.names)
    assert list(dict(made)) == list(made.keys()) == list(made.names)
    assert [view.tolist() for view in made.values()] == [view.tolist() for _, view in made.items()]
    with pytest.raises(KeyError, match="there are step, w, b"):
        made["x"]
    assert "3 tensors, 9 elements" in repr(made)


def test_layout_says_what_is_there():
    layout = small().layout
    assert layout.names == ("step", "w", "b")
    assert layout.dtypes == ("int64", "float32", "float32")
    assert layout.shapes == ((), (3, 2), (2,))
    assert layout.offsets == (0, 8, 32)
    assert layout.nbytes == small().nbytes == layout.data_offset + 40
    assert (
        str(layout.type)
        == "params(step:tensor(int64)[],w:tensor(float32)[3,2],b:tensor(float32)[2])"
    )
    assert types.parse_type(str(layout.type)) == layout.type
    assert "w:tensor(float32)[3,2]" in repr(layout)


def test_layouts_are_equal_by_header():
    one, other = small().layout, ParameterSet.from_image(small().to_bytes()).layout
    assert one == other
    assert hash(one) == hash(other)
    assert one != params(x=np.zeros(1)).layout
    assert one != "a layout"
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_layout_is_made_without_data():
    layout = Layout.of({"w": ("float32", (3, 2))})
    assert layout == params(w=np.zeros((3, 2), np.float32)).layout


def test_sets_are_equal_by_bytes():
    assert small() == small()
    assert small() != params(w=np.zeros((3, 2), np.float32))
    nan = params(x=np.array([np.nan]))
    assert nan == ParameterSet.from_image(nan.to_bytes())
    assert params(x=np.array([0.0])) != params(x=np.array([-0.0]))
    assert small() != 1
    with pytest.raises(TypeError):
        hash(small())


def test_copies_of_a_value_are_the_value():
    made = small()
    assert copy.copy(made) is made
    assert copy.deepcopy([made])[0] is made
    assert pickle.loads(pickle.dumps(made)) == made


def test_digest_is_that_of_the_file():
    made = small()
    assert made.digest() == hashlib.sha256(made.to_bytes()).hexdigest()


# ---- nothing is copied, nothing can be written


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "numpy"])
def test_reading_an_image_copies_nothing(kind):
    made = small()
    buffer = np.frombuffer(made.to_bytes(), np.uint8) if kind == "numpy" else kind(made.to_bytes())
    read = ParameterSet.from_image(buffer)
    assert np.shares_memory(read["w"], np.frombuffer(buffer, np.uint8))
    assert read == made


def test_views_cannot_be_made_writable():
    draft = small().writable(copy=True)
    for made in (
        small(),
        ParameterSet.from_image(bytearray(small().to_bytes())),
        draft.lend(),
        draft.freeze(),
    ):
        for view in (made["w"], made.flat(), made["w"][1:], made.flat().reshape(2, 4)):
            assert not view.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                view.setflags(write=True)
            with pytest.raises(ValueError, match="read-only"):
                view[...] = 0
        assert made.image.readonly


def test_frozen_drafts_cannot_be_written():
    draft = small().writable()
    view, flat = draft["w"], draft.flat()
    flat[:] = 1
    frozen = draft.freeze()
    for late in (view, flat, draft["w"], draft["b"], draft.flat()):
        with pytest.raises(ValueError, match="read-only"):
            late[...] = 2
    assert frozen.flat().tolist() == [1.0] * 8
    assert draft.freeze() is frozen
    assert draft.lend() is frozen
    assert draft.lent


def test_a_draft_is_other_memory_with_the_same_layout():
    made = small()
    draft = made.writable(copy=True)
    draft["w"][0, 0] = 99
    draft["step"][...] = 4
    assert made["w"][0, 0] == 0
    changed = draft.freeze()
    assert changed.layout == made.layout
    assert changed["step"] == 4
    assert changed["b"].tolist() == [1.0, 1.0]
    ParameterSet.from_image(changed.image)


def test_a_draft_of_a_draft_is_other_memory():
    first = small().writable(copy=True)
    second = first.writable(copy=True)
    second.flat()[:] = -1
    assert first["w"].tolist() == small()["w"].tolist()
    assert second.freeze()["b"].tolist() == [-1, -1]


def test_a_draft_from_elsewhere_is_copied_whole():
    theirs = safetensors.numpy.save({"a": np.ones(3, "u1"), "b": np.arange(2, dtype="f4")})
    changed = ParameterSet.from_image(theirs).writable(copy=True).freeze()
    assert changed.to_bytes() == theirs


def test_lending_copies_nothing():
    draft = small().writable(copy=True)
    lent = draft.lend()
    assert np.shares_memory(lent["w"], draft["w"])


@counted
@pytest.mark.parametrize(
    "hold",
    [
        lambda p: p,
        lambda p: p["w"],
        lambda p: p["w"][1:, :1],
        lambda p: p.image,
        lambda p: p.image[3:9],
        lambda p: memoryview(p.flat()),
        lambda p: ParameterSet.from_image(p.image)["b"],
    ],
    ids=["set", "tensor", "part", "image", "bytes", "memoryview", "again"],
)
def test_a_loan_lives_as_long_as_any_view(hold):
    draft = small().writable(copy=True)
    draft.flat()[:] = 0
    assert not draft.lent
    held = hold(draft.lend())
    assert draft.lent
    assert "lent" in repr(draft)
    del held
    assert not draft.lent
    assert "open" in repr(draft)


def test_a_loan_is_for_ever_where_references_are_not_counted(monkeypatch):
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    draft = small().writable(copy=True)
    assert not draft.lent
    draft.lend()
    assert draft.lent


def test_the_pattern_of_a_model_never_changes_what_it_lent():
    pool = BufferPool()
    draft = Draft(params(w=np.zeros(5000, np.float32)).layout, pool)
    draft.flat()[:] = 0
    held = []
    for turn in range(5):
        if draft.lent:
            draft = draft.writable(pool, copy=True)
        draft.flat()[:] += 1
        lent = draft.lend()
        if turn % 2:
            held.append((lent, turn + 1))
        del lent
    assert all((lent.flat() == value).all() for lent, value in held)


@counted
def test_pooled_sets_give_their_memory_back():
    pool = BufferPool()
    for _ in range(10):
        made = ParameterSet.from_tensors({"w": np.zeros(5000, np.float32)}, pool)
        del made
    assert (pool.fresh, pool.reused) == (1, 9)


@counted
def test_pooled_memory_is_kept_while_a_view_lives():
    pool = BufferPool()
    view = ParameterSet.from_tensors({"w": np.zeros(5000, np.float32)}, pool)["w"]
    for _ in range(5):
        ParameterSet.from_tensors({"w": np.ones(5000, np.float32)}, pool)
    assert not view.any()


# ---- what cannot be a set


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"x": np.zeros(1, np.complex64)}, "complex64"),
        ({"x": np.array(["a"])}, "str"),
        ({"x": np.array([None])}, "object"),
        ({"__metadata__": np.zeros(1)}, "cannot be the name"),
        ({1: np.zeros(1)}, "cannot be the name"),
        ({"\ud800": np.zeros(1)}, "cannot be written"),
    ],
)
def test_tensors_that_cannot_be_stored_are_refused(tensors, message):
    with pytest.raises(ParameterSetError, match=message):
        ParameterSet.from_tensors(tensors)


def test_arrays_without_names_are_refused_with_what_to_write():
    with pytest.raises(ParameterSetError, match="a list is given") as caught:
        ParameterSet.from_tensors([np.zeros(2)])

    assert '{"weight": weight' in caught.value.fix


def test_a_header_that_is_too_long_is_not_written():
    with pytest.raises(ParameterSetError, match="header would have"):
        ParameterSet.from_tensors({}, metadata={"a": "x" * MAX_HEADER_BYTES})


DAMAGED = {
    "empty": (b"", "0 bytes"),
    "short": (b"\0\0\0", "3 bytes"),
    "length beyond the end": ((100).to_bytes(8, "little") + b"{}", "need 108"),
    "enormous length": (b"\xff" * 8 + b"{}", "10 bytes"),
    "no json": (image(b"{nonsense}"), "not JSON"),
    "no object": (image(b"[]"), "begins with"),
    "leading space": (image(b" {}"), "begins with"),
    "no utf-8": (image(b'{"\xff": 1}'), "not JSON"),
    "deep": (image(b'{"a":' + b"[" * 200_000), "not JSON"),
    "huge number": (image(b'{"a":' + b"9" * 10_000 + b"}"), "not JSON"),
    "nan": (image(b'{"a":NaN}'), "NaN is no JSON"),
    "after the json": (image(b"{} {}"), "not JSON"),
    "name twice": (image(b'{"a":1,"b":1,"a":1}'), "'a' stands twice"),
    "key twice": (image(b'{"a":{"dtype":"F32","dtype":"F64"}}'), "'dtype' stands twice"),
    "no entry": (image({"a": 1}), "not described"),
    "missing key": (image({"a": {"dtype": "F32", "shape": [1]}}), "not described"),
    "other key": (image({"a": {**entry(), "x": 1}}, b"1234"), "not described"),
    "unknown dtype": (image({"a": entry("F8_E4M3")}, b"1234"), "F8_E4M3"),
    "dtype of another type": (image({"a": entry(["F32"])}, b"1234"), "dtype"),
    "negative length": (image({"a": entry(shape=[-1])}, b"1234"), "shape"),
    "bool length": (image({"a": entry(shape=[True])}, b"1234"), "shape"),
    "float length": (image({"a": entry(shape=[1.0])}, b"1234"), "shape"),
    "too many dimensions": (image({"a": entry(shape=[1] * 33)}, b"1234"), "shape"),
    "overflow": (image({"a": entry(shape=[2**40, 2**40])}, b"1234"), "too large"),
    "overflow of nothing": (
        image({"a": entry(shape=[0, 2**40, 2**40], offsets=(0, 0))}), "too large",
    ),
    "huge length": (image({"a": entry(shape=[2**70])}, b"1234"), "shape"),
    "shape is no list": (image({"a": {**entry(), "shape": "1"}}, b"1234"), "shape"),
    "offsets backwards": (image({"a": entry(offsets=(4, 0))}, b"1234"), "data_offsets"),
    "three offsets": (image({"a": entry(offsets=(0, 4, 8))}, b"1234"), "data_offsets"),
    "offsets too small": (image({"a": entry(offsets=(0, 3))}, b"123"), "place has 3"),
    "offsets of texts": (image({"a": entry(offsets=("0", "4"))}, b"1234"), "data_offsets"),
    "hole": (image({"a": entry(), "b": entry(offsets=(8, 12))}, b"1" * 12), "next free"),
    "hole at the start": (image({"a": entry(offsets=(4, 8))}, b"1" * 8), "next free"),
    "overlap": (image({"a": entry(), "b": entry(offsets=(2, 6))}, b"1" * 6), "next free"),
    "shared": (image({"a": entry(), "b": entry()}, b"1" * 4), "next free"),
    "empty inside another": (
        image({"a": entry(), "b": entry(shape=[0], offsets=(2, 2))}, b"1234"), "next free",
    ),
    "data too short": (image({"a": entry()}, b"123"), "describes"),
    "data too long": (image({"a": entry()}, b"12345"), "describes"),
    "metadata of numbers": (image({"__metadata__": {"a": 1}}), "__metadata__"),
    "metadata is no mapping": (image({"__metadata__": []}), "__metadata__"),
    "bool of 2": (image({"a": entry("BOOL", offsets=(0, 1))}, b"\x02"), "other than 0 and 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_images_are_refused(case):
    damaged, message = DAMAGED[case]
    with pytest.raises(ParameterSetError, match=message) as caught:
        ParameterSet.from_image(damaged)
    assert caught.value.expected
    assert caught.value.fix


def test_a_header_that_is_too_long_is_not_read():
    length = MAX_HEADER_BYTES + 1
    with pytest.raises(ParameterSetError, match="at most"):
        ParameterSet.from_image(length.to_bytes(8, "little") + b"{" + b" " * length)


def test_a_long_header_is_read_but_not_remembered():
    made = ParameterSet.from_tensors({f"layer {i}": np.float32(i) for i in range(5000)})
    assert made.layout.data_offset > 256 << 10
    assert ParameterSet.from_image(made.image)["layer 77"] == 77


@pytest.mark.parametrize(
    "wrong", [None, "text", 3, np.zeros((4, 4), np.uint8)[:, 1], memoryview(b"abcd")[::2]]
)
def test_what_is_no_buffer_is_refused(wrong):
    with pytest.raises(ParameterSetError):
        ParameterSet.from_image(wrong)


def test_scattered_dtypes_are_read_and_have_no_flat_view():
    header = {
        "a": entry(offsets=(0, 4)),
        "i": entry("U8", offsets=(4, 5)),
        "b": entry(offsets=(5, 9)),
    }
    scattered = ParameterSet.from_image(
        image(header, np.float32(1).tobytes() + b"\x07" + np.float32(2).tobytes())
    )
    assert [scattered[name].item() for name in "aib"] == [1.0, 7.0, 2.0]
    with pytest.raises(ParameterSetError, match="do not lie together"):
        scattered.flat("float32")
    ordered = ParameterSet.from_tensors(dict(scattered.items()))
    assert ordered.flat("float32").tolist() == [1.0, 2.0]
    assert scattered.writable(copy=True).freeze() == scattered


def test_entries_may_stand_in_any_order():
    header = {"b": entry(offsets=(4, 8)), "a": entry(offsets=(0, 4))}
    read = ParameterSet.from_image(image(header, np.array([1, 2], "f4").tobytes()))
    assert read.names == ("a", "b")
    assert read.flat().tolist() == [1.0, 2.0]


@given(tensors, st.data())
@example({"a": np.zeros(1)}, None)
def test_damage_raises_nothing_but_our_error(given_tensors, data):
    whole = bytearray(ParameterSet.from_tensors(given_tensors).to_bytes())
    if data is not None:
        for _ in range(data.draw(st.integers(1, 3))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        whole = whole[: data.draw(st.integers(0, len(whole)))]
    use_or_refuse(bytes(whole))


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-4, 2**70), st.floats(), st.text(max_size=4),
        st.sampled_from(["F32", "U8", "BOOL", "dtype", "shape", "data_offsets"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "b", "__metadata__", *entry()]), inner, max_size=4),
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["a", "b", "__metadata__"]), JSON), st.binary(max_size=20))
def test_any_json_raises_nothing_but_our_error(header, data):
    use_or_refuse(image(header, data))


shapes = st.lists(st.sampled_from([0, 1, 2, 3, 2**31, 2**62]), max_size=3)
places = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(sorted)
entries = st.builds(entry, st.sampled_from(["F32", "U8", "BF16", "I64"]), shapes, places)


@given(st.dictionaries(st.sampled_from("abc"), entries), st.integers(0, 24))
def test_any_table_raises_nothing_but_our_error(header, size):
    use_or_refuse(image(header, bytes(size)))


def test_a_claim_of_much_data_allocates_little():
    claim = image({"a": entry(shape=[2**40], offsets=(0, 2**42))}, b"1234")
    tracemalloc.start()
    with pytest.raises(ParameterSetError):
        ParameterSet.from_image(claim)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


def use_or_refuse(whole):
    """An image is refused with our error, or everything in it can be read."""
    try:
        read = ParameterSet.from_image(whole)
    except ParameterSetError as error:
        str(error)
        return
    total = sum(array.nbytes for _, array in read.items())
    assert total == read.nbytes - read.layout.data_offset
    assert read.to_bytes() == whole


def test_long_layouts_are_not_remembered():
    """They may describe what a stranger sent."""
    before = _layout._lay_out.cache_info().currsize
    name = "n" * 300_000

    layouts = [Layout.of({name: ("float32", (2,))}) for _ in range(2)]

    assert layouts[0] == layouts[1]
    assert layouts[0].names == (name,)
    assert _layout._lay_out.cache_info().currsize == before
