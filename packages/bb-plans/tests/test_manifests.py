"""Manifests: every byte once, tensors apart, nothing outside, and nothing read twice."""

import json
import os
import struct

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from bb_ir.errors import ParameterSetError
from bb_ir.params import ParameterSet
from bb_ir.plan import (
    DigestAlgorithm,
    SwapPlan,
    WeightManifest,
    changes,
    from_json,
    to_json,
    validate,
)
from bb_plans.errors import FolderChanged, FolderUnfit, ModelFileDamaged
from bb_plans.hashing import digest_of
from bb_plans.manifests import (
    INDEX_NAME,
    MANIFEST_NAME,
    folder_reader,
    manifest_of_folder,
    manifest_of_params,
    params_of,
    params_reader,
)
from bb_plans.manifests import _folders as folders
from bb_roles.errors import ConfigError


def manifest(root, **kwargs):
    """Return a folder's manifest, after looking at what holds for every one."""
    made = manifest_of_folder(root, "demo", "1", **kwargs)
    plan = SwapPlan("p", made, made, shared=made.files)
    assert validate(plan) == ()
    assert from_json(WeightManifest, to_json(made)) == made
    read = folder_reader(root)
    rebuilt = {}
    for chunk in made.files:
        assert chunk.offset == len(rebuilt.get(chunk.path, b"")), "chunks have no holes"
        assert digest_of(read(chunk), chunk.digest.algorithm) == chunk.digest
        rebuilt[chunk.path] = rebuilt.get(chunk.path, b"") + bytes(read(chunk))
    for path, data in rebuilt.items():
        assert data == (root / path).read_bytes()
    assert [*rebuilt] == sorted(rebuilt)
    return made


def told(made):
    """Return the chunks as path, length, and name of the tensor."""
    return [(c.path, c.length, c.tensor and c.tensor.name) for c in made.files]


def spans(made):
    """Return the parts of tensors."""
    return [
        (c.tensor.name, c.tensor.dtype, c.tensor.shape, c.tensor.begin, c.tensor.end)
        for c in made.files
        if c.tensor is not None
    ]


# --- folders


def test_files_of_a_folder_are_sorted_by_path(tmp_path):
    (tmp_path / "layer0").mkdir()
    (tmp_path / "layer0" / "w.bin").write_bytes(bytes(10))
    (tmp_path / "emb.bin").write_bytes(bytes(5))

    assert told(manifest(tmp_path)) == [("emb.bin", 5, None), ("layer0/w.bin", 10, None)]


def test_empty_folder_empty_file_and_name_with_a_space(tmp_path):
    assert manifest(tmp_path).files == ()
    (tmp_path / "a file").write_bytes(b"")

    (chunk,) = manifest(tmp_path).files

    assert (chunk.path, chunk.length, chunk.digest) == ("a file", 0, digest_of(b""))


def test_manifest_and_index_are_no_part_of_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr("bb_plans.manifests._index.time.time_ns", lambda: 1 << 62)
    (tmp_path / "w").write_bytes(b"w")
    (tmp_path / MANIFEST_NAME).write_bytes(b"{}")
    (tmp_path / "own.json").write_bytes(b"{}")
    options = {"known": tmp_path / INDEX_NAME, "exclude": ["own.json"]}

    first, again = (manifest(tmp_path, **options) for _ in range(2))

    assert told(first) == [("w", 1, None)]
    assert first == again
    assert (tmp_path / INDEX_NAME).exists()


def test_names_of_the_manifest_count_at_the_top_only(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / MANIFEST_NAME).write_bytes(b"x")

    assert told(manifest(tmp_path)) == [(f"sub/{MANIFEST_NAME}", 1, None)]


def test_what_is_excluded_is_no_part_of_the_model_and_nothing_else(tmp_path):
    for path in ("logs/a", "logs/deep/b", "logs.txt", "w.bin", "w.bin.new", "x/logs"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "logs" / "link").symlink_to(tmp_path / "x")

    made = manifest(tmp_path, exclude=["logs", "w.bin"])

    assert [chunk.path for chunk in made.files] == ["logs.txt", "w.bin.new", "x/logs"]


def test_sha256(tmp_path):
    (tmp_path / "w").write_bytes(b"w")

    (chunk,) = manifest(tmp_path, algorithm=DigestAlgorithm.SHA256).files

    assert chunk.digest == digest_of(b"w", DigestAlgorithm.SHA256)


