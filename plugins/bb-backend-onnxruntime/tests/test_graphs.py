"""Fused graphs: one session, made at install where the dtypes are declared."""

import gc

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bb_backend_onnxruntime.errors import DtypeUnsupported, OpRefused, RunFailed
from bb_ir import keys
from bb_roles.fused import FusedGraph

F32 = np.float32


def graph(inputs, outputs, *steps, types=None):
    nodes = [helper.make_node(op, i.split(), o.split(), **a) for op, i, o, a in steps]
    infos = [
        helper.make_tensor_value_info(name, kind, None) for name, kind in (types or {}).items()
    ]
    function = helper.make_function(
        keys.FUSED, "fused", inputs.split(), outputs.split(), nodes,
        [helper.make_opsetid("", keys.OPSET)], value_info=infos,
    )  # fmt: skip
    return FusedGraph.of(function)


@pytest.fixture
def built(monkeypatch):
    """The models of the sessions that were made."""
    models = []
    real = onnxruntime.InferenceSession

    def counting(model, *args, **kwargs):
        models.append(model)
        return real(model, *args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counting)
    return models


CHAIN = (("Add", "x y", "a", {}), ("Relu", "a", "b", {}), ("Mul", "b b", "z", {}))
FLOATS = {"x": TensorProto.FLOAT, "y": TensorProto.FLOAT}


def test_declared_dtypes_make_one_session_at_install(backend, built):
    run = backend.compile(graph("x y", "z", *CHAIN, types=FLOATS))
    assert len(built) == 1
    z = run(np.array([-3, 1], F32), np.array([1, 2], F32))
    np.testing.assert_array_equal(z, np.array([0, 9], F32))
    assert len(built) == 1


def test_constant_is_held_and_not_made_again(backend):
    run = backend.kernel("Constant", {"value_floats": [1.0, 2.0]}, 1)

    first, second = run(), run()

    assert first is second
    np.testing.assert_array_equal(first, np.array([1, 2], F32))
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 3


def test_one_session_serves_all_shapes(backend, built):
    run = backend.compile(graph("x y", "z", *CHAIN, types=FLOATS))
    for shape in [(), (0,), (3,), (2, 0, 3), (2, 1, 3)]:
        z = run(np.ones(shape, F32), np.ones((), F32))
        np.testing.assert_array_equal(z, np.full(shape, 4, F32))
    assert len(built) == 1


def test_dtypes_that_are_not_declared_get_a_session_each(backend, built):
    run = backend.compile(graph("x y", "z", *CHAIN))
    before = len(built)
    for _ in range(3):
        for dtype in (np.float32, np.float64, np.int32):
            z = run(np.array([2], dtype), np.array([1], dtype))
            assert (z.dtype, z.tolist()) == (dtype, [9])
    assert len(built) == before + 3


def test_results_belong_to_the_caller_and_cannot_be_written_to(backend):
    run = backend.compile(graph("x y", "z x", *CHAIN, types=FLOATS))
    x = np.array([1, 2], F32)
    z, same = run(x, x)
    assert not z.flags.writeable
    assert not np.shares_memory(same, x)
    del run, backend
    gc.collect()
    np.testing.assert_array_equal(z, np.array([4, 16], F32))


def test_an_input_in_c_order_is_lent_as_it_is(backend):
    """Nothing is copied: the session reads what stands there when it runs."""
    x = np.zeros(4, F32)
    lent = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    assert lent.data_ptr() == x.ctypes.data
    run = backend.compile(graph("x y", "z", *CHAIN, types=FLOATS))
    x[:] = 2
    np.testing.assert_array_equal(run(x, x), np.full(4, 16, F32))


def test_nan_and_infinities_go_through(backend):
    run = backend.compile(graph("x y", "z", ("Add", "x y", "a", {}), ("Neg", "a", "z", {})))
    x = np.array([np.nan, np.inf, -np.inf, 1], F32)
    np.testing.assert_array_equal(run(x, np.zeros(4, F32)), -x)


def test_wanted_twice_and_unread_values(backend):
    run = backend.compile(graph("x y", "z z x", ("Neg", "x", "z", {}), ("Abs", "y", "w", {})))
    z, again, x = run(np.array([1], F32), np.array([2], F32))
    assert (z.tolist(), again.tolist(), x.tolist()) == ([-1], [-1], [1])


def test_unknown_op_gives_none(backend):
    assert backend.compile(graph("x", "z", ("NoSuchOp", "x", "z", {}))) is None
    assert backend.compile(graph("x", "z", ("Bernoulli", "x", "z", {}))) is None


