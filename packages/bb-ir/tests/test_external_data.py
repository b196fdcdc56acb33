"""Tensors in files are read from the folder of their model, and from nowhere else."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bb_ir.external_data import ExternalDataError, has_external_data, read_in

VALUES = np.arange(4, dtype=np.float32)


def tensor(**facts: str) -> TensorProto:
    made = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    made.data_location = TensorProto.EXTERNAL
    for key, value in facts.items():
        made.external_data.add(key=key, value=value)
    return made


def model(**facts: str) -> onnx.ModelProto:
    """Keeps a tensor in a file: in a branch of a function's node, as deep as they stand."""
    inner = helper.make_node("Constant", [], ["y"], value=tensor(**facts))
    branch = helper.make_graph([inner], "branch", [], [])
    node = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    function = helper.make_function("d", "F", ["c"], ["z"], [node], [helper.make_opsetid("", 23)])
    return helper.make_model(helper.make_graph([], "main", [], []), functions=[function])


def values_of(read: onnx.ModelProto) -> np.ndarray:
    branch = read.functions[0].node[0].attribute[0].g
    return numpy_helper.to_array(branch.node[0].attribute[0].t)


@pytest.fixture
def folder(tmp_path) -> Path:
    made = tmp_path / "model"
    (made / "below").mkdir(parents=True)
    (made / "w.bin").write_bytes(VALUES.tobytes())
    (made / "below" / "w.bin").write_bytes(b"\xff" * 8 + VALUES.tobytes() + b"\xff")
    (tmp_path / "secret.bin").write_bytes(VALUES.tobytes())
    return made


@pytest.mark.parametrize(
    "facts",
    [
        {"location": "w.bin"},
        {"location": "./below/w.bin", "offset": "8", "length": "16"},
        {"location": "w.bin", "checksum": "x"},
    ],
)
def test_data_in_the_folder_is_read_in(folder, facts):
    read = model(**facts)
    assert has_external_data(read)
    read_in(read, folder)
    assert not has_external_data(read)
    assert (values_of(read) == VALUES).all()


def test_model_that_was_read_in_equals_one_that_held_its_data(folder):
    read, held = model(location="w.bin"), model()
    read_in(read, folder)
    for attribute in held.functions[0].node[0].attribute:
        attribute.g.node[0].attribute[0].t.CopyFrom(
            TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=VALUES.tobytes())
        )
    assert read == held


@pytest.mark.parametrize(
    "location",
    ["../secret.bin", "below/../../secret.bin", "below\\..\\..\\secret.bin", "/etc/hostname",
     "C:\\secret.bin", "C:secret.bin", "\\\\host\\share", "", ".", "below", "gone.bin", "w.bin/x",
     "w\0.bin", "below/../w.bin"],
)  # fmt: skip
def test_any_other_place_is_refused(folder, location):
    with pytest.raises(ExternalDataError) as caught:
        read_in(model(location=location), folder)
    assert repr(location) in caught.value.found


@pytest.mark.parametrize("link", ["file", "folder"])
def test_links_may_not_lead_out(folder, link):
    if link == "file":
        (folder / "out").symlink_to(folder.parent / "secret.bin")
    else:
        (folder / "out").symlink_to(folder.parent)
    location = "out" if link == "file" else "out/secret.bin"
    with pytest.raises(ExternalDataError, match="a link that leads out"):
        read_in(model(location=location), folder)


def test_links_within_the_folder_are_followed(folder):
    (folder / "same").symlink_to("w.bin")
    read = model(location="same")
    read_in(read, folder)
    assert (values_of(read) == VALUES).all()


def test_folder_that_is_a_link_is_a_folder(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    read = model(location="w.bin")
    read_in(read, tmp_path / "link")
    assert (values_of(read) == VALUES).all()


@pytest.mark.parametrize(
    "facts",
    [{"length": "17"}, {"offset": "1", "length": "16"}, {"offset": "x"}, {"offset": "-1"},
     {"length": "-2"}, {"offset": "9" * 30}],
)  # fmt: skip
def test_numbers_that_do_not_fit_the_file_are_refused(folder, facts):
    with pytest.raises(ExternalDataError, match=r"w\.bin"):
        read_in(model(location="w.bin", **facts), folder)


def test_model_without_a_folder_has_no_files():
    with pytest.raises(ExternalDataError, match="was not given as a file"):
        read_in(model(location="w.bin"), None)
