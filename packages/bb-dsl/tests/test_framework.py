"""What `g.sleep`, `g.random`, `g.metric`, `g.mean` and their like write down, and what they refuse.

The line that an error must name is the one marked `# (!)`.
"""

import inspect

import pytest

from bb_dsl import Module, slots
from bb_dsl.errors import BadOption, ForeignValue, NotAnOutput
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model
from bb_ir.types import ANY, TRIGGER, list_of, peers, record, scalar, tensor

SECOND = 10**9
FLOAT, INT = scalar("float64"), scalar("int64")
RECORDS = list_of(record({"loss": FLOAT, "examples": INT, "name": scalar("string")}))


class Part(Module):
    def body(self, g):
        g.metric("shared", kind="gauge")


class Program(Module):
    peers = slots.PeerSelector(of="client")
    model = slots.Model()

    def __init__(self, body):
        super().__init__()
        self.record = body
        self.part = Part()

    def body(self, g):
        self.record(self, g)


def recorded(body):
    """Record a body; return its function."""
    model = Program(body).build()
    assert parse_model(print_model(model)) == model
    return next(f for f in model.functions if f.name.startswith("Program"))


def one(function, op):
    """Return the only op of a name, with its attributes, and what it comes after."""
    (node,) = [node for node in function.node if node.op_type == op]
    return onnx_tools.attributes(node), onnx_tools.meta_list(node, keys.AFTER)


def refused(body, kind, *texts):
    with pytest.raises(kind) as caught:
        recorded(body)
    lines, first = inspect.getsourcelines(body)
    line = first + next(at for at, text in enumerate(lines) if "# (!)" in text)
    assert [text for text in texts if text not in str(caught.value)] == [], str(caught.value)
    assert caught.value.where[0].line == line


