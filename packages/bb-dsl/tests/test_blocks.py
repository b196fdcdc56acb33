"""What `every`, `on`, `each`, `loop`, `when` and `rounds` write down, and what they refuse.

The line that an error must name is the one marked `# (!)`.
"""

import inspect

import pytest

from bb_dsl import BuildError, Module, slots
from bb_dsl.errors import (
    BadOption,
    EmptyBlock,
    ForeignValue,
    NotAnOutput,
    NotEntered,
    NoValueYet,
)
from bb_ir import keys, onnx_tools
from bb_ir.ops import BATCHES
from bb_ir.text import parse_model, print_model
from bb_ir.types import ANY, TRIGGER, list_of, local, peers, record, scalar, tensor

SECOND = 10**9


class Part(Module):
    model = slots.Model()

    def body(self, g):
        with g.loop(2) as turn:
            self.model.params(g)
            g.output("turns", turn)


class Program(Module):
    peers = slots.PeerSelector(of="client")
    model = slots.Model()
    data = slots.DataSource()
    backend = slots.Backend()

    def __init__(self, body):
        super().__init__()
        self.record = body
        self.part = Part(model=self.model)

    def body(self, g):
        self.record(self, g)


def recorded(body):
    """Record a body; return its function."""
    model = Program(body).build()
    assert parse_model(print_model(model)) == model
    return model.functions[0]


def stands(function):
    """Return what was recorded, each op with the block around it and the one that it opens."""
    return [
        (n.op_type, onnx_tools.get_meta(n, keys.BLOCK), onnx_tools.get_meta(n, keys.OPENS))
        for n in function.node
    ]


def refused(body, kind, *texts):
    with pytest.raises(BuildError) as caught:
        Program(body).build()
    error = caught.value
    assert type(error) is kind
    for text in texts:
        assert text in str(error), str(error)
    source, first = inspect.getsourcelines(body)
    marked = [first + at for at, line in enumerate(source) if "# (!)" in line]
    assert [place.line for place in error.where] == marked, str(error)
    assert all(place.file.endswith("test_blocks.py") for place in error.where)


# What is recorded


def blocks(self, g):
    """Every block, with its options left alone."""
    with g.rounds(3) as number:
        g.output("a", number)
    with g.loop(3) as turn:
        g.output("b", turn)
    with g.each(g.input("items", "list(int64)")) as item:
        g.output("c", item)
    with g.when(g.input("flag", "bool")) as nothing:
        assert nothing is None
        g.output("d", number)
    with g.every("5s") as tick:
        g.output("e", tick)
    with g.on("news", "int64") as event:
        g.output("f", event)


def test_block_is_an_op_and_a_turn_that_begins_its_region():
    function = recorded(blocks)

    found = stands(function)
    for at, name in enumerate(("rounds", "loop", "each", "when", "every", "on")):
        op, turn, out = found[3 * at : 3 * at + 3]
        assert op == (name.capitalize(), "", f"@{name}")
        assert turn == ("Turn", f"@{name}", f"@{name}")
        assert out == ("Output", f"@{name}", "")


def test_turn_gives_the_number_the_item_or_the_event():
    function = recorded(blocks)

    types = onnx_tools.types_of(function)
    turns = [node for node in function.node if node.op_type == "Turn"]
    given = [[types[name] for name in node.output] for node in turns]
    number = [scalar("int64")]
    assert given == [number, number, number, [TRIGGER], number, number]
    assert types[function.node[0].output[0]] == TRIGGER


def test_options_become_attributes():
    def body(self, g):
        with g.rounds(3, width=2, on_fail="continue") as r:
            g.output("a", r)
        with g.rounds() as r:
            g.output("b", r)
        with g.loop(deadline="5m") as t:
            t.until(t > 3)
        with g.each(self.data.batches(g), deadline="2s") as (x, _):
            g.output("d", x)
        with g.every("5s", jitter="1s", overlap="parallel") as t:
            g.output("e", t)
        with g.on("news", overlap="skip") as event:
            g.output("f", event)

    function = recorded(body)

    assert [
        onnx_tools.attributes(node) for node in function.node if node.op_type.lower() in
        ("rounds", "loop", "each", "every", "on")
    ] == [
        {"times": 3, "width": 2, "on_fail": "continue"},
        {"width": 1, "on_fail": "stop"},
        {"deadline_ns": 300 * SECOND},
        {"deadline_ns": 2 * SECOND, "items": 2},
        {"period_ns": 5 * SECOND, "jitter_ns": SECOND, "overlap": "parallel"},
        {"topic": "news", "overlap": "skip"},
    ]  # fmt: skip


