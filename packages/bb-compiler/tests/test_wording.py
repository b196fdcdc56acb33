"""Errors call values and regions by what users wrote."""

import pytest
from onnx import helper

from bb_compiler._placement import Region
from bb_compiler._wording import label_of, starts, value_text, where_it_stands
from bb_compiler.errors import CrossClassDataflow
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.types import tensor


def op(name="a", *, scope="", line=None):
    node = helper.make_node("Op", [], [name])
    if scope:
        onnx_tools.set_meta(node, keys.SCOPE, scope)
    if line:
        onnx_tools.set_meta(node, keys.SOURCE, str(line))
    return node


@pytest.mark.parametrize(
    ("name", "scope", "label"),
    [
        ("metrics.4", "", "metrics"),
        ("mine", "", "mine"),
        ("train.metrics.4", "train", "metrics"),
        ("outer.train.metrics.12", "outer.train", "metrics"),
        ("train.x", "train", "x"),
        ("done.10@rounds", "", "done"),
        ("v1.2.3", "", "v1.2"),
    ],
)
def test_value_is_called_by_what_stands_before_its_number(name, scope, label):
    assert label_of(name, op(name, scope=scope)) == label


def test_value_without_an_op_keeps_its_scope():
    assert label_of("train.metrics.4") == "train.metrics"


def test_line_tells_values_of_one_name_apart():
    here, there = SourceLine("a.py", 3), SourceLine("b.py", 7)

    assert value_text("x.1", op(line=here), op(line=SourceLine("a.py", 9))) == "'x' (line 3)"
    assert value_text("x.1", op(line=there), op(line=here)) == "'x' (b.py:7)"
    assert value_text("x.1", op(line=here)) == "'x' (line 3)"
    assert value_text("x.1", op()) == "'x'"
    assert value_text("x") == "'x'"


@pytest.mark.parametrize(
    ("region", "told"),
    [
        (Region("main", "server"), "which an invocation starts"),
        (Region("ask", "client", opened_in="main"), "which starts when 'ask' arrives"),
        (
            Region("answer", "server", parent="main", opened_in="ask"),
            "which starts when a reply 'answer' arrives",
        ),
        (Region("loop", "a", "main", "main", kind="loop"), "a turn of the loop block"),
        (Region("rounds", "a", opened_in="main", kind="rounds"), "started by the rounds block"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_region_is_told_by_what_starts_it(region, told):
    assert starts(region) == told
    assert where_it_stands(region) == f"class {region.cls!r} (region {region.name!r}, {told})"


class Doubles(Module):
    backend = slots.Backend()

    def body(self, g):
        g.output("twice", g.input("x", tensor("float32", (4,))) * 2)


class Mixes(Module):
    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    backend = slots.Backend()

    def __init__(self):
        super().__init__()
        self.doubles = Doubles(backend=self.backend)

    def body(self, g):
        mine = g.input("mine", tensor("float32", (4,)))
        theirs = g.net_out("sent", self.peers.sample(g, 2), mine)
        g.output("sum", self.doubles(g, x=theirs)["twice"] + mine)


def test_value_of_a_part_is_called_as_the_part_calls_it(compiled):
    with pytest.raises(CrossClassDataflow) as caught:
        compiled(Mixes())

    assert "'mul' (line " in caught.value.found
    assert "doubles." not in caught.value.found
    assert not any(part.isdigit() for part in caught.value.found.replace("'", ".").split("."))
