"""What people write who forget that a body records: each gets an error of ours, with their line.

The line that an error must name is the one marked `# (!)`.
"""

import copy
import inspect

import numpy as np
import pytest

from bb_dsl import BuildError, Module, slots
from bb_dsl.errors import (
    BadOption,
    NotAnOutput,
    NotEntered,
    NoValueYet,
    UnknownAttribute,
)


class Program(Module):
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    backend = slots.Backend()
    peer_class = "server"

    def __init__(self, body):
        super().__init__()
        self.record = body

    def body(self, g):
        self.record(self, g)


def refused(body, kind, *texts):
    with pytest.raises(kind) as caught:
        Program(body).build()
    error = caught.value
    source, first = inspect.getsourcelines(body)
    marked = [first + at for at, line in enumerate(source) if "# (!)" in line]
    assert isinstance(error, BuildError)
    assert [place.line for place in error.where][: len(marked)] == marked, str(error)
    assert all(text in str(error) for text in texts), str(error)
    return error


# A recorded value that is taken for one of Python's


def whole_number(self, g):
    with g.loop(3) as turn:
        int(turn)  # (!)


def place_in_a_list(self, g):
    [1, 2, 3][g.input("x", "int64")]  # (!)


def length(self, g):
    len(g.input("x", "list(int64)"))  # (!)


def text(self, g):
    g.output(f"loss of {g.input('x', 'float64')}", g.me())  # (!)


def membership(self, g):
    if "loss" in g.input("x", "record"):  # (!)
        g.output("y", g.me())


def array(self, g):
    np.asarray(g.input("x", "tensor(float32)"))  # (!)


def constant(self, g):
    g.constant(g.input("x", "tensor(float32)"))  # (!)


def absolute(self, g):
    abs(g.input("x", "tensor(float32)"))  # (!)


def floor(self, g):
    g.input("x", "int64") // 2  # (!)


def loop_over_it(self, g):
    for _ in g.input("x", "list(int64)"):  # (!)
        pass


@pytest.mark.parametrize(
    ("body", "fix"),
    [
        (whole_number, "an argument of the Module"),
        (place_in_a_list, "an argument of the Module"),
        (length, "g.length(value)"),
        (text, "g.output(name, value)"),
        (membership, "value.equals(...)"),
        (array, "hand the value to an op"),
        (constant, "hand the value to an op"),
        (absolute, "self.backend.abs(g, value)"),
        (floor, "`value + 1`"),
        (loop_over_it, "with g.each(value) as item"),
    ],
)
def test_value_is_none_yet(body, fix):
    error = refused(body, NoValueYet, fix)

    assert isinstance(error, TypeError)


# Names that do not exist


def attribute_of_metrics(self, g):
    g.input("metrics", "record").accuracy  # (!)  # noqa: B018


def attribute_of_a_turn(self, g):
    with g.loop(3) as turn:
        turn.untill(g.input("flag", "bool"))  # (!)


def method_of_a_slot(self, g):
    self.model.evalaute(g, g.input("x"))  # (!)


def no_method_like_it(self, g):
    self.model.trian(g)  # (!)


def method_of_a_backend(self, g):
    self.backend.einsum(g, g.input("x"))  # (!)


def method_of_a_graph(self, g):
    g.gater(g.input("x"))  # (!)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (attribute_of_metrics, ("<Output metrics: record> has no", 'metrics["accuracy"]')),
        (attribute_of_a_turn, ("did you mean 'until'?",)),
        (method_of_a_slot, ("<model slot 'model' of Program>", "did you mean 'evaluate'?")),
        (no_method_like_it, ("one of apply_delta, backward, ", "fit, ")),
        (method_of_a_backend, ('self.backend.op(g, "Name", ...)',)),
        (method_of_a_graph, ("the graph has no 'gater'", "did you mean 'gather'?")),
    ],
)
def test_unknown_attribute(body, texts):
    error = refused(body, UnknownAttribute, *texts)

    assert isinstance(error, AttributeError)


