"""Modules in Modules: slots, scopes, functions, bootstraps."""

import json

import pytest

from bb_dsl import Module, slots
from bb_dsl.errors import BadOption
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model
from bb_ir.types import tensor


class Trainer(Module):
    model = slots.Model()
    data = slots.DataSource()

    def body(self, g):
        loaded = self.model.load_params(g, g.input("start", "params"))
        self.model.fit(g, self.data.batches(g, after=loaded))
        g.output("end", self.model.params(g))


def program(body, init=None, **attributes):
    def make(self):
        Module.__init__(self)
        if init:
            init(self)

    return type("Program", (Module,), {"body": body, "__init__": make, **attributes})()


def slots_of(model):
    return json.loads(onnx_tools.get_meta(model, keys.SLOTS))


def used(model):
    """Return the slots that each function uses."""
    return [
        sorted({onnx_tools.get_meta(n, keys.SLOT) for n in f.node} - {""}) for f in model.functions
    ]


def calls(model):
    return [
        (node.op_type.partition("#")[0], onnx_tools.get_meta(node, keys.SCOPE))
        for function in model.functions
        for node in function.node
        if node.domain == keys.MODULE
    ]


def train_twice(self, g):
    once = self.first(g, start=g.input("given", "params"))
    twice = self.second(g, start=once["end"])
    g.output("trained", twice["end"])


def test_slots_of_a_part_are_named_after_its_attribute():
    def init(self):
        self.first = self.second = Trainer()

    model = program(train_twice, init).build()

    assert slots_of(model) == {
        "first.data": {"role": "data_source"},
        "first.model": {"role": "model"},
    }
    assert used(model) == [[], ["first.data", "first.model"]]
    assert calls(model) == [("Trainer", "first"), ("Trainer", "first~2")]
    assert parse_model(print_model(model)) == model


def test_two_instances_have_slots_of_their_own():
    def init(self):
        self.first, self.second = Trainer(), Trainer()

    model = program(train_twice, init).build()

    assert used(model)[1:] == [["first.data", "first.model"], ["second.data", "second.model"]]


def test_slot_that_is_handed_in_keeps_its_name():
    def init(self):
        self.first = Trainer(model=self.model)
        self.second = Trainer(model=self.first.model, data=self.first.data)

    model = program(train_twice, init, model=slots.Model()).build()

    assert used(model)[1:] == [["first.data", "model"]], "equal bodies are one function"
    assert set(slots_of(model)) == {"first.data", "model"}


def test_slot_of_a_part_that_is_recorded_later_has_the_same_name():
    def init(self):
        self.second = Trainer()
        self.first = Trainer(model=self.second.model)

    model = program(train_twice, init).build()

    assert used(model)[1:] == [["first.data", "second.model"], ["second.data", "second.model"]]


def test_slot_of_a_shared_part_is_named_by_the_shortest_way():
    class Holder(Module):
        def __init__(self, part):
            super().__init__()
            self.inner = part

        def body(self, g):
            g.output("end", self.inner(g, start=g.input("start", "params"))["end"])

    def init(self):
        part = Trainer()
        self.first = Holder(part)
        self.second = part

    model = program(train_twice, init).build()

    assert set(slots_of(model)) == {"second.data", "second.model"}


def test_slots_that_no_op_uses_may_be_bound():
    model = program(
        lambda self, g: self.model.params(g), model=slots.Model(), test=slots.Codec()
    ).build()

    assert slots_of(model)["test"] == {"role": "codec"}


def test_functions_of_parts_are_named_after_their_content():
    def init(self):
        self.first, self.second = Trainer(), Trainer()

    first, second = (program(train_twice, init).build() for _ in range(2))

    names = [function.name for function in first.functions]
    assert names == [function.name for function in second.functions]
    assert [name.partition("#")[0] for name in names] == ["Program", "Trainer", "Trainer"]
    assert all(len(name.partition("#")[2]) == 16 for name in names[1:])


def test_functions_that_placement_will_tell_apart_stay_apart():
    class Placed(Module):
        model = slots.Model()

        def __init__(self, place, **handed):
            super().__init__(**handed)
            self.place = place

        def body(self, g):
            with g.at(self.place):
                g.output("params", self.model.params(g))

    def init(self):
        self.first = Placed("client", model=self.model)
        self.second = Placed("server", model=self.model)

    def body(self, g):
        self.first(g)
        self.second(g)

    model = program(body, init, model=slots.Model()).build()

    places = [onnx_tools.get_meta(f.node[0], keys.AT) for f in model.functions[1:]]
    assert places == ["class:client", "class:server"]
    assert len({function.name for function in model.functions}) == 3


