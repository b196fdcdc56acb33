"""What it refuses, and what it does not have."""

import numpy as np
import pytest

from bb_backend_onnxruntime.errors import DtypeUnsupported, InvalidSetting, OpRefused, RunFailed
from bb_roles.config import build_config
from bb_roles.errors import ConfigError


@pytest.mark.parametrize(
    ("op_type", "attributes", "outputs", "says"),
    [
        ("Softmax", {"axes": 1}, 1, "no attribute 'axes'"),
        ("Concat", {}, 1, "lacks its attribute 'axis'"),
        ("Relu", {}, 2, "asked for 2 outputs"),
        ("TopK", {}, 1, "asked for 1 outputs"),
        ("Elu", {"alpha": "x"}, 1, "attribute 'alpha'"),
        ("Transpose", {"perm": "x"}, 1, "attribute 'perm'"),
        ("DepthToSpace", {"blocksize": 2, "mode": "XYZ"}, 1, "does not load"),
    ],
)
def test_bad_ops_are_refused_at_install(backend, op_type, attributes, outputs, says):
    with pytest.raises(OpRefused, match=says) as caught:
        backend.kernel(op_type, attributes, outputs)
    assert caught.value.expected
    assert caught.value.fix


@pytest.mark.parametrize(
    "op_type", ["Bernoulli", "If", "RandomNormalLike", "SequenceEmpty", "StringConcat", "Scatter"]
)
def test_ops_it_does_not_have_give_none(backend, op_type):
    assert backend.kernel(op_type, {}, 1) is None


@pytest.mark.parametrize("dtype", ["complex64", "S3", ">f4", "O", "datetime64[s]"])
def test_dtypes_it_does_not_have_are_said(backend, dtype):
    with pytest.raises(DtypeUnsupported, match="op Identity"):
        backend.kernel("Identity", {}, 1)(np.zeros(3, dtype))


def test_a_dtype_without_a_kernel_is_said(backend):
    with pytest.raises(DtypeUnsupported, match=r"no kernel of op Mish for float64"):
        backend.kernel("Mish", {}, 1)(np.zeros(1))


def test_mixed_dtypes_are_refused(backend):
    with pytest.raises(OpRefused, match="float32, float64"):
        backend.kernel("Add", {}, 1)(np.zeros(1, np.float32), np.zeros(1))


def test_an_op_whose_result_is_no_array_is_not_there(backend):
    bfloat16 = 16
    assert backend.kernel("Cast", {"to": bfloat16}, 1) is None


def test_a_failing_kernel_says_what_it_was_given_and_works_on(backend, capfd):
    kernel = backend.kernel("Gather", {}, 1)
    x = np.arange(3, dtype=np.float32)
    with pytest.raises(RunFailed, match=r"float32\[3\], int64\[1\].*out of data bounds"):
        kernel(x, np.array([7]))
    assert kernel(x, np.array([2])).tolist() == [2]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "settings",
    [{"threads": 0}, {"threads": -1}, {"threads": True}, {"threads": 1 << 20}, {"optimize": "x"}],
)
def test_bad_settings_are_refused(make, settings):
    with pytest.raises(InvalidSetting, match=next(iter(settings))) as caught:
        make(**settings)
    assert caught.value.expected


def test_bad_settings_are_refused_by_install(backend):
    with pytest.raises(ConfigError, match="threads"):
        build_config(type(backend).Config, {"threads": 0}, "backend")