def test_link_within_the_folder_is_its_file(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").symlink_to("a")

    assert told(manifest(tmp_path)) == [("a", 4, None), ("b", 4, None)]


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda root: (root / "in" / "l").symlink_to("../secret"), "leaves the folder"),
        (lambda root: (root / "in" / "l").symlink_to("/etc/passwd"), "leaves the folder"),
        (lambda root: (root / "in" / "l").symlink_to("."), "link to a folder"),
        (lambda root: (root / "in" / "l").symlink_to("nothing"), "cannot be read"),
        (lambda root: (root / "in" / "l").symlink_to("l"), "cannot be read"),
        (lambda root: (root / "in" / "a\\b").write_bytes(b""), "character"),
        (lambda root: (root / "in" / "a\nb").write_bytes(b""), "character"),
        (lambda root: open(os.fsencode(root / "in") + b"/\xff", "wb").close(), "character"),  # noqa: PTH123  # no text can name it
    ],
)
def test_what_no_manifest_can_name(tmp_path, make, text):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"s")
    make(tmp_path)

    with pytest.raises(FolderUnfit, match=text):
        manifest_of_folder(tmp_path / "in", "m", "1")


@pytest.mark.parametrize("name", ["file", "nowhere"])
def test_what_is_no_folder(tmp_path, name):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(FolderUnfit, match=name):
        manifest_of_folder(tmp_path / name, "m", "1")


def test_sockets_and_the_like_are_passed_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    assert manifest(tmp_path).files == ()


def test_file_that_changes_meanwhile_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(b"before")
    hashed = folders._hashed

    def slow(algorithm, task):
        os.utime(tmp_path / "w", ns=(1, 1))
        return hashed(algorithm, task)

    monkeypatch.setattr(folders, "_hashed", slow)

    with pytest.raises(FolderChanged, match="w"):
        manifest_of_folder(tmp_path, "m", "1")


def test_file_that_is_cut_off_while_it_is_hashed_is_found_out(tmp_path, monkeypatch):
    (tmp_path / "w").write_bytes(bytes(1 << 20))
    hasher = folders.hasher

    def cut_off(algorithm):
        os.truncate(tmp_path / "w", 0)
        return hasher(algorithm)

    monkeypatch.setattr(folders, "hasher", cut_off)

    with pytest.raises(FolderChanged, match="'w' changed"):
        manifest_of_folder(tmp_path, "m", "1")


def test_progress_counts_all_bytes(tmp_path):
    for name in "abc":
        (tmp_path / name).write_bytes(bytes(9 << 20))
    calls = []

    manifest_of_folder(tmp_path, "m", "1", progress=lambda *call: calls.append(call))

    assert calls == [(n * (9 << 20), 27 << 20) for n in range(4)]


@given(
    files=st.dictionaries(
        st.sampled_from(["a", "b/c", "b/d", "e.bin"]), st.binary(max_size=64), max_size=4
    )
)
@settings(max_examples=25, deadline=None)
def test_any_files(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("any")
    for path, data in files.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)

    made = manifest(root)

    assert {c.path: c.digest for c in made.files} == {p: digest_of(d) for p, d in files.items()}


# --- what is remembered


@pytest.fixture
def counted(monkeypatch):
    """Give the paths of what is hashed."""
    seen, hashed = [], folders._hashed

    def count(algorithm, task):
        seen.append(task.file.path)
        return hashed(algorithm, task)

    monkeypatch.setattr(folders, "_hashed", count)
    return seen


def old_file(path, data, at=10**18 + 1):
    path.write_bytes(data)
    os.utime(path, ns=(at, at))


@pytest.fixture
def remembered(tmp_path, monkeypatch):
    """Give a folder of two files that were looked at long after they were written."""
    (tmp_path / "in").mkdir()
    for name in "ab":
        old_file(tmp_path / "in" / name, name.encode())
    late = tmp_path.stat().st_mtime_ns + 10**11
    monkeypatch.setattr("bb_plans.manifests._index.time.time_ns", lambda: late)
    manifest(tmp_path / "in", known=tmp_path / "index")
    return tmp_path


def test_files_that_are_as_they_were_are_not_read_again(remembered, counted):
    before = manifest_of_folder(remembered / "in", "demo", "1")
    counted.clear()

    assert manifest(remembered / "in", known=remembered / "index") == before
    assert counted == []


def test_file_that_was_written_is_read_again(remembered, counted):
    old_file(remembered / "in" / "a", b"A", at=10**18 + 3)

    made = manifest(remembered / "in", known=remembered / "index")

    assert counted == ["a"]
    assert made.files[0].digest == digest_of(b"A")


def test_same_size_and_time_but_other_inode_is_read_again(remembered, counted):
    old_file(remembered / "new", b"A")
    (remembered / "new").replace(remembered / "in" / "a")

    made = manifest(remembered / "in", known=remembered / "index")

    assert counted == ["a"]
    assert made.files[0].digest == digest_of(b"A")


