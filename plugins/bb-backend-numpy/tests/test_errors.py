"""Bad attributes are found when a kernel is made, and the message says how to mend them."""

import re

import numpy as np
import pytest

from bb_backend_numpy.errors import KernelError
from bb_backend_numpy.ops import SUPPORTED
from bb_ir.errors import BytesAndBrainsError

#: What an op cannot do without.
NEEDED = {
    "BitShift": {"direction": "LEFT"},
    "Cast": {"to": 1},
    "Concat": {"axis": 0},
    "Constant": {"value_int": 1},
    "DepthToSpace": {"blocksize": 2},
    "Einsum": {"equation": "i->i"},
    "GroupNormalization": {"num_groups": 2},
    "LRN": {"size": 3},
    "SpaceToDepth": {"blocksize": 2},
}
#: How many results an op cannot do without, where they are more than one.
OUTPUTS = {"DynamicQuantizeLinear": 3, "TopK": 2}


def make(backend, op_type, outputs=None, **attributes):
    outputs = outputs or OUTPUTS.get(op_type, 1)
    return backend.kernel(op_type, NEEDED.get(op_type, {}) | attributes, outputs)


@pytest.mark.parametrize("op_type", SUPPORTED)
def test_every_op_can_be_made_with_what_it_needs(backend, op_type):
    assert callable(make(backend, op_type))


@pytest.mark.parametrize("op_type", SUPPORTED)
def test_unknown_attributes_are_refused(backend, op_type):
    with pytest.raises(KernelError, match=f"{op_type} has no attribute 'nonsense'") as caught:
        make(backend, op_type, nonsense=1)
    assert caught.value.fix
    assert caught.value.expected


@pytest.mark.parametrize("op_type", SUPPORTED)
def test_more_outputs_than_the_standard_has_are_refused(backend, op_type):
    if op_type == "Split":
        return
    with pytest.raises(KernelError, match="5 outputs"):
        make(backend, op_type, outputs=5)


@pytest.mark.parametrize("op_type", sorted(set(NEEDED)))
def test_needed_attributes_are_missed(backend, op_type):
    with pytest.raises(KernelError, match=op_type):
        backend.kernel(op_type, {}, 1)


@pytest.mark.parametrize(
    ("op_type", "attributes", "says"),
    [
        ("BatchNormalization", {"training_mode": 1}, "infers"),
        ("BitShift", {"direction": "UP"}, "'LEFT' or 'RIGHT'"),
        ("Cast", {"to": 8}, "texts are refused"),
        ("Cast", {"to": "float32"}, "an integer"),
        ("Cast", {"saturate": 2}, "0 or 1"),
        ("Celu", {"alpha": 0.0}, "it divides"),
        ("Concat", {"axis": 0.5}, "an integer"),
        ("Constant", {"value": [1, 2]}, "has 2 values"),
        ("Constant", {"value_string": "x"}, "a dense tensor"),
        ("ConstantOfShape", {"value": np.zeros(2)}, "one element"),
        ("ConstantOfShape", {"value": 1.0}, "a numpy array"),
        ("DepthToSpace", {"mode": "XYZ"}, "'DCR' or 'CRD'"),
        ("DepthToSpace", {"blocksize": 0}, "a positive number"),
        ("Einsum", {"equation": "i->j->k"}, "at most one '->'"),
        ("Einsum", {"equation": 3}, "a text"),
        ("Elu", {"alpha": "1"}, "a number"),
        ("GatherND", {"batch_dims": -1}, "0 or more"),
        ("Gelu", {"approximate": "fast"}, "'none' or 'tanh'"),
        ("GroupNormalization", {"num_groups": 0}, "a positive number"),
        ("LRN", {"size": 0}, "a positive number"),
        ("ReverseSequence", {"batch_axis": 0}, "one each"),
        ("SoftmaxCrossEntropyLoss", {"reduction": "max"}, "'mean'"),
        ("LayerNormalization", {"stash_type": 10}, "1 (float32) or 11 (float64)"),
        ("LpNormalization", {"p": 3}, "1 or 2"),
        ("Pad", {"mode": "mirror"}, "'reflect'"),
        ("ReduceSum", {"axes": [0]}, "inputs now"),
        ("ScatterND", {"reduction": "mean"}, "'add'"),
        ("Split", {"num_outputs": 2}, "1, the number of outputs"),
        ("Transpose", {"perm": [0, 0]}, "each of 0 to 1 once"),
        ("Transpose", {"perm": 1}, "a list of numbers"),
    ],
)
def test_bad_values_are_refused(backend, op_type, attributes, says):
    with pytest.raises(BytesAndBrainsError, match=re.escape(says)):
        make(backend, op_type, **attributes)


def test_a_type_that_needs_ml_dtypes_says_so(backend, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    with pytest.raises(KernelError, match="ml_dtypes is not installed"):
        backend.kernel("Cast", {"to": 16}, 1)


@pytest.mark.parametrize("op_type", ["Conv", "MaxPool", "If", "LSTM", "NoSuchOp", ""])
def test_ops_it_does_not_have_give_none(backend, op_type):
    assert backend.kernel(op_type, {"whatever": 1}, 1) is None