@pytest.mark.parametrize("kind", ["BFLOAT16", "STRING", "COMPLEX64", "INT4"])
def test_declared_dtype_that_it_lacks_is_said_at_install(backend, kind):
    fused = graph("x", "z", ("Neg", "x", "z", {}), types={"x": TensorProto.DataType.Value(kind)})
    with pytest.raises(DtypeUnsupported, match="input x") as caught:
        backend.compile(fused)
    assert "float32" in caught.value.expected


def test_declared_dtype_without_a_kernel_is_said_at_install(backend):
    fused = graph("x", "z", ("Mish", "x", "z", {}), types={"x": TensorProto.DOUBLE})
    with pytest.raises(DtypeUnsupported, match="no kernel"):
        backend.compile(fused)


def test_a_dtype_that_the_standard_forbids_is_said_at_install(backend):
    with pytest.raises(OpRefused, match="does not load"):
        backend.compile(graph("x", "z", ("Exp", "x", "z", {}), types={"x": TensorProto.BOOL}))


def test_shapes_that_do_not_fit_are_said_when_run(backend):
    run = backend.compile(graph("x y", "z", *CHAIN, types=FLOATS))
    with pytest.raises(RunFailed, match=r"float32\[3\], float32\[2\]") as caught:
        run(np.ones(3, F32), np.ones(2, F32))
    assert caught.value.__cause__ is not None
    assert run(np.ones(1, F32), np.ones(1, F32)).tolist() == [4]


def test_half_precision_inside_keeps_the_roundings_of_single_ops(backend):
    steps = (
        ("Cast", "x", "a", {"to": TensorProto.FLOAT16}),
        ("Mul", "a a", "b", {}),
        ("Add", "b a", "c", {}),
        ("Cast", "c", "z", {"to": TensorProto.FLOAT}),
    )
    x = np.linspace(-3, 3, 50, dtype=F32)
    half = x.astype(np.float16)
    wanted = (half * half + half).astype(F32)
    np.testing.assert_array_equal(backend.compile(graph("x", "z", *steps))(x), wanted)


@pytest.mark.parametrize("optimize", ["none", "basic", "extended", "all"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_setting_gives_close_results(make, optimize, threads):
    run = make(optimize=optimize, threads=threads).compile(
        graph("x w b", "z", ("MatMul", "x w", "a", {}), ("Add", "a b", "c", {}),
              ("Gelu", "c", "z", {}))
    )  # fmt: skip
    reference = make().compile(
        graph("x w b", "z", ("MatMul", "x w", "a", {}), ("Add", "a b", "c", {}),
              ("Gelu", "c", "z", {}))
    )  # fmt: skip
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=shape).astype(F32) for shape in [(5, 7), (7, 3), (3,)]]
    np.testing.assert_allclose(run(*inputs), reference(*inputs), 1e-5, 1e-6)


def test_dropout_in_a_graph_only_infers(backend):
    run = backend.compile(graph("x r t", "z", ("Neg", "x", "a", {}), ("Dropout", "a r t", "z", {})))
    x, ratio = np.ones(4, F32), np.array(0.5, F32)
    np.testing.assert_array_equal(run(x, ratio, np.array(False)), -x)
    with pytest.raises(RunFailed, match="training_mode"):
        run(x, ratio, np.array(True))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_the_least_integer_divided_by_minus_one_harms_nobody(backend, dtype):
    least = np.iinfo(dtype).min
    a, b = np.array([least, 7, -7], dtype), np.array([-1, -1, 2], dtype)
    expected = np.array([least, -7, -3], dtype)
    np.testing.assert_array_equal(backend.kernel("Div", {}, 1)(a, b), expected)
    run = backend.compile(graph("x y", "z", ("Identity", "x", "a", {}), ("Div", "a y", "z", {})))
    np.testing.assert_array_equal(run(a, b), expected)


@pytest.mark.parametrize("op_type", ["Div", "Mod"])
def test_integers_divided_by_zero_are_an_error(backend, op_type):
    with pytest.raises(RunFailed, match="by zero"):
        backend.kernel(op_type, {}, 1)(np.array([1, 2]), np.array([0, -1]))


def test_integers_that_cannot_be_divided_are_an_error(backend):
    with pytest.raises(RunFailed, match="op Div failed"):
        backend.kernel("Div", {}, 1)(np.array([1, 2]), np.array([-1, -1, -1]))
