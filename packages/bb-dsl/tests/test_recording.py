"""What a Graph writes down: ops, names, types, lines."""

import inspect

import numpy as np
import pytest

from bb_dsl import Gathered, Module, Output, slots
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model
from bb_ir.types import ANY, TRIGGER, list_of, parse_type, peers, record, scalar, tensor


def recorded(body, **attributes):
    """Record a Module with the given body and class attributes; return its first function."""
    return build(body, **attributes).functions[0]


def build(body, **attributes):
    model = type("Program", (Module,), {"body": body, **attributes})().build()
    assert parse_model(print_model(model)) == model
    return model


def ops(function):
    return [node.op_type for node in function.node]


def test_slots_methods_record_ops_of_their_roles():
    def body(self, g):
        batch, labels = self.data.next_batch(g)
        loss = self.model.compute_loss(g, self.model.forward(g, batch), labels)
        self.data.reset(g, after=loss)
        ids = self.index.add(g, batch)
        found, _ = self.index.search(g, batch, 3)
        self.index.remove(g, found, after=[ids, loss])
        self.index.train(g, batch)
        self.model.apply_delta(g, self.codec.decode(g, self.codec.encode(g, g.input("delta"))))
        self.codec.train(g, g.input("samples", list_of(ANY)))

    function = recorded(
        body, data=slots.DataSource(), model=slots.Model(), index=slots.Index(), codec=slots.Codec()
    )

    assert ops(function) == [
        "NextBatch", "Forward", "ComputeLoss", "Reset", "Add", "Search", "Remove", "Train",
        "Encode", "Decode", "ApplyDelta", "Train",
    ]  # fmt: skip
    search = function.node[5]
    assert search.domain == "ai.bytesandbrains.role.index"
    assert onnx_tools.attributes(search) == {"k": 3}
    assert onnx_tools.get_meta(search, keys.SLOT) == "index"
    assert onnx_tools.meta_list(function.node[6], keys.AFTER) == ["ids.5", "loss.3"]


def test_update_without_metrics_counts_as_one_example():
    def body(self, g):
        theirs = g.net_out("push", self.peers.sample(g, 1), self.model.params(g))
        self.aggregator.contribute(g, theirs)

    function = recorded(
        body, model=slots.Model(), peers=slots.PeerSelector(), aggregator=slots.Aggregator()
    )

    one, record_op, contribute = function.node[-3:]
    assert ops(function)[-3:] == ["Scalar", "Record", "Contribute"]
    assert onnx_tools.get_meta(one, keys.AT) == f"value:{contribute.input[0]}"
    assert contribute.input[1] == record_op.output[0]
    assert onnx_tools.types_of(function)[contribute.input[1]] == record(
        {"examples": scalar("int64")}
    )


def test_every_op_knows_its_line():
    def body(self, g):
        self.model.params(g)
        g.output("x", g.input("x1"))

    function = recorded(body, model=slots.Model())

    first = inspect.getsourcelines(body)[1]
    places = [onnx_tools.source_of(node) for node in function.node]
    assert [place.line for place in places] == [first + 1, first + 2]
    assert {place.file for place in places} == {"packages/bb-dsl/tests/test_recording.py"}


def test_lines_of_files_outside_of_all_roots_are_named_shortly_and_can_be_quoted(tmp_path):
    source = "def body(self, g):\n    g.output('x', 3)  # not recorded\n"
    path = tmp_path / "a_program.py"
    path.write_text(source)
    space = {}
    exec(compile(source, str(path), "exec"), space)  # noqa: S102  # a file of ours

    with pytest.raises(Exception, match="not a recorded value") as caught:
        recorded(space["body"])

    assert str(caught.value.where[0]) == "a_program.py:2"
    assert "|  g.output('x', 3)  # not recorded" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_names_of_values_stay_clear_of_the_names_of_ports():
    def body(self, g):
        first, _ = self.data.next_batch(g)
        g.output("batch_0", first)
        g.output("batch", self.data.next_batch(g)[0])

    function = recorded(body, data=slots.DataSource())

    names = [name for node in function.node for name in node.output]
    assert len(set(names)) == len(names)
    assert list(function.output) == ["batch_0", "batch"]


