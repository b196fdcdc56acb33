"""A slot class of a plugin's own records ops that no role has, with their schemas."""

import pytest

from bb_dsl import BuildError, Module, slots
from bb_dsl.errors import MissingGraph
from bb_ir import keys, onnx_tools
from bb_ir.ops import OpSchema, Port, ops, schema_of
from bb_ir.types import scalar

PING = OpSchema("Ping", "ping", (Port("n", scalar("int64")),), (Port("n", scalar("int64")),))


class PingHandle(slots.ProtocolHandle):
    ops = ops(PING, OpSchema("Stop", "stop"))

    def ping(self, g, n, *, after=None):
        return self._twice(g, n, after)

    def _twice(self, g, n, after):
        return self._record(g, "Ping", self._record(g, "Ping", n)[0], after=after)[0]

    def stop(self, g):
        return self._record(g, "Stop")[0]

    def again(self, g, n):
        return self.ping(g, n)


class Ping(slots.Slot):
    handle = PingHandle


class Program(Module):
    ping = Ping()
    model = slots.Model()

    def body(self, g):
        n = g.input("n", scalar("int64"))
        stop = self.ping.stop(g)  # stop
        self.model.params(g)
        g.output("out", self.ping.ping(g, n, after=stop))  # ping
        g.output("m", self.ping.again(g, n))  # again


def nodes(op):
    model = Program().build()
    return [node for node in model.functions[0].node if node.op_type == op]


def test_schema_is_written_onto_ops_that_no_role_has():
    for node in nodes("Ping"):
        assert node.domain == keys.role_domain("protocol")
        assert schema_of(node) == PING
    [stop], [params] = nodes("Stop"), nodes("Params")
    assert onnx_tools.get_meta(stop, keys.SCHEMA) == '{"method":"stop"}'
    assert onnx_tools.get_meta(params, keys.SCHEMA) == ""


def test_line_of_an_op_is_the_users_and_not_one_of_the_handle():
    from pathlib import Path

    lines = Path(__file__).read_text().splitlines()
    found = {lines[onnx_tools.source_of(n).line - 1].rpartition("# ")[2] for n in nodes("Ping")}

    assert found == {"ping", "again"}
    assert lines[onnx_tools.source_of(nodes("Stop")[0]).line - 1].endswith("# stop")


def test_results_have_the_types_of_the_schema_and_wait_for_what_they_are_told():
    first, second, *_ = nodes("Ping")
    types = onnx_tools.types_of(Program().build().functions[0])

    assert types[first.output[0]] == scalar("int64")
    assert onnx_tools.meta_list(second, keys.AFTER) == list(nodes("Stop")[0].output)


def test_forgotten_graph_is_told_by_methods_of_plugins_too():
    class Forgetful(Program):
        def body(self, g):
            self.ping.ping(7)

    with pytest.raises(MissingGraph, match=r"self\.ping\.ping\(g, 7\)"):
        Forgetful().build()


def test_slots_of_the_same_class_may_be_handed_on():
    class Outer(Module):
        ping = Ping()

        def __init__(self):
            super().__init__()
            self.inner = Program()
            self.inner.ping = self.ping

        def body(self, g):
            g.output("out", self.ping.ping(g, g.input("n", scalar("int64"))))

    assert Outer().build().functions
    with pytest.raises(BuildError, match="cannot be slot 'ping'"):
        Program().ping = slots.ProtocolHandle(Program(), "other", {})