def test_file_that_was_just_written_is_not_trusted(tmp_path, counted):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"a")
    future = (tmp_path / "in" / "a").stat().st_mtime_ns + 10**12
    os.utime(tmp_path / "in" / "a", ns=(future, future))

    for _ in range(2):
        manifest(tmp_path / "in", known=tmp_path / "index")

    assert counted == ["a", "a"]


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b'{"format":"bb-manifest-index/1"}', b"\xff\xfe", b"[" * 100_000],
)
def test_index_that_cannot_be_read_is_begun_anew(remembered, counted, damage):
    (remembered / "index").write_bytes(damage)

    manifest(remembered / "in", known=remembered / "index")

    assert counted == ["a", "b"]
    assert json.loads((remembered / "index").read_bytes())["files"].keys() == {"a", "b"}


def test_index_that_cannot_be_written_is_told(remembered):
    with pytest.raises(FolderUnfit, match=r"the index '.*gone/index' cannot be written"):
        manifest_of_folder(remembered / "in", "m", "1", known=remembered / "gone" / "index")


def test_index_of_another_algorithm_is_not_used(remembered, counted):
    manifest(remembered / "in", known=remembered / "index", algorithm=DigestAlgorithm.SHA256)

    assert counted == ["a", "b"]


# --- formats


def test_npy_has_its_header_apart(tmp_path):
    np.save(tmp_path / "w.npy", np.ones((2, 2), np.float32))

    made = manifest(tmp_path)

    assert told(made) == [("w.npy", 128, None), ("w.npy", 16, "")]
    assert spans(made) == [("", "float32", (2, 2), 0, 16)]


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(3, dtype=">f4"),
        np.zeros(2, [("a", "i4")]),
        np.array(["text"]),
        np.ones(3, ml_dtypes.bfloat16),
    ],
    ids=["by column", "big-endian", "structured", "text", "void"],
)
def test_npy_in_another_order_is_taken_as_it_is(tmp_path, array):
    np.save(tmp_path / "w.npy", array)

    made = manifest(tmp_path)

    assert told(made) == [("w.npy", (tmp_path / "w.npy").stat().st_size, None)]


def npy(text):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 128) + text.encode().ljust(128)


@pytest.mark.parametrize(
    "data",
    [
        b"no numpy",
        b"\x93NUMPY\x01\x00\x05\x00{}",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9999,), }"),
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999,), }"),
    ],
)
def test_damaged_npy(tmp_path, data):
    (tmp_path / "w.npy").write_bytes(data)

    with pytest.raises(ModelFileDamaged, match=r"w\.npy"):
        manifest_of_folder(tmp_path, "m", "1")


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "9" * 40 + ",), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (1,), }",
        "(" * 120,
    ],
)
def test_npy_with_another_header_is_taken_as_it_is(tmp_path, text):
    (tmp_path / "w.npy").write_bytes(npy(text))

    assert told(manifest(tmp_path)) == [("w.npy", 138, None)]


@pytest.mark.parametrize(
    "array", [np.float64(3), np.zeros((0, 4)), np.ones((2, 3, 4), "u1"), np.array([True])]
)
def test_npy_of_any_shape(tmp_path, array):
    np.save(tmp_path / "w.npy", array)

    found = manifest(tmp_path)

    assert spans(found) == [("", array.dtype.name, array.shape, 0, array.nbytes)][: array.size]


def test_safetensors_has_a_chunk_per_tensor(tmp_path):
    tensors = {"b": np.ones((2, 3), np.float32), "a": np.zeros(5, np.int8), "none": np.ones(0)}
    save_file(tensors, tmp_path / "m.safetensors", metadata={"k": "v"})

    made = manifest(tmp_path)

    assert sorted(spans(made)) == [("a", "int8", (5,), 0, 5), ("b", "float32", (2, 3), 0, 24)]
    assert made.files[0].tensor is None  # the header


def test_large_tensors_are_cut_at_elements(tmp_path):
    save_file({"w": np.arange(100, dtype=np.float64)}, tmp_path / "m.safetensors")

    made = manifest(tmp_path, span_bytes=299)

    assert [(b, e) for *_, b, e in spans(made)] == [(0, 288), (288, 576), (576, 800)]


def test_bfloat16_keeps_its_name(tmp_path):
    params = ParameterSet.from_tensors({"w": np.ones(4, ml_dtypes.bfloat16)})
    (tmp_path / "m.safetensors").write_bytes(params.to_bytes())

    assert spans(manifest(tmp_path)) == [("w", "bfloat16", (4,), 0, 8)]