def test_number_of_turns_may_be_a_value():
    def body(self, g):
        with g.loop(g.input("n", "int64")) as turn:
            g.output("a", turn)
        with g.rounds(g.input("k")) as number:
            g.output("b", number)

    function = recorded(body)

    assert list(function.node[0].input) == ["n"]
    assert "times" not in onnx_tools.attributes(function.node[0])
    assert list(function.node[3].input) == ["k"]


@pytest.mark.parametrize(
    ("given", "items"),
    [
        (BATCHES, [tensor(), tensor()]),
        (local("batches", {"inputs": tensor("int8", (3,))}), [tensor("int8", (3,)), tensor()]),
        (list_of(scalar("string")), [scalar("string")]),
        (list_of(ANY), [ANY]),
        (peers("client"), [peers("client")]),
        (tensor("float32", (5, 3)), [tensor("float32", (3,))]),
        (tensor("float32"), [tensor("float32")]),
        (ANY, [ANY]),
    ],
)
def test_items_of_what_each_goes_through(given, items):
    def body(self, g):
        with g.each(g.input("x", given)) as item:
            got = item if isinstance(item, tuple) else (item,)
            assert [one.type for one in got] == items
            g.output("y", got[-1])

    function = recorded(body)

    assert onnx_tools.attributes(function.node[0])["items"] == len(items)
    assert len(function.node[1].output) == len(items)


def test_regions_have_names_of_their_own():
    def body(self, g):
        for at in range(3):
            with g.loop(2) as turn:
                g.output(f"x{at}", turn)
        with g.loop(2, name="epochs") as turn:
            g.output("y", turn)
        g.net_out("loop", self.peers.sample(g, 1))

    function = recorded(body)

    opened = [opens for _, _, opens in stands(function) if opens]
    assert opened == ["@loop", "@loop", "@loop~2", "@loop~2", "@loop~3", "@loop~3",
                      "@epochs", "@epochs"]  # fmt: skip


def test_names_of_regions_are_used_once_in_body_and_bootstrap():
    class Both(Module):
        def body(self, g):
            with g.loop(2) as turn:
                g.output("x", turn)

        def bootstrap(self, g):
            with g.loop(2) as turn:
                g.output("y", turn)

    body, bootstrap = Both().build().functions

    assert stands(body)[0] == ("Loop", "", "@loop")
    assert stands(bootstrap)[0] == ("Loop", "", "@loop~2")


def test_blocks_stand_in_blocks():
    def body(self, g):
        with g.rounds(3) as number:
            with g.when(number > 1):
                g.output("later", number)
            g.output("all", number)
        g.output("once", g.scalar(1))

    function = recorded(body)

    assert stands(function) == [
        ("Rounds", "", "@rounds"),
        ("Turn", "@rounds", "@rounds"),
        ("Scalar", "@rounds", ""),
        ("Calculate", "@rounds", ""),
        ("When", "@rounds", "@when"),
        ("Turn", "@when", "@when"),
        ("Output", "@when", ""),
        ("Output", "@rounds", ""),
        ("Scalar", "", ""),
        ("Output", "", ""),
    ]


def test_part_that_is_called_in_a_block():
    def body(self, g):
        with g.rounds(3):
            self.part(g)

    model = Program(body).build()

    call = model.functions[0].node[-1]
    assert (call.domain, onnx_tools.get_meta(call, keys.BLOCK)) == (keys.MODULE, "@rounds")
    assert stands(model.functions[1])[0] == ("Loop", "", "@loop")


def test_until_takes_the_turn_and_the_flag():
    def body(self, g):
        with g.loop() as turn:
            turn.until(turn >= 5)

    function = recorded(body)

    until = function.node[-1]
    assert (until.op_type, list(until.input)) == ("Until", ["turn.0", "greater_or_equal.3"])
    assert onnx_tools.get_meta(until, keys.BLOCK) == "@loop"


