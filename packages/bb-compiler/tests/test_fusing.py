"""What fusing may never change, on functions drawn at random.

A drawn function is a list of statements in two regions: the one that an invocation opens, and the
one that answers open. A statement reads, by number, what its region can see; so any list is a
program.
"""

import json

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from bb_compiler.errors import ArtifactInvalid
from bb_compiler.passes.fuse_backend_subgraphs import fuse_backend_subgraphs
from bb_compiler.passes.verify_artifact import verify_artifact
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model

KINDS = ("tensor",) * 8 + ("constant", "model", "output", "random", "other", "after")
STATEMENTS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(["main", "main", "answer"]),
        st.integers(0, 40),
        st.integers(0, 40),
    ),
    max_size=25,
)
ROWS = {slot: {} for slot in ("backend", "other", "left", "right", "peers")}


def drawn(before, after):
    """Return a model of one function: statements, a question and its answers, a gather, more."""
    recorder = Recorder()
    for statement in before:
        recorder.record(*statement)
    recorder.ask()
    for statement in after:
        recorder.record(*statement)
    return recorder.model()


class Recorder:
    def __init__(self):
        self.nodes, self.outputs, self.asked = [], [], False
        self.seen = {"main": ["x"], "answer": []}

    def record(self, kind, region, one, other):
        if not self.asked:
            region = "main"
        known = self.seen["main"] + (self.seen["answer"] if region == "answer" else [])
        reads = [known[one % len(known)], known[other % len(known)]]
        if kind == "constant":
            self.add("", "Constant", [], region, slot="backend", value_float=float(one))
        elif kind == "model":
            slot = ("left", "right")[other % 2]
            self.add(keys.ROLE + "model", "Forward", reads[:1], region, slot=slot)
        elif kind == "output" and region == "main":
            self.outputs.append(
                self.add(keys.SYSCALL, "Output", reads[:1], region, name=f"o{len(self.nodes)}")
            )
        elif kind == "random":
            self.add("", "RandomNormalLike", reads[:1], region, slot="backend")
        elif kind == "after":
            self.add("", "Neg", reads[:1], region, slot="backend", after=reads[1])
        else:
            self.add("", "Add", reads, region, slot="other" if kind == "other" else "backend")

    def ask(self):
        self.asked = True
        values = self.seen["main"]
        peers = self.add(keys.ROLE + "peer_selector", "Sample", [], "main", slot="peers", n=2)
        self.add(keys.WIRE, "Send", [peers, values[len(values) // 2]], "main", edge="ask")
        reply = self.add(keys.WIRE, "Receive", [], "answer", edge="answer", values=1)
        self.seen["main"] = [name for name in values if not name.startswith("sample")]
        inner = self.add("", "Add", [reply, self.seen["main"][-1]], "answer", slot="backend")
        self.add(keys.SYSCALL, "Gather", [inner], "main", quorum="1")

    def add(self, domain, op, reads, region, *, slot="", after="", edge="", **attributes):
        name = f"{op.lower()}.{len(self.nodes)}"
        node = helper.make_node(op, reads, [name], domain=domain, **attributes)
        for key, value in (
            (keys.SOURCE, f"drawn.py:{len(self.nodes)}"), (keys.SLOT, slot), (keys.AFTER, after),
            (keys.CLASS, "Drawn"), (keys.REGION, region), (keys.EDGE, edge),
        ):  # fmt: skip
            onnx_tools.set_meta(node, key, value)
        self.nodes.append(node)
        self.seen[region].append(name)
        return name

    def model(self):
        function = onnx.FunctionProto(name="Drawn", domain=keys.MODULE, input=["x"])
        function.output.extend(self.outputs)
        onnx_tools.set_meta(function, keys.CLASS, "Drawn")
        onnx_tools.set_nodes(function, self.nodes)
        model = onnx.ModelProto(ir_version=keys.IR_VERSION, functions=[function])
        model.graph.name = "Drawn"
        onnx_tools.set_meta(model, keys.RESOLVED, json.dumps({"Drawn": ROWS}))
        return model


PROGRAMS = st.builds(drawn, STATEMENTS, STATEMENTS)


def unfolded(model):
    """Return the ops of the target with those of its calls in their places, without metadata."""
    fused = {f.name: f for f in model.functions if f.domain == keys.FUSED}
    ops = []
    for node in onnx_tools.targets(model)[0].node:
        inner = fused[node.op_type].node if node.domain == keys.FUSED else [node]
        ops += inner
    return ops


def plain(node):
    meta = onnx_tools.metadata(node)
    values = sorted((name, str(value)) for name, value in onnx_tools.attributes(node).items())
    return (node.domain, node.op_type, tuple(node.input), tuple(node.output), tuple(values),
            meta[keys.SOURCE])  # fmt: skip


@settings(deadline=None)
@given(PROGRAMS)
def test_every_op_is_still_there_once(model):
    assert sorted(map(plain, unfolded(fuse_backend_subgraphs(model)))) == sorted(
        map(plain, unfolded(model))
    )


@settings(deadline=None)
@given(PROGRAMS)
def test_a_fused_model_is_valid_and_survives_as_text(model):
    result = verify_artifact(fuse_backend_subgraphs(model))

    assert parse_model(print_model(result)) == result
    assert fuse_backend_subgraphs(result) == result


@settings(deadline=None)
@given(PROGRAMS)
def test_ops_of_other_kinds_keep_their_order(model):
    def others(one):
        return [list(n.output) for n in one.functions[0].node if n.domain not in ("", keys.FUSED)]

    assert others(fuse_backend_subgraphs(model)) == others(model)


@settings(deadline=None)
@given(PROGRAMS, st.lists(st.integers(0, 9), min_size=60, max_size=60))
def test_no_value_comes_later(model, delays):
    """Tensor ops take no time, others take some; an op starts when it has all that it reads.

    What an envelope brings takes none either: no op of its region starts before it.
    """
    numbers = {node.output[0]: at for at, node in enumerate(model.functions[0].node)}
    quick = ("", keys.FUSED)

    def times(one):
        ready = {"x": 0}
        for node in onnx_tools.targets(one)[0].node:
            reads = [*filter(None, node.input), *onnx_tools.meta_list(node, keys.AFTER)]
            start = max((ready[name] for name in reads), default=0)
            if node.domain not in quick and node.op_type != "Receive":
                start += delays[numbers[node.output[0]]]
            ready.update(dict.fromkeys(node.output, start))
        return ready

    before, after = times(model), times(fuse_backend_subgraphs(model))
    assert all(after[name] == before[name] for name in after)


@settings(deadline=None)
@given(PROGRAMS)
def test_calls_hold_tensor_ops_of_one_slot_and_region_alone(model):
    places = {
        node.output[0]: tuple(onnx_tools.get_meta(node, k) for k in (keys.SLOT, keys.REGION))
        for node in model.functions[0].node
    }
    result = fuse_backend_subgraphs(model)
    fused = {f.name: f for f in result.functions if f.domain == keys.FUSED}
    for node in result.functions[0].node:
        if node.domain != keys.FUSED:
            continue
        assert len(fused[node.op_type].node) > 1
        inner = [n for n in fused[node.op_type].node if n.op_type != "Constant"]
        call = tuple(onnx_tools.get_meta(node, k) for k in (keys.SLOT, keys.REGION))
        assert {places[n.output[0]] for n in inner} <= {call}
        assert {n.op_type for n in inner} <= {"Add", "Neg"}


def two_ops():
    recorder = Recorder()
    recorder.add("", "Neg", ["x"], "main", slot="backend")
    recorder.outputs.append(recorder.add("", "Abs", ["neg.0"], "main", slot="backend"))
    return recorder


def test_a_line_that_moves_renames_nothing():
    first, second = two_ops().model(), two_ops().model()
    for node in second.functions[0].node:
        onnx_tools.set_meta(node, keys.SOURCE, "elsewhere.py:7")

    first, second = fuse_backend_subgraphs(first), fuse_backend_subgraphs(second)

    assert [f.name for f in first.functions] == [f.name for f in second.functions]
    assert first != second


def test_an_op_with_a_graph_of_its_own_stays():
    recorder = two_ops()
    branch = helper.make_graph([], "branch", [], [])
    recorder.add("", "If", ["abs.1"], "main", slot="backend", then_branch=branch)
    recorder.outputs.append(recorder.add("", "Neg", ["if.2"], "main", slot="backend"))

    nodes = fuse_backend_subgraphs(recorder.model()).functions[0].node

    assert [node.op_type.partition("#")[0] for node in nodes] == ["fused", "If", "Neg"]


@pytest.mark.parametrize(("training", "left"), [("", ["fused"]), ("abs.1", ["fused", "Dropout"])])
def test_a_dropout_that_may_draw_stays(training, left):
    recorder = two_ops()
    recorder.add("", "Dropout", ["abs.1", "", training], "main", slot="backend")

    nodes = fuse_backend_subgraphs(recorder.model()).functions[0].node

    assert [node.op_type.partition("#")[0] for node in nodes] == left


def test_a_constant_that_others_read_too_stays_outside():
    recorder = Recorder()
    recorder.add("", "Constant", [], "main", slot="backend", value_float=2.0)
    recorder.add("", "Add", ["x", "constant.0"], "main", slot="backend")
    recorder.add("", "Neg", ["add.1"], "main", slot="backend")
    recorder.outputs.append(recorder.add("", "Identity", ["constant.0"], "main", slot="other"))

    target, call = fuse_backend_subgraphs(recorder.model()).functions

    assert [n.op_type.partition("#")[0] for n in target.node] == ["Constant", "fused", "Identity"]
    assert list(call.input) == ["x", "constant.0"]


def test_a_call_of_a_function_that_is_not_there_is_refused():
    model = fuse_backend_subgraphs(two_ops().model())
    del model.functions[1]

    with pytest.raises(ArtifactInvalid, match="there is no function fused#"):
        verify_artifact(model)


def test_a_call_with_other_ports_is_refused():
    model = fuse_backend_subgraphs(two_ops().model())
    model.functions[1].input.append("more")

    with pytest.raises(ArtifactInvalid, match="is called with other ports"):
        verify_artifact(model)