def test_tensor_of_an_unknown_type_has_a_chunk(tmp_path):
    (tmp_path / "m.safetensors").write_bytes(
        image({"w": entry("F4", [4], [0, 2]), "v": entry("F32", [1], [2, 6])}, 6)
    )

    assert [length for _, length, _ in told(manifest(tmp_path))][1:] == [2, 4]


def entry(dtype, shape, place):
    return {"dtype": dtype, "shape": shape, "data_offsets": place}


def image(table, size):
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


@pytest.mark.parametrize(
    "data",
    [
        b"short",
        struct.pack("<Q", 1 << 63) + b"{}",
        struct.pack("<Q", 100) + b"{}",
        image(b"[]", 0),
        image(b"{", 0),
        image(b"[" * 50_000, 0),
        image({"w": entry("F32", [2], [0, 8])}, 4),
        image({"w": entry("F32", [3], [0, 8])}, 8),
        image({"w": entry("F32", [2], [8, 0])}, 8),
        image({"w": entry("F32", [2], [-8, 0])}, 8),
        image({"w": entry("F32", [True], [0, 4])}, 8),
        image({"w": entry("F32", [1], [0, 4]), "v": entry("F32", [1], [2, 6])}, 8),
        image({"w": entry(3, [1], [0, 4])}, 8),
        image({"w": {"dtype": "F32"}}, 8),
        image({"w": 3}, 8),
        image({"w": entry("F32", [1 << 62], [0, 1 << 61])}, 8),
    ],
)
def test_damaged_safetensors(tmp_path, data):
    (tmp_path / "m.safetensors").write_bytes(data)

    with pytest.raises(ModelFileDamaged, match=r"m\.safetensors"):
        manifest_of_folder(tmp_path, "m", "1")


def test_header_of_more_than_100_mb_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", 100_000_001))
    os.truncate(path, 100_000_100)  # sparse on most file systems

    with pytest.raises(ModelFileDamaged, match="100000001"):
        manifest_of_folder(tmp_path, "m", "1")


def model(*initializers):
    graph = helper.make_graph(
        [helper.make_node("Identity", [initializers[0].name], ["y"])], "g", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], list(initializers),
    )  # fmt: skip
    return helper.make_model(graph)


def test_onnx_initializers_have_chunks(tmp_path):
    raw = numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "w")
    half = numpy_helper.from_array(np.ones(4, np.float16), "h")
    listed = helper.make_tensor("l", TensorProto.FLOAT, [2], [1.0, 2.0])  # not raw
    onnx.save(model(raw, half, listed), tmp_path / "m.onnx")

    made = manifest(tmp_path)
    found = {c.tensor.name: c for c in made.files if c.tensor}

    assert spans(made) == [("w", "float32", (2, 3), 0, 24), ("h", "float16", (4,), 0, 8)]
    data = np.frombuffer(folder_reader(tmp_path)(found["w"]), np.float32)
    assert data.tolist() == list(range(6))


def test_onnx_initializer_of_other_bytes_than_its_shape_says_is_refused(tmp_path):
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[100], raw_data=b"1234")
    onnx.save(helper.make_model(helper.make_graph([], "g", [], [], [weight])), tmp_path / "m.onnx")

    with pytest.raises(ModelFileDamaged, match=r"'w' has 4 bytes, as float32\[100\]"):
        manifest(tmp_path)


def test_onnx_external_data_has_chunks(tmp_path):
    (tmp_path / "sub").mkdir()
    tensors = [numpy_helper.from_array(np.full(n, n, np.float32), f"w{n}") for n in (300, 400)]
    onnx.save(
        model(*tensors), tmp_path / "sub" / "m.onnx", save_as_external_data=True,
        location="m.data", size_threshold=0,
    )  # fmt: skip

    made = manifest(tmp_path)

    assert [(c.path, c.tensor.name, c.length) for c in made.files if c.tensor] == [
        ("sub/m.data", "w300", 1200),
        ("sub/m.data", "w400", 1600),
    ]


