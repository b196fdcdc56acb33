"""Framework ops in the compiler: where they stand, their types, and what they are refused for."""

import json

import pytest
from onnx import helper

from bb_compiler import CompileError, errors
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.framework_ops import FRAMEWORK_OPS, framework_op, result_of
from bb_ir.text import parse_model, print_model
from bb_ir.types import ANY, list_of, peers, record, scalar, senders, tensor

SECOND = 10**9


class Program(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    backend = slots.Backend()

    def __init__(self, body):
        super().__init__()
        self.record = body

    def body(self, g):
        self.record(self, g)


class Asker(Module):
    peers = slots.PeerSelector(of="@self")

    def body(self, g):
        got = g.net_out("ask", self.peers.current_view(g), g.me())
        g.output("asked", g.net_out("reply", g.sender(got), g.me()))


@pytest.fixture
def compiled(bind_all):
    def compile_(body, module=None):
        model = (module or Program(body)).build()
        artifact = bind_all(model).compile(model)
        assert parse_model(print_model(artifact)) == artifact
        return artifact

    return compile_


def types(artifact, op):
    """Return the types of what the ops of a name give."""
    return [
        onnx_tools.types_of(function)[node.output[0]]
        for function in onnx_tools.targets(artifact)
        for node in function.node
        if node.op_type == op
    ]


def deadlines(artifact):
    return {
        region["name"]: region["deadline_ns"] // SECOND
        for function in onnx_tools.targets(artifact)
        for region in json.loads(onnx_tools.get_meta(function, keys.REGIONS))
    }


def test_sleeps_count_towards_the_deadline_of_their_frame_only(compiled):
    def body(self, g):
        got = g.net_out("ask", self.peers.current_view(g))
        back = g.net_out("answer", g.sender(got), g.sleep("5m", self.model.params(g)))
        done = g.gather(back)
        first = g.sleep("10s", after=done)
        g.output("end", g.now(after=g.sleep("15s", after=first)))

    # The gather waits as long as those who answer may take; the frame twice that, and its sleeps.
    assert deadlines(compiled(body)) == {"main": 1250, "ask": 600, "answer": 60}


def test_a_short_sleep_changes_no_deadline(compiled):
    def body(self, g):
        g.output("end", g.now(after=g.sleep("5s")))

    assert deadlines(compiled(body)) == {"main": 60}


def test_me_is_of_the_class_where_it_stands(compiled):
    def body(self, g):
        got = g.net_out("ask", self.peers.current_view(g), g.me())
        back = g.net_out("answer", g.sender(got), g.me())
        g.output("who", g.gather(back, values=True).values)
        with g.at("client"):
            g.output("own", g.me())

    found = types(compiled(body), keys.ME)
    assert sorted(map(str, found)) == ["peers(client)", "peers(client)", "peers(server)"]


def test_me_in_a_module_of_one_class(compiled):
    assert types(compiled(None, Asker()), keys.ME) == [peers("Asker")] * 2


def test_types_that_become_known_later_are_checked_on_the_line_that_uses_them(compiled):
    def body(self, g):
        x = g.input("x", "tensor(float32)[1]")
        flags = self.backend.op(g, "Cast", x, to=9)
        g.metric("fine", g.gate(x, after=flags))
        g.metric("flags", flags)

    with pytest.raises(errors.TypeMismatch) as caught:
        compiled(body)
    assert "Metric is given 'cast'" in caught.value.found
    assert "tensor(bool)[1]" in caught.value.found
    assert caught.value.expected == "a number, or a tensor of one"


def test_what_sleeps_and_what_is_gated_keeps_its_type_and_its_trail(compiled):
    def body(self, g):
        inputs, _ = self.data.next_batch(g)
        slept = g.gate(g.sleep("1s", inputs), after=inputs)
        g.output("loss", self.model.fit(g, slept))

    with pytest.raises(errors.TypeMismatch) as caught:
        compiled(body)
    assert "made by NextBatch of slot 'data'" in caught.value.found


def test_gathered_records_keep_the_types_of_their_fields(compiled):
    def body(self, g):
        got = g.net_out("ask", self.peers.current_view(g))
        row = g.record(n=g.random.integers(9), x=g.random.normal())
        done = g.gather(g.net_out("answer", g.sender(got), row), values=True)
        g.output("mean", g.mean(done.values, "x", weight="n"))
        g.output("first", done.values[0]["n"])

    artifact = compiled(body)
    assert types(artifact, "Reduce") == [scalar("float64")]
    assert types(artifact, "Field") == [scalar("int64")]


def test_return_addresses_stay_what_they_are_behind_a_sleep(compiled):
    def body(self, g):
        got = g.net_out("ask", self.peers.current_view(g))
        later = g.sleep("1s", g.sender(got))
        done = g.gather(g.net_out("answer", g.gate(later, after=got), self.model.params(g)))
        g.output("count", done.count)

    artifact = compiled(body)
    edges = json.loads(onnx_tools.get_meta(artifact, keys.EDGES))
    assert sorted((edge["name"], edge["parent"], edge["answers"]) for edge in edges) == [
        ("answer", "main", "ask"), ("ask", "", ""),
    ]  # fmt: skip


def test_a_sleep_that_delays_nothing_is_refused(compiled):
    def body(self, g):
        g.sleep("5s", after=self.model.params(g))
        g.output("w", self.model.params(g))

    with pytest.raises(errors.NothingWaits) as caught:
        compiled(body)
    assert "nothing takes its trigger" in caught.value.found


def test_a_sleep_at_the_end_of_a_part_is_taken_by_its_caller(compiled):
    class Part(Module):
        def body(self, g):
            g.output("later", g.sleep("1s", g.input("x", "int64")))

    class Whole(Module):
        def __init__(self):
            super().__init__()
            self.part = Part()

        def body(self, g):
            g.output("y", self.part(g, x=g.input("x", "int64"))["later"])

    assert types(compiled(None, Whole()), keys.SLEEP) == [scalar("int64")]


def malformed(op, inputs=(), outputs=("y",), **attributes):
    model = Program(lambda m, g: g.output("w", m.model.params(g))).build()
    node = helper.make_node(op, list(inputs), list(outputs), domain=keys.SYSCALL, **attributes)
    model.functions[0].node.insert(1, node)
    return model


@pytest.mark.parametrize(
    ("op", "facts", "text"),
    [
        ("Sleeep", {}, "has no op 'Sleeep'"),
        (keys.SLEEP, {}, "Sleep without duration_ns"),
        (keys.METRIC, {"name": "x", "kind": "gauge"}, "Metric with 0 inputs"),
        (keys.RANDOM, {"how": "normal"}, "Random without parameters"),
        ("Reduce", {"outputs": (), "inputs": ("w",), "how": "sum"}, "Reduce reads 'w' before"),
        (keys.NOW, {"outputs": ()}, "Now without a result"),
    ],
)
def test_what_no_recorder_writes_is_refused(bind_all, op, facts, text):
    model = malformed(op, **facts)
    with pytest.raises(CompileError) as caught:
        bind_all(model).compile(model)
    assert text in str(caught.value)


def test_the_table_has_what_the_recorder_writes_and_the_rules_know_it():
    assert framework_op(keys.SYSCALL, "Sleep") is FRAMEWORK_OPS[keys.SYSCALL, "Sleep"]
    assert framework_op(keys.SYSCALL, "Nothing") is None
    assert result_of("Gather", [ANY], {}) is None
    assert {keys.SEND, keys.SENDER} == {n for d, n in FRAMEWORK_OPS if d == keys.WIRE}
    for op in FRAMEWORK_OPS.values():
        assert op.helper
        assert op.takes or op.inputs[0] == 0
        assert all(name.isidentifier() for name in op.required)


@pytest.mark.parametrize(
    ("op", "given", "attributes", "expected"),
    [
        ("Length", [senders()], {}, scalar("int64")),
        ("Item", [ANY, ANY], {}, ANY),
        ("Item", [list_of(record()), scalar("int64")], {}, record()),
        ("Concat", [ANY, peers("a")], {}, ANY),
        ("Concat", [peers("a"), peers()], {}, peers()),
        ("Concat", [list_of(tensor("float32", (3,))), list_of(tensor("float32", (None,)))], {},
         list_of(tensor("float32", (None,)))),
        ("Concat", [list_of(tensor("float32", (3, None))), list_of(tensor("float32", (None, 3)))],
         {}, list_of(ANY)),
        ("Without", [ANY, senders()], {}, peers()),
        ("Reduce", [list_of(ANY)], {"field": "x"}, scalar("float64")),
        ("Reduce", [list_of(record())], {"field": "x"}, scalar("float64")),
    ],
)  # fmt: skip
def test_rules(op, given, attributes, expected):
    assert result_of(op, given, attributes) == expected