def test_edges_of_parts_may_have_one_name():
    class Asks(Module):
        def body(self, g):
            g.net_out("ask", g.peers("whom", of="client"))

    def init(self):
        self.first, self.second = Asks(), Asks()

    def body(self, g):
        whom = g.peers("whom", of="client")
        g.net_out("ask", whom)
        self.first(g, whom=whom)
        self.second(g, whom=whom)
        self.second(g, whom=whom)

    model = program(body, init).build()

    assert calls(model) == [("Asks", "first"), ("Asks", "second"), ("Asks", "second~2")]


def test_tensor_maths_uses_the_backend_of_an_outer_module():
    class Scale(Module):
        def body(self, g):
            g.output("scaled", g.input("x") * 2)

    def init(self):
        self.part = Scale()

    def body(self, g):
        g.output("y", self.part(g, x=g.input("x", tensor("float32")))["scaled"])

    model = program(body, init, backend=slots.Backend()).build()

    assert used(model) == [[], ["backend"]]
    assert model.functions[1].value_info[0].type.tensor_type.elem_type == 1, (
        "the given type is known"
    )


def test_bootstrap_is_a_function_with_slots_and_edges_of_the_same_module():
    def body(self, g):
        self.part(g, start=self.model.params(g))

    def bootstrap(self, g):
        self.part(g, start=self.model.params(g))

    def init(self):
        self.part = Trainer(model=self.model)

    model = program(body, init, model=slots.Model(), bootstrap=bootstrap).build()

    assert [onnx_tools.get_meta(f, keys.PHASE) for f in model.functions] == [
        "body", "bootstrap", "body",
    ]  # fmt: skip
    assert model.functions[1].name == "Program.bootstrap"
    assert calls(model) == [("Trainer", "part"), ("Trainer", "part~2")]


def nothing(self, g):
    pass


def test_empty_bootstrap_leaves_no_function():
    model = program(
        lambda self, g: self.model.params(g), model=slots.Model(), bootstrap=nothing
    ).build()

    assert len(model.functions) == 1


def test_own_class_is_the_module_or_what_it_says():
    body = {"body": lambda self, g: self.model.params(g), "model": slots.Model()}
    named = type("Program", (Module,), {"peer_class": "server", **body})().build()
    plain = type("Program", (Module,), body)().build()

    assert onnx_tools.get_meta(named.functions[0], keys.OWN_CLASS) == "server"
    assert onnx_tools.get_meta(plain.functions[0], keys.OWN_CLASS) == "Program"


def test_module_needs_no_constructor():
    class Careless(Module):
        model = slots.Model()

        def __init__(self):
            self.epochs = 3

        def body(self, g):
            self.model.params(g)

    assert used(Careless().build()) == [["model"]]


def test_slots_are_inherited_and_may_be_replaced():
    class Small(Trainer):
        data = slots.Index()
        extra = slots.Codec()

    assert Small.slot_names() == ["model", "data", "extra"]
    assert [handle.role for handle in Small().slots_of()] == ["model", "index", "codec"]
    assert [handle.name for handle in Small().slots_of("index")] == ["data"]
    assert repr(Small().model) == "<model slot 'model' of Small>"
    assert isinstance(Small.model, slots.Model)


def test_slot_of_another_role_is_not_taken():
    with pytest.raises(BadOption, match="cannot be slot 'data' of Trainer") as caught:
        Trainer(data=Trainer().model)

    assert "a data_source slot" in caught.value.expected
    assert "test_modules.py" in str(caught.value)


def test_component_is_not_taken_as_a_slot():
    with pytest.raises(BadOption) as caught:
        Trainer(data="digits")

    assert "components are bound when the program is compiled" in str(caught.value)


def test_unknown_slot_is_not_taken():
    with pytest.raises(BadOption, match="Trainer has no slot 'modle'") as caught:
        Trainer(modle=Trainer().model)

    assert "did you mean 'model'?" in str(caught.value)


def test_body_must_be_defined():
    with pytest.raises(NotImplementedError, match="does not define body"):
        type("Empty", (Module,), {})().build()