def external(**facts):
    tensor = TensorProto(name="w", data_type=1, dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in facts.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_onnx_external_data_to_the_end_and_shared(tmp_path):
    (tmp_path / "d").write_bytes(bytes(12))
    whole = external(location="./d", offset="4")
    same = external(location="d", offset="4", length="8")
    same.name = "v"
    (tmp_path / "m.onnx").write_bytes(model(whole, same).SerializeToString())

    assert spans(manifest(tmp_path)) == [("v", "float32", (2,), 0, 8)]


@pytest.mark.parametrize(
    "facts",
    [
        {"location": "../d"},
        {"location": "/d"},
        {"location": "gone"},
        {"location": ""},
        {"location": "d", "offset": "8"},
        {"location": "d", "offset": "0", "length": "99"},
        {"location": "d", "offset": "-4"},
        {"location": "d", "offset": "0", "length": "4"},
        {"location": "d", "offset": "9" * 30},
    ],
)
def test_onnx_external_data_that_is_not_there(tmp_path, facts):
    (tmp_path / "in").mkdir()
    (tmp_path / "d").write_bytes(bytes(8))
    (tmp_path / "in" / "d").write_bytes(bytes(12))
    (tmp_path / "in" / "m.onnx").write_bytes(model(external(**facts)).SerializeToString())

    with pytest.raises(ModelFileDamaged, match=r"'(m\.onnx|d)'"):
        manifest_of_folder(tmp_path / "in", "m", "1")


@pytest.mark.parametrize("data", [b"\x3a\xff", b"\x00\x00", b"\x3b", b"\xff" * 11, b"\x3a\x7f\x00"])
def test_damaged_onnx(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)

    with pytest.raises(ModelFileDamaged, match=r"m\.onnx"):
        manifest_of_folder(tmp_path, "m", "1")


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_any_damage_to_a_model_is_refused_or_covered(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("m")
    suffix = data.draw(st.sampled_from(["onnx", "safetensors", "npy"]))
    path = root / f"m.{suffix}"
    if suffix == "onnx":
        onnx.save(model(numpy_helper.from_array(np.ones(3, np.float32), "w")), path)
    elif suffix == "npy":
        np.save(path, np.ones(3, np.float32))
    else:
        save_file({"w": np.ones(3, np.float32)}, path)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)

    try:
        manifest(root)
    except ModelFileDamaged:
        return
    assert path.read_bytes() == whole


# --- parameter sets


def params(step=0.0):
    return ParameterSet.from_tensors({
        "w": np.full((3, 5), 1 + step, np.float32),
        "b": np.arange(4, dtype=np.float64),
        "n": np.zeros(0, np.float32),
    })  # fmt: skip


def test_parameters_have_a_chunk_per_tensor_and_come_back():
    one = params()

    made = manifest_of_params(one, "m", "1")

    assert [c.tensor and c.tensor.name for c in made.files] == [None, "b", "w"]
    assert params_of(made, params_reader(one)) == one


def test_manifest_of_parameters_is_that_of_their_file(tmp_path):
    (tmp_path / "params.safetensors").write_bytes(params().to_bytes())

    assert manifest(tmp_path) == manifest_of_params(params(), "demo", "1")


def test_only_the_tensor_that_changed_is_new():
    found = changes(*(manifest_of_params(params(s), "m", "1") for s in (0, 1)))

    assert [c.tensor.name for c in found.adds] == ["w"]
    assert found.deletes == ()


def test_empty_set_has_a_header():
    one = ParameterSet.from_tensors({})

    assert params_of(manifest_of_params(one, "m", "1"), params_reader(one)) == one


@pytest.mark.parametrize("change", [
    lambda files: files[1:], lambda files: files[:-1], lambda _: (),
])  # fmt: skip
def test_chunks_that_are_no_whole_set(change):
    made = manifest_of_params(params(), "m", "1")
    part = WeightManifest("m", "1", change(made.files))

    with pytest.raises(ParameterSetError):
        params_of(part, params_reader(params()))


@pytest.mark.parametrize("span", [0, -1])
def test_chunks_have_bytes(tmp_path, span):
    (tmp_path / "w").write_bytes(b"w")

    with pytest.raises(ConfigError, match="span_bytes"):
        manifest_of_folder(tmp_path, "m", "1", span_bytes=span)
    with pytest.raises(ConfigError, match="span_bytes"):
        manifest_of_params(params(), "m", "1", span_bytes=span)


# --- readers


def test_reader_refuses_what_is_outside(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "w").write_bytes(b"data")
    (tmp_path / "w").write_bytes(b"secret")
    made = manifest(tmp_path / "in").files[0]
    read = folder_reader(tmp_path / "in")

    (tmp_path / "in" / "circle").symlink_to("circle")
    (tmp_path / "in" / "out").symlink_to("../w")
    os.mkfifo(tmp_path / "in" / "pipe")

    for path in ("../w", "/etc/passwd", "", "gone", "circle", "out", "pipe"):
        with pytest.raises(FolderUnfit):
            read(type(made)(path, 0, 1))
    with pytest.raises(FolderChanged, match="4 bytes"):
        read(type(made)("w", 2, 3))
    assert bytes(read(made)) == b"data"
