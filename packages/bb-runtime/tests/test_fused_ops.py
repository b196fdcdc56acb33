"""Fused tensor ops in a Node: the same results and draws, and errors that name the op inside."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import bb_dsl as bb
from bb_compiler import Compiler
from bb_ir import keys, onnx_tools
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_runtime import Emitted, OpFailed, install, load_artifact
from bb_runtime.errors import InvalidArtifact, UnresolvedOp
from bb_testing.programs import PlainBackend

PEER = PeerId.from_seed(b"fused", 0)
HERE = Path(__file__)


class Maths(bb.Module):
    """Four ops in a row, with a constant."""

    peer_class = "server"
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        a = x + x
        b = a * 2.0
        c = self.backend.op(g, "Gather", b, g.constant([3, 0], "int64"))  # the line that fails
        g.output("y", -c)


def line_of(mark: str) -> int:
    lines = HERE.read_text().splitlines()
    return next(number for number, text in enumerate(lines, 1) if text.endswith(f"# {mark}"))


FAILS = line_of("the line that fails")


class Lacking(PlainBackend):
    """Has no Gather."""

    def kernel(self, op_type, attributes, outputs) -> Any:
        return None if op_type == "Gather" else super().kernel(op_type, attributes, outputs)


class Refusing(PlainBackend):
    """Does not like the attributes of Gather."""

    def kernel(self, op_type, attributes, outputs) -> Any:
        if op_type == "Gather":
            raise ValueError("no such attribute")
        return super().kernel(op_type, attributes, outputs)


class OneByOne(PlainBackend):
    """Takes no ops together."""

    def compile(self, graph) -> None:
        return None


class AtOnce(PlainBackend):
    """Runs a graph in a way of its own."""

    graphs: ClassVar[list[Any]] = []

    def compile(self, graph) -> Any:
        self.graphs.append(graph)

        def run(x):
            return -((x + x) * 2)[[3, 0]]

        return run


class BreaksOnCompiling(PlainBackend):
    """Has all kernels and still cannot compile."""

    def compile(self, graph) -> None:
        raise RuntimeError("out of registers")


def artifact_for(backend, *, fused=True):
    compiler = Compiler().bind_backend("backend", backend)
    if not fused:
        compiler.without_stage("fuse_backend_subgraphs")
    return compiler.compile(Maths().build())


def node_for(backend, **options):
    return install(PEER, [], artifact_for(backend, **options), ["Maths"])


def run_on(node, x):
    node.invoke("Maths", {"x": x})
    return node.poll()


FOUR = np.arange(4.0)


@pytest.mark.parametrize("backend", [PlainBackend, OneByOne, AtOnce])
def test_results_are_those_of_the_ops_one_by_one(backend):
    fused = run_on(node_for(backend), FOUR)
    apart = run_on(node_for(PlainBackend, fused=False), FOUR)

    values = [step.value for steps in (fused, apart) for step in steps if isinstance(step, Emitted)]
    assert len(values) == 2
    assert values[0].tobytes() == values[1].tobytes()
    assert values[0].shape == values[1].shape == (2,)


def test_ops_inside_run_in_the_order_of_recording_and_constants_once():
    node = node_for(PlainBackend)
    for _ in range(2):
        run_on(node, FOUR)

    assert node.component("backend").runs == [
        "Constant", "Constant", *["Add", "Mul", "Gather", "Neg"] * 2,
    ]  # fmt: skip


def test_a_fused_function_is_no_target():
    artifact = load_artifact(artifact_for(PlainBackend))

    (target,) = artifact.targets.values()
    (call, _) = target.ops
    assert call.domain == keys.FUSED
    assert [op.name for op in call.inner if op.name != "Constant"] == [
        "Add", "Mul", "Gather", "Neg",
    ]  # fmt: skip


@pytest.mark.parametrize("backend", [PlainBackend, OneByOne])
def test_a_failure_names_the_op_inside(backend):
    steps = run_on(node_for(backend), np.arange(3.0))

    (failed,) = [step for step in steps if isinstance(step, OpFailed)]
    assert (failed.op, failed.slot) == ("Gather", "backend")
    assert (Path(failed.source.file).name, failed.source.line) == (HERE.name, FAILS)
    assert failed.place.file.endswith("programs.py")


def test_the_same_failure_says_the_same_unfused():
    steps = [run_on(node_for(PlainBackend, fused=f), np.arange(3.0)) for f in (True, False)]

    one, other = (next(s for s in each if isinstance(s, OpFailed)) for each in steps)
    said = [(s.target, s.op, s.slot, s.component, s.source, s.frame, s.place) for s in (one, other)]
    assert said[0] == said[1]


def test_a_failure_in_a_backends_own_code_names_the_call():
    (failed,) = [
        step for step in run_on(node_for(AtOnce), np.arange(3.0)) if isinstance(step, OpFailed)
    ]

    assert failed.op.startswith("fused#")
    assert Path(failed.source.file).name == HERE.name


@pytest.mark.parametrize(
    ("backend", "why"),
    [(Lacking, "does not have it"), (Refusing, "ValueError: no such attribute")],
)
def test_an_op_that_cannot_be_carried_out_is_named_with_its_line(backend, why):
    with pytest.raises(UnresolvedOp, match=r"op Gather of ai\.onnx in Maths") as caught:
        node_for(backend)

    assert why in caught.value.found
    (where,) = caught.value.where
    assert (Path(where.file).name, where.line) == (HERE.name, FAILS)


def test_a_backend_that_cannot_compile_is_reported_as_such():
    with pytest.raises(UnresolvedOp, match="RuntimeError: out of registers"):
        node_for(BreaksOnCompiling)


def test_a_backend_is_given_a_function_that_onnx_knows():
    from onnx import checker, helper

    AtOnce.graphs.clear()
    node_for(AtOnce)

    (graph,) = AtOnce.graphs
    function = graph.function
    types = onnx_tools.types_of(function)
    assert str(types[function.output[0]]).startswith("tensor(float64)")
    model = helper.make_model(
        helper.make_graph(
            list(function.node),
            "g",
            [onnx_tools.value_info(name, types[name]) for name in function.input],
            [onnx_tools.value_info(name, types[name]) for name in function.output],
        ),
        opset_imports=list(function.opset_import),
    )
    checker.check_model(model, full_check=True)


def test_nodes_of_one_artifact_share_the_code():
    artifact = load_artifact(artifact_for(PlainBackend))
    for number in range(2):
        install(PeerId.from_seed(b"fused", number), [], artifact, ["Maths"])

    (target,) = artifact.targets.values()
    assert target.ops[0].graph.code is target.ops[0].graph.code


def test_an_artifact_without_a_function_it_calls_is_refused():
    model = artifact_for(PlainBackend)
    (at,) = [at for at, f in enumerate(model.functions) if f.domain == keys.FUSED]
    del model.functions[at]

    with pytest.raises(InvalidArtifact, match="fused#"):
        load_artifact(model)
