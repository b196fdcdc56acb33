"""Fused tensor ops as straight Python: what is called, what is kept, and which op raised."""

import gc
import weakref

import numpy as np
import pytest
from onnx import helper

from bb_ir import keys
from bb_roles import Backend, Environment, FusedGraph
from bb_roles.contracts import NoConfig
from bb_roles.fused import compose, raised_at


def graph_of(inputs, outputs, *steps):
    """Return the graph of ops that are written `name: reads -> makes`."""
    nodes = []
    for step in steps:
        name, _, rest = step.partition(":")
        reads, _, makes = (names.split() for names in rest.partition("->"))
        reads, makes = (["" if n == "_" else n for n in names] for names in (reads, makes))
        nodes.append(helper.make_node(name, reads, makes))
    opsets = [helper.make_opsetid("", keys.OPSET)]
    function = helper.make_function(
        keys.FUSED, "fused#1", inputs.split(), outputs.split(), nodes, opsets
    )
    return FusedGraph.of(function)


class Held:
    """A value that can be watched."""


class Naming(Backend):
    """Its kernels give the name of the op over what they were given."""

    lacks = ""

    def kernel(self, op_type, attributes, outputs):
        if op_type == self.lacks:
            return None

        def run(*given):
            texts = [f"{op_type}({','.join(map(str, given))}){n or ''}" for n in range(outputs)]
            return texts[0] if outputs == 1 else tuple(texts)

        return run


@pytest.fixture
def backend():
    return Naming(NoConfig(), Environment(peer=None, slot="backend"))


def test_a_graph_has_all_that_a_function_says():
    node = helper.make_node("Clip", ["x", "", "top"], ["y"])
    scaled = helper.make_node("Selu", ["y"], ["z"], alpha=0.5)
    function = helper.make_function(
        keys.FUSED, "fused#1", ["x", "top"], ["z"], [node, scaled], [helper.make_opsetid("", 23)]
    )

    graph = FusedGraph.of(function)

    assert (graph.name, graph.inputs, graph.outputs) == ("fused#1", ("x", "top"), ("z",))
    assert [n.op_type for n in graph.nodes] == ["Clip", "Selu"]
    assert graph.nodes[0].inputs == ("x", "", "top")
    assert graph.nodes[1].attributes == {"alpha": 0.5}
    assert graph.function == function


def test_ops_are_given_each_others_values(backend):
    run = backend.compile(graph_of("x y", "c a", "F: x y -> a", "G: a -> b", "H: b _ a -> c"))

    assert run("1", "2") == ("H(G(F(1,2)),None,F(1,2))", "F(1,2)")


def test_one_output_comes_alone_and_none_as_an_empty_tuple(backend):
    assert backend.compile(graph_of("x", "a", "F: x -> a"))("1") == "F(1)"
    assert backend.compile(graph_of("x", "", "F: x -> a"))("1") == ()


def test_an_input_may_be_an_output(backend):
    assert backend.compile(graph_of("x", "a x", "F: x -> a"))("1") == ("F(1)", "1")


def test_several_outputs_of_an_op_and_some_unwanted(backend):
    run = backend.compile(graph_of("x", "e", "S: x -> a _ c d", "F: a d -> e", "G: x -> f"))

    assert run("1") == "F(S(1),S(1)3)"


def test_an_op_that_is_lacking_gives_none(backend):
    backend.lacks = "G"

    assert backend.compile(graph_of("x", "b", "F: x -> a", "G: a -> b")) is None


def test_constants_are_made_once():
    made = []

    def constant():
        made.append(np.ones(2))
        return made[0]

    graph = graph_of("x", "y c", "Constant: -> c", "Add: x c -> a", "Add: a c -> y")
    run = compose(graph, [constant, np.add, np.add])

    assert [run(np.zeros(2))[0].tolist() for _ in range(2)] == [[2.0, 2.0]] * 2
    assert run(np.zeros(2))[1] is made[0]
    assert len(made) == 1


def test_values_are_dropped_after_their_last_reader():
    alive = []

    def kernel(*given):
        gc.collect()
        alive.append([one() is not None for one in watched])
        value = Held()
        watched.append(weakref.ref(value))
        return value

    watched = []
    graph = graph_of("x", "d", "F: x -> a", "F: a -> b", "F: b -> c", "F: x -> unread", "F: c -> d")
    result = compose(graph, [kernel] * 5)("x")

    assert result is watched[-1]()
    assert alive == [
        [], [True], [False, True], [False, False, True], [False, False, True, False],
    ]  # fmt: skip


def test_the_line_says_which_op_raised():
    def fails(*given):
        raise ValueError(given)

    graph = graph_of("x", "c", "Constant: -> k", "F: x k -> a", "F: a -> b", "F: b -> c")
    run = compose(graph, [object, lambda *_: 1, fails, fails])

    with pytest.raises(ValueError, match="1") as caught:
        run(0)
    assert raised_at(caught.tb) == 2


def test_no_op_is_named_where_none_was_fused():
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 // 0

    assert raised_at(caught.tb) is None
    assert raised_at(None) is None


def test_code_is_written_once_per_graph(backend):
    graph = graph_of("x", "a", "F: x -> a")

    first, second = backend.compile(graph), backend.compile(graph)

    assert first.__code__ is second.__code__
    assert first is not second


def test_names_in_a_graph_never_reach_the_code(backend):
    name = "import os\nos.abort()"
    node = helper.make_node("F", [name], ["def"])
    function = helper.make_function(keys.FUSED, name, [name], ["def"], [node], [])

    assert backend.compile(FusedGraph.of(function))("1") == "F(1)"