def test_last_and_publish():
    def body(self, g):
        with g.loop(2) as turn:
            assert g.publish("news", turn).type == TRIGGER
        last = g.last(turn, g.scalar(0))
        assert last.type == scalar("int64")
        g.output("x", g.last(turn))

    function = recorded(body)

    publish, one, two = function.node[2], function.node[4], function.node[5]
    assert onnx_tools.attributes(publish) == {"topic": "news"}
    assert [len(node.input) for node in (publish, one, two)] == [1, 2, 1]


def test_block_ends_where_its_with_ends_also_by_an_error():
    def body(self, g):
        with pytest.raises(ZeroDivisionError), g.loop(2):
            g.output("x", g.scalar(1 // 0))
        g.output("y", g.scalar(1))

    with pytest.raises(ZeroDivisionError):
        recorded(lambda _, g: record_and_fail(g))
    assert stands(recorded(body))[-1] == ("Output", "", "")


def record_and_fail(g):
    with g.loop(2):
        raise ZeroDivisionError


# What is refused


def empty(self, g):
    with g.loop(3):  # (!)
        pass


def empty_around_a_block(self, g):
    with g.rounds(3), g.when(g.input("x", "bool")):  # (!)
        pass


@pytest.mark.parametrize("body", [empty, empty_around_a_block])
def test_block_that_holds_nothing(body):
    refused(body, EmptyBlock, "nothing is recorded inside `with g.", "call a slot's method")


def test_block_without_with():
    def body(self, g):
        g.loop(3)  # (!)
        self.model.params(g)

    refused(body, EmptyBlock, "g.loop(...) opens a block", "fix: with g.loop(...):")


def test_block_that_is_entered_later():
    def body(self, g):
        block = g.loop(3)
        self.model.params(g)
        with block as turn:  # (!)
            g.output("x", turn)

    refused(body, BadOption, "an earlier g.loop(...) is entered", "fix: with g.loop(...):")


def test_block_that_is_entered_twice():
    def body(self, g):
        block = g.loop(3)
        with block as turn:
            g.output("x", turn)
        with block as turn:  # (!)
            g.output("y", turn)

    refused(body, BadOption, "entered once, where it is made")


def test_for_and_if_instead_of_with():
    def with_for(self, g):
        for turn in g.loop(3):
            g.output("x", turn)

    def with_if(self, g):
        if g.when(g.input("x", "bool")):
            self.model.params(g)

    with pytest.raises(NotEntered, match=r"with g.loop\(\.\.\.\) as turn:"):
        Program(with_for).build()
    with pytest.raises(NotEntered, match=r"with g.when\(\.\.\.\):"):
        Program(with_if).build()


@pytest.mark.parametrize("times", [0, -1, 2.0, True, "3"])
@pytest.mark.parametrize("block", ["loop", "rounds"])
def test_numbers_of_turns_that_are_none(block, times):
    def body(self, g):
        with getattr(g, block)(times):  # (!)
            self.model.params(g)

    refused(body, BadOption, f"times={times!r}", "a whole number from 1 on")


def test_number_of_turns_of_another_type():
    def body(self, g):
        with g.loop(self.model.params(g)):  # (!)
            self.model.params(g)

    refused(body, BadOption, "times=<Output params", "a value of type int64")


def test_loop_that_nothing_ends():
    def body(self, g):
        with g.loop() as outer:  # (!)
            with g.loop() as inner:
                inner.until(outer > 3)
            self.model.params(g)

    refused(body, BadOption, "a g.loop() that nothing ends", "turn.until(flag) inside")


def test_loop_that_ends_in_an_inner_block():
    def body(self, g):
        with g.loop() as turn, g.when(turn > 3):
            turn.until(g.scalar(True))
        with g.rounds():
            self.model.params(g)

    assert [op for op, _, _ in stands(recorded(body))].count("Until") == 1


@pytest.mark.parametrize("width", [0, 1.5])
def test_widths_that_are_none(width):
    def body(self, g):
        with g.rounds(3, width=width):  # (!)
            self.model.params(g)

    refused(body, BadOption, f"width={width}")


def test_words_that_no_option_has():
    def on_fail(self, g):
        with g.rounds(3, on_fail="contnue"):  # (!)
            self.model.params(g)

    def every(self, g):
        with g.every("5s", overlap="paralel"):  # (!)
            self.model.params(g)

    def on(self, g):
        with g.on("news", overlap="drop"):  # (!)
            self.model.params(g)

    refused(on_fail, BadOption, "on_fail='contnue'", "'stop' or 'continue'", "mean 'continue'?")
    refused(every, BadOption, "overlap='paralel'", "did you mean 'parallel'?")
    refused(on, BadOption, "overlap='drop'", "'queue' or 'skip' or 'parallel'")


@pytest.mark.parametrize(
    ("period", "jitter", "text"),
    [
        (5, "", "period=5"),
        ("5", "", "period='5'"),
        ("0s", "", "period='0s'"),
        ("5s", "5s", "a jitter below the period"),
        ("5s", "1 minute", "jitter='1 minute'"),
    ],
)
def test_periods_that_are_none(period, jitter, text):
    def body(self, g):
        with g.every(period, jitter=jitter):  # (!)
            self.model.params(g)

    refused(body, BadOption, text)


def test_deadlines_that_are_none():
    def loop(self, g):
        with g.loop(3, deadline="0s"):  # (!)
            self.model.params(g)

    def each(self, g):
        with g.each(self.data.batches(g), deadline=30):  # (!)
            self.model.params(g)

    refused(loop, BadOption, "deadline='0s'", "longer than nothing")
    refused(each, BadOption, "deadline=30", "such as '30s'")


@pytest.mark.parametrize("name", ["a b", "@x", "a.b", "", "a/b"])
def test_names_that_no_region_has(name):
    def body(self, g):
        with g.loop(3, name=name):  # (!)
            self.model.params(g)

    refused(body, BadOption, "cannot be the name of a")


@pytest.mark.parametrize("given", [record({"loss": ANY}), "params", tensor("int64", ()), "int64"])
def test_values_without_items(given):
    def body(self, g):
        with g.each(g.input("x", given)):  # (!)
            self.model.params(g)

    refused(body, BadOption, "has no items", "batches of a DataSource, a list, peers, or a tensor")


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ("int64", "compare it"),
        ("float64", "compare it"),
        ("tensor(float32)", "compare it"),
        ("params", "expected: a bool"),
    ],
)
def test_conditions_that_are_none(given, fix):
    def when(self, g):
        with g.when(g.input("x", given)):  # (!)
            self.model.params(g)

    def until(self, g):
        with g.loop(3) as turn:
            turn.until(g.input("x", given))  # (!)

    refused(when, BadOption, "is a condition", fix)
    refused(until, BadOption, "is a condition", fix)


