"""What a network costs on a Node, against the same network without us.

A network of 784, 256 and 10 neurons reads 32 images: on `backend.numpy` against a function of
plain numpy calls, on `backend.onnxruntime` against a bare session of ONNX Runtime with the same
options. The program is invoked with images and gives logits, so what a frame costs is in it: once
for each 32 images, or once for eight times as many in batches of 32, as an evaluation has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime as ort
from measure import Effort, Row, Times, interleave, ratio, shown, shown_ratio
from onnx import TensorProto, helper, numpy_helper

import bb_dsl as dsl
import bb_runtime as rt
from bb_compiler import Compiler
from bb_ir.ids import PeerId

_SHAPES = {"w1": (784, 256), "b1": (256,), "w2": (256, 10), "b2": (10,)}
_IMAGES = (32, 784)
_BATCHES = 8
_SHARED = (
    "Weights that several fused calls share are an input of each, and a bare session that is given "
    "them as inputs takes a third longer, too: it packs them for its products each time."
)
_NOTE = (
    "The rest is the frame and what enters and leaves it, whose code and data the products have "
    "driven out of the cache."
)
_Arrays = dict[str, Any]


class Network(dsl.Module):
    """Two dense layers, and batches that pass through them one after the other."""

    backend = dsl.slots.Backend()

    def __init__(self, weights: _Arrays, batches: int) -> None:
        super().__init__()
        self.weights = weights
        self.batches = batches

    def body(self, g: dsl.Graph) -> None:
        """Record the forward passes."""
        w1, b1, w2, b2 = (g.constant(self.weights[name]) for name in _SHAPES)
        for number in range(self.batches):
            x = g.input(f"x{number}", "tensor(float32)[32,784]")
            hidden = self.backend.relu(g, x @ w1 + b1)
            g.output(f"y{number}", hidden @ w2 + b2)


def measure(effort: Effort) -> dict[str, Any]:
    """Measure one batch, and many, on each."""
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal(shape, np.float32) for name, shape in _SHAPES.items()}
    calls: dict[str, Callable[[], Any]] = {}
    for count in (1, _BATCHES):
        batches = [rng.standard_normal(_IMAGES, np.float32) for _ in range(count)]
        more: dict[str, Callable[[], Any]] = {
            "numpy": _frame("numpy", weights, batches),
            "numpy, op by op": _frame("numpy", weights, batches, fused=False),
            "plain numpy": _plain(weights, batches),
            "onnxruntime": _frame("onnxruntime", weights, batches),
            "bare session": _session(weights, batches),
        }
        first, *others = (call() for call in more.values())
        for other in others:
            np.testing.assert_allclose(other, first, rtol=1e-3, atol=1e-3)
        calls |= {f"{name} {count}": call for name, call in more.items()}
    return {"batches": _BATCHES, "seconds": interleave(calls, effort, samples=21)}


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    times: dict[str, Times] = result["seconds"]
    found: list[Row] = []
    for count in (1, result["batches"]):
        for name, other, bound in (
            ("numpy", "plain numpy", 1.10),
            ("numpy, op by op", "plain numpy", 1.10),
            ("onnxruntime", "bare session", 1.2),
        ):
            own, bare = times[f"{name} {count}"], times[f"{other} {count}"]
            found.append(
                Row(
                    "G3",
                    f"a network of 784, 256 and 10 neurons, 32 images, {count} such in a "
                    f"frame, backend {name}; against {other}",
                    f"at most {bound:.2f}x",
                    f"{shown(own, 'us', 1e6 / count)} per batch; "
                    f"{other} {shown(bare, 'us', 1e6 / count)}",
                    shown_ratio(own, bare),
                    ratio(own, bare) <= bound,
                    _SHARED if name == "onnxruntime" and count > 1 else _NOTE,
                )
            )
    return found


def _frame(
    backend: str, weights: _Arrays, batches: list[Any], *, fused: bool = True
) -> Callable[[], Any]:
    bound = Compiler().bind_backend("backend", backend)
    if not fused:
        bound.without_stage("fuse_backend_subgraphs")
    artifact = bound.compile(Network(weights, len(batches)).build())
    node = rt.install(PeerId.from_seed(0, 0), [], artifact, ["Network"])
    given = {f"x{number}": x for number, x in enumerate(batches)}

    def run() -> Any:
        node.invoke("Network", given)
        steps = node.poll()
        found = {step.name: step.value for step in steps if isinstance(step, rt.Emitted)}
        assert len(found) == len(batches), steps
        return found["y0"]

    return run


def _plain(weights: _Arrays, batches: list[Any]) -> Callable[[], Any]:
    w1, b1, w2, b2 = (weights[name] for name in _SHAPES)

    def run() -> Any:
        found = [
            np.add(np.matmul(np.maximum(np.add(np.matmul(x, w1), b1), 0), w2), b2) for x in batches
        ]
        return found[0]

    return run


def _session(weights: _Arrays, batches: list[Any]) -> Callable[[], Any]:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"]),
        helper.make_node("Add", ["a", "b1"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "w2"], ["d"]),
        helper.make_node("Add", ["d", "b2"], ["y"]),
    ]
    images = helper.make_tensor_value_info("x", TensorProto.FLOAT, _IMAGES)
    logits = helper.make_tensor_value_info("y", TensorProto.FLOAT, (32, 10))
    held = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "network", [images], [logits], held)
    opsets = [helper.make_opsetid("", 21)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run() -> Any:
        found = [session.run(None, {"x": x})[0] for x in batches]
        return found[0]

    return run