def test_a_sleep_passes_its_value_on_with_its_type():
    made = {}

    def body(self, g):
        w = self.model.params(g)
        made["value"] = g.sleep("1.5s", w)
        made["trigger"] = g.sleep("2s", after=w)

    function = recorded(body)
    first, second = [n for n in function.node if n.op_type == keys.SLEEP]
    assert onnx_tools.attributes(first) == {"duration_ns": 3 * SECOND // 2}
    assert made["value"].type.kind == "params"
    assert made["trigger"].type == TRIGGER
    assert list(second.input) == []
    assert onnx_tools.meta_list(second, keys.AFTER) == [first.input[0]]


def test_a_gate_is_its_value_behind_others():
    made = {}

    def body(self, g):
        x = g.input("x", "tensor(float32)[3]")
        made["x"] = g.gate(x, after=[self.model.params(g), self.model.load_params(g, g.input("p"))])

    facts, after = one(recorded(body), keys.PASS_THROUGH)
    assert (facts, len(after)) == ({}, 2)
    assert made["x"].type == tensor("float32", (3,))


def test_random_draws_hold_their_numbers_exactly():
    def body(self, g):
        assert g.random.uniform(0.1, 0.3).type == FLOAT
        assert g.random.normal(std=0).type == FLOAT
        assert g.random.integers(2**62 + 1).type == INT
        assert g.random.integers(-3, 4, name="shift").type == INT

    nodes = [n for n in recorded(body).node if n.op_type == keys.RANDOM]
    facts = [onnx_tools.attributes(node) for node in nodes]
    assert [f["parameters"].tolist() for f in facts] == [
        [0.1, 0.3], [0.0, 0.0], [0, 2**62 + 1], [-3, 4],
    ]  # fmt: skip
    assert [f["how"] for f in facts] == ["uniform", "normal", "integers", "integers"]
    assert [f.get("name") for f in facts] == [None, None, None, "shift"]


def test_lists_and_peers_keep_their_types():
    def body(self, g):
        cohort = self.peers.current_view(g)
        values = g.input("values", RECORDS)
        assert g.length(values).type == g.length(cohort).type == INT
        assert values[0].type == RECORDS.items[0][1]
        assert values[g.scalar(1)].type == RECORDS.items[0][1]
        assert cohort[-1].type == cohort.type == peers("client")
        assert g.without(cohort, cohort[0]).type == peers("client")
        assert g.concat(cohort, cohort[0]).type == peers("client")
        assert g.random.choice(cohort, 2).type == peers("client")
        assert g.random.choice(values).type == RECORDS
        assert g.item(g.input("any"), 0).type == ANY
        assert g.without(g.input("who"), cohort).type == peers()

    recorded(body)


def test_concat_has_the_type_that_all_have():
    def body(self, g):
        floats, some = g.input("floats", list_of(FLOAT)), g.input("some", list_of(ANY))
        assert g.concat(floats).type == g.concat(floats, floats).type == list_of(FLOAT)
        assert g.concat(floats, some).type == g.concat(some, floats).type == list_of(ANY)

    recorded(body)


@pytest.mark.parametrize("how", ["mean", "sum", "min", "max"])
def test_reductions_give_a_float(how):
    def body(self, g):
        reduce = getattr(g, how)
        assert reduce(g.input("values", RECORDS), "examples").type == FLOAT
        assert reduce(g.input("plain", list_of(FLOAT))).type == FLOAT
        assert reduce(g.input("ones", list_of(tensor("float32", (1,))))).type == FLOAT
        assert reduce(g.input("unknown"), "loss").type == FLOAT

    nodes = [n for n in recorded(body).node if n.op_type == "Reduce"]
    assert onnx_tools.attributes(nodes[0]) == {"how": how, "field": "examples"}
    assert onnx_tools.attributes(nodes[1]) == {"how": how}


def test_a_metric_takes_a_number_or_a_value():
    def body(self, g):
        g.metric("rounds")
        g.metric("loss", g.input("loss", "float64"), "gauge", after=self.model.params(g))
        g.metric("rounds", 2)

    nodes = [n for n in recorded(body).node if n.op_type == keys.METRIC]
    assert [onnx_tools.attributes(n) for n in nodes] == [
        {"name": "rounds", "kind": "counter"},
        {"name": "loss", "kind": "gauge"},
        {"name": "rounds", "kind": "counter"},
    ]


def sleeps_for_nothing(self, g):
    g.sleep("0s")  # (!)


def sleeps_a_number(self, g):
    g.sleep(5)  # (!)


def draws_nothing(self, g):
    g.random.uniform(1, 1)  # (!)


def draws_no_integer(self, g):
    g.random.integers(0)  # (!)


def draws_up_to_half(self, g):
    g.random.integers(0.5)  # (!)


def draws_up_to_a_value(self, g):
    n = g.input("n", "int64")
    g.random.integers(n)  # (!)


def draws_without_end(self, g):
    g.random.uniform(0, float("inf"))  # (!)


def spreads_below_zero(self, g):
    g.random.normal(0, -1)  # (!)


def chooses_none(self, g):
    g.random.choice(self.peers.current_view(g), 0)  # (!)


def chooses_of_a_number(self, g):
    n = g.input("n", "int64")
    g.random.choice(n)  # (!)


def counts_a_record(self, g):
    g.length(g.input("r", "record"))  # (!)


def joins_nothing(self, g):
    g.concat()  # (!)


def joins_peers_and_numbers(self, g):
    numbers = g.input("numbers", list_of(FLOAT))
    g.concat(self.peers.current_view(g), numbers)  # (!)


def leaves_out_a_list(self, g):
    numbers = g.input("numbers", list_of(FLOAT))
    g.without(self.peers.current_view(g), numbers)  # (!)


def averages_texts(self, g):
    g.mean(g.input("values", RECORDS), "name")  # (!)


def averages_a_field_that_is_not_there(self, g):
    g.mean(g.input("values", RECORDS), "los", weight="examples")  # (!)


def averages_records(self, g):
    g.mean(g.input("values", RECORDS))  # (!)


def weighs_numbers(self, g):
    g.mean(g.input("values", list_of(FLOAT)), weight="examples")  # (!)


def averages_a_value(self, g):
    g.mean(g.input("value", "float64"))  # (!)


def takes_half_an_item(self, g):
    g.input("values", RECORDS)[0.5]  # (!)


def takes_a_text_as_index(self, g):
    text = g.scalar("0")
    g.input("values", RECORDS)[text]  # (!)


def measures_a_text(self, g):
    g.metric("name", g.scalar("text"))  # (!)


def measures_several(self, g):
    g.metric("name", g.input("x", "tensor(float32)[3]"))  # (!)


def measures_what_is_no_number(self, g):
    g.metric("name", float("nan"))  # (!)


def measures_under_another_name(self, g):
    g.metric("my-loss")  # (!)


def measures_under_a_name_of_the_node(self, g):
    g.metric("bb_frames")  # (!)


def measures_as_a_summary(self, g):
    g.metric("loss", kind="summary")  # (!)


def measures_twice(self, g):
    g.metric("loss", kind="gauge")
    g.metric("loss")  # (!)


def measures_otherwise_than_a_part(self, g):
    self.part(g)
    g.metric("shared")  # (!)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (sleeps_for_nothing, ["duration='0s'", "longer than nothing"]),
        (sleeps_a_number, ["duration=5", "'30s'"]),
        (draws_nothing, ["nothing from 1 up to 1", "low below high"]),
        (draws_no_integer, ["nothing from 0 up to 0"]),
        (draws_up_to_half, ["high=0.5", "a whole number of 64 bits"]),
        (draws_up_to_a_value, ["high=<Output n: int64>", "known while recording"]),
        (draws_without_end, ["high=inf"]),
        (spreads_below_zero, ["std=-1", "from 0 on"]),
        (chooses_none, ["n=0", "from 1 on"]),
        (chooses_of_a_number, ["Choice is given <Output n: int64>", "a list, or peers"]),
        (counts_a_record, ["Length is given", "a list, peers, or return addresses"]),
        (joins_nothing, ["a concat of nothing"]),
        (joins_peers_and_numbers, ["Concat is given", "peers(client), as the values before it"]),
        (leaves_out_a_list, ["Without is given", "peers, or return addresses"]),
        (averages_texts, ["a list of records with a number 'name'"]),
        (averages_a_field_that_is_not_there, ["with 'los' and 'examples', numbers both"]),
        (averages_records, ["a list of numbers"]),
        (weighs_numbers, ["weight='examples' without a field", "g.mean(values, 'loss'"]),
        (averages_a_value, ["<Output value: float64>", "a list of numbers"]),
        (takes_half_an_item, ["index=0.5"]),
        (takes_a_text_as_index, ["a whole number: an int64"]),
        (measures_a_text, ["a number, or a tensor of one"]),
        (measures_several, ["a number, or a tensor of one"]),
        (measures_what_is_no_number, ["value=nan", "a number, known while recording"]),
        (measures_under_another_name, ["'my-loss' cannot be the name of a metric"]),
        (measures_under_a_name_of_the_node, ["'bb_frames' cannot be", "bb_ in front"]),
        (measures_as_a_summary, ["kind='summary'", "'counter' or 'gauge' or 'histogram'"]),
        (measures_twice, ["'loss' is a counter here and a gauge elsewhere"]),
        (measures_otherwise_than_a_part, ["'shared' is a counter here and a gauge elsewhere"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_recorded_is_said_on_its_line(body, texts):
    refused(body, BadOption, *texts)


def test_values_of_others_are_refused():
    kept = {}

    def first(self, g):
        kept["x"] = g.input("x")
        g.output("y", kept["x"])

    def second(self, g):
        g.sleep("1s", kept["x"])  # (!)

    def third(self, g):
        g.mean([1.0, 2.0])  # (!)

    recorded(first)
    refused(second, ForeignValue, "recorded in another Module")
    refused(third, NotAnOutput, "not a recorded value")
