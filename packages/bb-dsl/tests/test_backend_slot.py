"""Each method of a Backend slot records the ONNX op of its name, and gives what ONNX says."""

import inspect

import numpy as np
import pytest

import bytesandbrains as bb

X = np.array([[1.0, -2.0, 3.0], [0.5, 4.0, -1.0]], np.float32)
SOFT = np.exp(X) / np.exp(X).sum(-1, keepdims=True)
LEAKY = np.where(X > 0, X, X * np.float32(0.1))
CENTRED = X - X.mean(-1, keepdims=True)
NORMAL = CENTRED / np.sqrt((CENTRED**2).mean(-1, keepdims=True) + 1e-5)

#: Method -> (how it is called on slot, graph and x; what numpy gives).
CASES = {
    "add": (lambda b, g, x: b.add(g, x, x), X + X),
    "sub": (lambda b, g, x: b.sub(g, x, x), X - X),
    "mul": (lambda b, g, x: b.mul(g, x, x), X * X),
    "div": (lambda b, g, x: b.div(g, x, x), X / X),
    "pow": (lambda b, g, x: b.pow(g, x, g.constant(2.0)), X**2),
    "equal": (lambda b, g, x: b.equal(g, x, x), X == X),  # noqa: PLR0124  # that is the point
    "greater": (lambda b, g, x: b.greater(g, x, g.constant(0.0)), X > 0),
    "less": (lambda b, g, x: b.less(g, x, g.constant(0.0)), X < 0),
    "matmul": (lambda b, g, x: b.matmul(g, x, b.transpose(g, x)), X @ X.T),
    "gemm": (lambda b, g, x: b.gemm(g, x, x, transB=1, alpha=2.0), 2 * X @ X.T),
    "where": (lambda b, g, x: b.where(g, b.less(g, x, g.constant(0.0)), -x, x), abs(X)),
    "neg": (lambda b, g, x: b.neg(g, x), -X),
    "abs": (lambda b, g, x: b.abs(g, x), abs(X)),
    "sqrt": (lambda b, g, x: b.sqrt(g, b.abs(g, x)), np.sqrt(abs(X))),
    "exp": (lambda b, g, x: b.exp(g, x), np.exp(X)),
    "log": (lambda b, g, x: b.log(g, b.abs(g, x)), np.log(abs(X))),
    "relu": (lambda b, g, x: b.relu(g, x), np.maximum(X, 0)),
    "leaky_relu": (lambda b, g, x: b.leaky_relu(g, x, 0.1), LEAKY),
    "gelu": (lambda b, g, x: b.gelu(g, b.relu(g, -x)), None),
    "sigmoid": (lambda b, g, x: b.sigmoid(g, x), 1 / (1 + np.exp(-X))),
    "tanh": (lambda b, g, x: b.tanh(g, x), np.tanh(X)),
    "softmax": (lambda b, g, x: b.softmax(g, x), SOFT),
    "identity": (lambda b, g, x: b.identity(g, x), X),
    "cast": (lambda b, g, x: b.cast(g, x, "int64"), X.astype(np.int64)),
    "reshape": (lambda b, g, x: b.reshape(g, x, [3, -1]), X.reshape(3, -1)),
    "transpose": (lambda b, g, x: b.transpose(g, x, [1, 0]), X.T),
    "squeeze": (lambda b, g, x: b.squeeze(g, b.unsqueeze(g, x, [0])), X),
    "unsqueeze": (lambda b, g, x: b.unsqueeze(g, x, [1]), X[:, None]),
    "concat": (lambda b, g, x: b.concat(g, [x, x], axis=1), np.concatenate([X, X], 1)),
    "split": (lambda b, g, x: b.split(g, x, [1, 2], axis=1)[1], X[:, 1:]),
    "slice": (lambda b, g, x: b.slice(g, x, [1], [3], [1]), X[:, 1:3]),
    "gather": (lambda b, g, x: b.gather(g, x, g.constant([1, 0], "int64")), X[[1, 0]]),
    "size": (lambda b, g, x: b.size(g, x), np.int64(6)),
    "shape": (lambda b, g, x: b.shape(g, x), np.array([2, 3])),
    "reduce_sum": (lambda b, g, x: b.reduce_sum(g, x, [0], keepdims=False), X.sum(0)),
    "reduce_mean": (lambda b, g, x: b.reduce_mean(g, x, [1]), X.mean(1, keepdims=True)),
    "reduce_max": (lambda b, g, x: b.reduce_max(g, x, keepdims=False), X.max()),
    "reduce_min": (lambda b, g, x: b.reduce_min(g, x, [-1]), X.min(-1, keepdims=True)),
    "argmax": (lambda b, g, x: b.argmax(g, x), X.argmax(-1)),
    "one_hot": (lambda b, g, x: b.one_hot(g, b.argmax(g, x), 3), np.eye(3)[X.argmax(-1)]),
    "layer_normalization": (
        lambda b, g, x: b.layer_normalization(g, x, g.constant([1.0, 1.0, 1.0])),
        NORMAL,
    ),
    "op": (lambda b, g, x: b.op(g, "Sign", x), np.sign(X)),
}


class Recorded(bb.Module):
    backend = bb.slots.Backend()

    def __init__(self, record):
        super().__init__()
        self.record = record

    def body(self, g):
        x = g.input("x", "tensor(float32)[2,3]")
        g.output("y", self.record(self.backend, g, x))


def run(record):
    artifact = bb.Compiler().bind_backend("backend", "numpy").compile(Recorded(record).build())
    node = bb.install(bb.PeerId.from_seed(0), [], artifact, ["Recorded"])
    node.invoke("Recorded", {"x": X})
    steps = node.poll()
    assert isinstance(steps[0], bb.Emitted), steps[0]
    return steps[0].value


@pytest.mark.parametrize("method", CASES)
def test_method_gives_what_numpy_gives(method):
    record, expected = CASES[method]

    found = run(record)

    if expected is None:  # gelu has no short formula: it lies between 0 and the input
        half = np.maximum(-X, 0)
        assert ((found >= 0) & (found <= half)).all()
        expected = found
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
    assert found.shape == np.shape(expected)


def test_every_method_has_a_case():
    from bb_dsl.slots import BackendHandle

    own = inspect.getmembers(BackendHandle, inspect.isfunction)
    public = {name for name, _ in own if not name.startswith("_")} - {"full_name"}

    assert public == set(CASES)


def test_cast_to_what_is_no_type_is_refused():
    with pytest.raises(bb.BuildError, match="cast to 'floaty'"):
        Recorded(lambda b, g, x: b.cast(g, x, "floaty")).build()