def test_field_of_a_known_record_is_suggested():
    def misspelt(self, g):
        g.record(examples=g.scalar(3)).exmples  # (!)  # noqa: B018

    refused(misspelt, UnknownAttribute, "did you mean 'examples', read by [...]?")


def test_what_python_asks_by_itself_is_answered_as_ever():
    def body(self, g):
        value = g.input("x", "int64")
        assert not hasattr(value, "shape")
        assert copy.copy(value).name == "x"
        assert [value].index(value) == 0
        assert repr(value) == f"{value!r}" == "<Output x: int64>"
        g.output("y", value)

    assert Program(body).build().functions


# A block without `with`


def block_in_arithmetic(self, g):
    turn = g.rounds(3)
    turn + 1  # (!)


def block_on_the_right(self, g):
    turn = g.rounds(3)
    1 - turn  # (!)


def block_compared(self, g):
    tick = g.every("5s")
    tick < 3  # (!)  # noqa: B015


def block_asked(self, g):
    turn = g.loop(3)
    turn.until(g.input("x", "bool"))  # (!)


def block_in_a_loop(self, g):
    for _ in g.rounds(3):  # (!)
        pass


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (block_in_arithmetic, "fix: with g.rounds(...) as turn:"),
        (block_on_the_right, "fix: with g.rounds(...) as turn:"),
        (block_compared, "fix: with g.every(...) as turn:"),
        (block_asked, "fix: with g.loop(...) as turn:"),
        (block_in_a_loop, "fix: with g.rounds(...) as turn:"),
    ],
)
def test_forgotten_with(body, line):
    refused(body, NotEntered, line)


def block_to_an_op(self, g):
    g.output("turn", g.rounds(3))  # (!)


def value_and_block(self, g):
    turn = g.rounds(3)
    g.input("x", "int64") + turn  # (!)


def block_as_a_flag(self, g):
    with g.when(g.loop(3)):  # (!)
        pass


@pytest.mark.parametrize(
    ("body", "kind"),
    [(block_to_an_op, NotAnOutput), (value_and_block, BadOption), (block_as_a_flag, NotAnOutput)],
)
def test_block_as_a_value(body, kind):
    refused(body, kind, "with g.", " as turn:")


def test_times_that_are_a_block():
    def body(self, g):
        with g.loop(g.rounds(3)):  # (!)
            pass

    refused(body, BadOption, "times=")


# Names that a Module does not have, and slots that were not made


def misspelt_slot(self, g):
    self.modle.params(g)  # (!)


def test_name_that_a_module_does_not_have_is_told_with_the_one_that_was_meant():
    refused(misspelt_slot, UnknownAttribute, "Program has no 'modle'", "did you mean 'model'?")


def test_attributes_of_a_module_are_asked_for_as_usual():
    module = Program(None)

    assert getattr(module, "cohort", 8) == 8
    assert not hasattr(module, "cohort")
    assert isinstance(copy.copy(module), Program)


def test_error_of_a_property_is_its_own():
    class Wrong(Module):
        @property
        def half(self):
            return None.bit_length()

    with pytest.raises(AttributeError, match="'NoneType' object has no attribute 'bit_length'"):
        _ = Wrong().half


def test_slot_without_parentheses_is_refused_where_its_module_is_written():
    with pytest.raises(BadOption) as caught:

        class Forgets(Module):
            model = slots.Model

    assert caught.value.found == "'model' of Forgets is the class of a slot, and no slot"
    assert caught.value.fix == "write the parentheses after Model"
    assert caught.value.where[0].file.endswith("test_misuse.py")


def test_module_may_hold_a_slot_class_of_its_own():
    class Owns(Module):
        class Trained(slots.Model):
            pass

        model = Trained()

    assert Owns.slot_names() == ["model"]