def test_names_of_fields_may_be_anything():
    def body(self, g):
        g.output("x", g.field(g.input("metrics", "record"), "loss/train, mean", "float64"))

    function = recorded(body)

    assert function.node[0].output[0] == "loss_train_mean.1"
    assert onnx_tools.attributes(function.node[0]) == {"name": "loss/train, mean"}


# Inputs, outputs, edges


def test_inputs_carry_their_types():
    def body(self, g):
        x = g.input("x", tensor("float32", (None, 64)))
        y = g.input("y", "record(loss:float64)")
        whom = g.peers("whom", of="client")
        mine = g.peers("mine", of="@self")
        assert isinstance(x, Output)
        assert (x.type, y["loss"].type) == (tensor("float32", (None, 64)), scalar("float64"))
        assert (whom.type, mine.type) == (peers("client"), peers("Program"))
        assert g.input("z").type == ANY

    function = recorded(body)

    assert list(function.input) == ["x", "y", "whom", "mine", "z"]


def test_net_out_gives_what_arrives():
    def body(self, g):
        cohort = self.peers.sample(g, 3)
        params = self.model.params(g)
        nothing = g.net_out("nothing", cohort)
        one = g.net_out("one", cohort, params)
        two = g.net_out("two", cohort, params, nothing, deadline="1.5s")
        assert nothing.type == TRIGGER
        assert one.type == params.type
        assert [value.type for value in two] == [params.type, TRIGGER]

    function = recorded(body, peers=slots.PeerSelector(of="client"), model=slots.Model())

    sends = [node for node in function.node if node.op_type == keys.SEND]
    assert [onnx_tools.get_meta(node, keys.EDGE) for node in sends] == ["nothing", "one", "two"]
    assert [len(node.output) for node in sends] == [1, 1, 2]
    assert onnx_tools.attributes(sends[2]) == {"deadline_ns": 1_500_000_000}


def test_gather_counts_and_collects():
    def body(self, g):
        sent = g.net_out("ask", g.peers("whom", of="client"))
        reply = g.net_out("reply", g.sender(sent), self.model.params(g))
        done = g.gather(reply, quorum=0.8, deadline="30s", values=True)
        assert isinstance(done, Gathered)
        assert done.count is done
        assert (done.type, done.values.type) == (scalar("int64"), list_of(reply.type))
        again = g.gather(reply, quorum=np.int64(3), wait="all", on_short="continue", on_late="run")
        g.output("count", again.count)
        g.output("missing", again.missing)
        g.output("senders", again.senders)

    function = recorded(body, model=slots.Model())

    first, second = [onnx_tools.attributes(n) for n in function.node if n.op_type == keys.GATHER]
    assert (first["quorum"], first["deadline_ns"], first["values"]) == ("4/5", 30 * 10**9, 1)
    assert (second["quorum"], second["wait"], second["on_late"]) == ("#3", "all", "run")


def test_gather_may_measure_its_deadline():
    def body(self, g):
        sent = g.net_out("ask", g.peers("whom", of="client"))
        reply = g.net_out("reply", g.sender(sent), self.model.params(g))
        g.gather(reply, deadline="auto")
        g.gather(reply, deadline="auto, at most 1.5s")

    function = recorded(body, model=slots.Model())

    found = [onnx_tools.attributes(n) for n in function.node if n.op_type == keys.GATHER]
    assert [(one["auto"], one.get("deadline_ns")) for one in found] == [(1, None), (1, 15 * 10**8)]


def test_blocks_are_written_down():
    def body(self, g):
        x = g.input("x", "params")
        with g.at("client"):
            self.model.params(g)
            with g.at(x):
                self.model.params(g)
        self.model.params(g)

    function = recorded(body, model=slots.Model())

    assert [onnx_tools.get_meta(n, keys.AT) for n in function.node] == [
        "class:client", "value:x", "",
    ]  # fmt: skip


def test_records_have_the_fields_they_are_made_of():
    def body(self, g):
        made = g.record(examples=g.input("n", "int64"), loss=g.input("loss", "float64"))
        assert made.type == parse_type("record(examples:int64,loss:float64)")
        assert made["loss"].type == scalar("float64")
        assert g.input("any", record())["whatever"].type == ANY

    recorded(body)


# Tensor maths