def test_python_truth_as_a_condition():
    def body(self, g):
        with g.when(True):  # (!)
            self.model.params(g)

    refused(body, NotAnOutput, "True is a bool, not a recorded value")


def test_value_of_another_module_as_items():
    kept = []

    def first(self, g):
        kept.append(g.input("x", list_of(ANY)))
        self.model.params(g)

    Program(first).build()

    def body(self, g):
        with g.each(kept[0]):  # (!)
            self.model.params(g)

    refused(body, ForeignValue, "recorded in another Module or another build")


def test_topics_that_are_none():
    def on(self, g):
        with g.on(self.model.params(g)):  # (!)
            self.model.params(g)

    def publish(self, g):
        g.publish(self.model.params(g), "news")  # (!)

    refused(on, BadOption, "where the name of the topic is expected")
    refused(publish, BadOption, "where the name of the topic is expected")


def test_event_of_a_type_that_does_not_exist():
    def body(self, g):
        with g.on("news", "int46"):  # (!)
            self.model.params(g)

    refused(body, BadOption, "int46")


def test_batch_that_is_not_taken_apart():
    def body(self, g):
        with g.each(self.data.batches(g)) as batch:
            self.model.forward(g, batch)  # (!)

    refused(body, NotAnOutput, "is a tuple, not a recorded value")


def test_number_of_a_turn_is_no_number_while_recording():
    def in_range(self, g):
        with g.loop(3) as turn:
            list(range(turn))

    def in_if(self, g):
        with g.loop(3) as turn:
            if turn > 1:
                self.model.params(g)

    with pytest.raises(NoValueYet, match="is no number yet"):
        Program(in_range).build()
    with pytest.raises(NoValueYet, match=r"(?s)no truth value.*with g.when\(flag\)"):
        Program(in_if).build()