def test_operators_record_onnx_ops():
    def body(self, g):
        a, b, c, d = (g.input(name, tensor("float64", (2, 2))) for name in "abcd")
        y = a + b * 2 - c @ d
        g.output("y", -(((1 - y) / 3 + 2**y) ** 0.5))

    model = build(body, backend=slots.Backend())
    function = model.functions[0]

    names = [name for name in ops(function) if name not in ("Constant", keys.OUTPUT)]
    assert names == ["Mul", "Add", "MatMul", "Sub", "Sub", "Div", "Pow", "Add", "Pow", "Neg"]
    assert {n.domain for n in function.node if n.op_type != keys.OUTPUT} == {""}
    constants = [
        onnx_tools.attributes(n)["value"] for n in function.node if n.op_type == "Constant"
    ]
    assert [float(value) for value in constants] == [2.0, 1.0, 3.0, 2.0, 0.5]
    assert {value.dtype.name for value in constants} == {"float64"}


def test_arrays_on_the_left_of_an_operator():
    def body(self, g):
        x = g.input("x", tensor("float32", (3,)))
        g.output("y", np.array([1.0, 2.0, 3.0], np.float32) + x)
        g.output("z", np.eye(3, dtype=np.float32) @ x)

    function = recorded(body, backend=slots.Backend())

    assert ops(function) == ["Constant", "Add", keys.OUTPUT, "Constant", "MatMul", keys.OUTPUT]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (1.5, "", "float32"),
        (3, "", "int64"),
        (True, "", "bool"),
        ([[1.0, 2.0]], "", "float32"),
        (np.float64(2), "", "float64"),
        (np.ones(2), "", "float64"),
        ([1, 2], "int32", "int32"),
        (2, "float16", "float16"),
        ("text", "", "string"),
        (["a", "b"], "", "string"),
    ],
)
def test_constants_have_the_element_type_that_numbers_have_on_the_wire(value, dtype, expected):
    def body(self, g):
        made = g.constant(value, dtype)
        assert made.type == tensor(expected, np.shape(value))

    function = recorded(body, backend=slots.Backend())

    stored = onnx_tools.attributes(function.node[0])["value"]
    assert stored.shape == np.shape(value)


def test_numbers_take_the_element_type_of_the_other_operand():
    def body(self, g):
        labels = g.input("labels", tensor("int64", (None,)))
        g.output("y", (labels - 1) * 2)
        g.output("z", g.input("x", tensor()) * 2)

    function = recorded(body, backend=slots.Backend())

    constants = [
        onnx_tools.attributes(n)["value"] for n in function.node if n.op_type == "Constant"
    ]
    assert [value.dtype.name for value in constants] == ["int64", "int64", "float32"]


def test_backend_methods_record_their_ops():
    def body(self, g):
        b = self.backend
        x = g.input("x", tensor("float32", (2, 3)))
        made = [
            b.add(g, x, x), b.sub(g, x, x), b.mul(g, x, x), b.div(g, x, x),
            b.matmul(g, x, b.transpose(g, x)), b.transpose(g, x, (1, 0)),
            b.gemm(g, x, x, transB=1), b.gemm(g, x, x, x, alpha=0.5, transB=1),
            b.relu(g, x), b.sigmoid(g, x), b.tanh(g, x), b.softmax(g, x), b.reshape(g, x, (3, -1)),
            b.concat(g, [x, x], 1), b.reduce_sum(g, x), b.reduce_mean(g, x, (0,), keepdims=False),
            b.op(g, "Clip", x, None, x),
        ]  # fmt: skip
        assert all(isinstance(value, Output) for value in made)
        assert len(b.op(g, "TopK", x, g.constant([1]), outputs=2, axis=0)) == 2

    function = recorded(body, backend=slots.Backend())

    clip = next(node for node in function.node if node.op_type == "Clip")
    assert list(clip.input) == ["x", "", "x"]


def test_opsets_of_a_function_are_those_of_its_ops():
    def body(self, g):
        g.output("y", g.input("x", tensor("float32")) * 2)

    model = build(body, backend=slots.Backend())

    assert {o.domain: o.version for o in model.functions[0].opset_import} == {
        "": 23, keys.MODULE: 1, keys.SYSCALL: 1,
    }  # fmt: skip
    assert model.ir_version == 11


def test_recording_twice_gives_the_same_bytes():
    def body(self, g):
        g.output("y", g.input("x", tensor("float32")) * 2)

    module = type("Program", (Module,), {"body": body, "backend": slots.Backend()})()

    assert module.build() == module.build()
