"""Every error of recording, provoked by a body that a user could write.

The line that the error must name is the one marked `# (!)`.
"""

import inspect

import numpy as np
import pytest

from bb_dsl import BuildError, Module, slots
from bb_dsl.errors import (
    BadOption,
    DuplicateName,
    EmptyModule,
    ForeignValue,
    MissingGraph,
    NoBackendInScope,
    NotAnOutput,
    NoValueYet,
    RecursiveModule,
    UnknownPort,
    UnnamedModule,
    WrongPortType,
)
from bb_ir.types import tensor


class Part(Module):
    model = slots.Model()

    def body(self, g):
        g.output("y", self.model.forward(g, g.input("x", "tensor")))


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


def refused(body, kind, *texts, make=Program):
    with pytest.raises(BuildError) as caught:
        make(body).build()
    error = caught.value
    check(error, kind, *texts)
    source, first = inspect.getsourcelines(body)
    marked = [first + at for at, line in enumerate(source) if "# (!)" in line]
    assert set(marked) <= {place.line for place in error.where}, str(error)
    for place in error.where:
        assert place.file.endswith("packages/bb-dsl/tests/test_build_errors.py")
    if marked:
        assert source[marked[0] - first].strip() in str(error)
    return error


def check(error, kind, *texts):
    assert type(error) is kind
    assert error.code == kind.__name__
    for text in texts:
        assert text in str(error), str(error)


def nothing(self, g):
    pass


def test_empty_module():
    with pytest.raises(EmptyModule) as caught:
        Program(nothing).build()

    check(caught.value, EmptyModule, "Program.body records no op", "fix: call a slot's method")


def twice_an_edge(self, g):
    cohort = self.peers.sample(g, 2)
    g.net_out("sent", cohort)
    g.net_out("sent", cohort)  # (!)


def twice_an_input(self, g):
    g.input("x")
    g.input("x")  # (!)


def twice_an_output(self, g):
    x = g.input("x")
    g.output("y", x)
    g.output("y", x)  # (!)


def output_like_an_input(self, g):
    g.output("x", g.input("x"))  # (!)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (twice_an_edge, "has an edge 'sent' already"),
        (twice_an_input, "an input or output 'x' already"),
        (twice_an_output, "an input or output 'y' already"),
        (output_like_an_input, "an input or output 'x' already"),
    ],
)
def test_duplicate_name(body, text):
    refused(body, DuplicateName, text, "its own name")


def test_edge_of_the_body_again_in_the_bootstrap():
    class Boots(Program):
        def bootstrap(self, g):
            g.net_out("sent", self.peers.sample(g, 2))

    with pytest.raises(DuplicateName):
        Boots(lambda self, g: g.net_out("sent", self.peers.sample(g, 2))).build()


def number_to_a_slot(self, g):
    self.model.load_params(g, 3)  # (!)


def forgotten_value(self, g):
    g.net_out("sent", self.peers.sample(g, 1), None)  # (!)


def number_after(self, g):
    self.model.params(g, after=[3])  # (!)


def all_outputs_of_a_part(self, g):
    self.model.load_params(g, self.part(g, x=g.input("x", "tensor")))  # (!)


def all_outputs_in_a_sum(self, g):
    g.input("x", "tensor(float32)") + self.part(g, x=g.input("y", "tensor"))  # (!)


@pytest.mark.parametrize(
    ("body", "kind"), [(all_outputs_of_a_part, NotAnOutput), (all_outputs_in_a_sum, BadOption)]
)
def test_all_outputs_of_a_part_where_one_is_needed(body, kind):
    refused(body, kind, "fix: it holds several: take one by name, ['y']")


@pytest.mark.parametrize("body", [number_to_a_slot, forgotten_value, number_after])
def test_not_an_output(body):
    refused(body, NotAnOutput, "not a recorded value")


def value_of_the_outer_module(self, g):
    outer = self.model.params(g)

    class Closure(Module):
        model = slots.Model()

        def body(self, g):
            self.model.load_params(g, outer)  # (!)

    self.other = Closure()
    self.other(g)


def test_value_of_the_outer_module_in_a_part():
    refused(value_of_the_outer_module, ForeignValue, "another Module", "self.part(g, port=value)")


def test_value_of_another_build():
    kept = []

    def body(self, g):
        kept.append(self.model.params(g))
        self.model.load_params(g, kept[0])

    module = Program(body)
    module.build()

    with pytest.raises(ForeignValue, match="another build"):
        module.build()


def test_recording_after_the_end():
    kept = []
    module = Program(lambda self, g: kept.append((g, self.model.params(g))))
    module.build()
    graph, value = kept[0]

    with pytest.raises(ForeignValue, match="has ended"):
        graph.output("late", value)


class NoBackend(Module):
    def __init__(self, body):
        self.record = body

    def body(self, g):
        self.record(self, g)


class TwoBackends(NoBackend):
    left = slots.Backend()
    right = slots.Backend()


def maths(self, g):
    g.output("y", g.input("x", tensor("float32")) + 1)  # (!)


def test_no_backend():
    refused(maths, NoBackendInScope, "NoBackend has no Backend slot", "Backend()", make=NoBackend)


def test_two_backends():
    refused(maths, NoBackendInScope, "several Backend slots: left, right", "self.left.add",
            make=TwoBackends)  # fmt: skip


def unknown_port(self, g):
    self.part(g, xs=g.input("x"))  # (!)


def missing_port(self, g):
    self.part(g)  # (!)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (unknown_port, ["unknown: xs; missing: x", "inputs x", "did you mean 'x'?"]),
        (missing_port, ["(missing: x)", "inputs x"]),
    ],
)
def test_ports_that_do_not_fit(body, texts):
    refused(body, UnknownPort, "do not fit Part", *texts)


def test_value_of_the_wrong_type_for_a_port():
    def body(self, g):
        self.part(g, x=self.model.params(g))

    with pytest.raises(WrongPortType) as caught:
        Program(body).build()

    check(caught.value, WrongPortType, "Part is given", "'x'", "a value of type tensor")
    call, declared = caught.value.where
    assert call.line == inspect.getsourcelines(body)[1] + 1
    assert declared.line == inspect.getsourcelines(Part)[1] + 4


def part_that_is_no_attribute(self, g):
    Part(model=self.model)(g, x=g.input("x"))  # (!)


def slot_of_a_stranger(self, g):
    Part().model.params(g)  # (!)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (part_that_is_no_attribute, ["is no attribute of it", "self.part = Part(...)"]),
        (slot_of_a_stranger, ["Part is no part of Program", "self.part = Part(...)"]),
    ],
)
def test_unnamed_module(body, texts):
    refused(body, UnnamedModule, *texts)


def test_module_that_calls_itself():
    class Endless(Module):
        def __init__(self):
            super().__init__()
            self.again = self

        def body(self, g):
            self.again(g)

    with pytest.raises(RecursiveModule, match="Endless calls itself"):
        Endless().build()


def peers_before_the_name(self, g):
    g.net_out(self.peers.sample(g, 1), "sent")  # (!)


def name_with_a_slash(self, g):
    g.output("a/b", g.input("x"))  # (!)


def no_name(self, g):
    g.input("")  # (!)


def edge_called_main(self, g):
    g.net_out("main", self.peers.sample(g, 1))  # (!)


def class_called_bootstrap(self, g):
    g.peers("whom", of="bootstrap")  # (!)


def class_with_a_bar(self, g):
    with g.at("a|b"):  # (!)
        pass


def quorum_above_all(self, g):
    g.gather(self.model.params(g), quorum=1.5)  # (!)


def quorum_of_none(self, g):
    g.gather(self.model.params(g), quorum=0)  # (!)


def quorum_of_true(self, g):
    g.gather(self.model.params(g), quorum=True)  # (!)


def quorum_not_a_number(self, g):
    g.gather(self.model.params(g), quorum=float("nan"))  # (!)


def deadline_without_unit(self, g):
    g.gather(self.model.params(g), deadline=30)  # (!)


def deadline_of_nothing(self, g):
    g.gather(self.model.params(g), deadline="0s")  # (!)


def deadline_misspelt(self, g):
    g.net_out("sent", self.peers.sample(g, 1), deadline="30 sec")  # (!)


def measured_deadline_of_a_send(self, g):
    g.net_out("sent", self.peers.sample(g, 1), deadline="auto")  # (!)


def measured_deadline_misspelt(self, g):
    g.gather(self.model.params(g), deadline="auto 30s")  # (!)


def measured_deadline_without_a_bound(self, g):
    g.gather(self.model.params(g), deadline="auto,")  # (!)


def measured_deadline_with_another_word(self, g):
    g.gather(self.model.params(g), deadline="auto, up to 30s")  # (!)


def overdue_answers_that_run(self, g):
    g.gather(self.model.params(g), deadline="auto", on_late="run")  # (!)


def no_bytes_at_all(self, g):
    g.net_out("x", self.peers.current_view(g), max_bytes=0)  # (!)


def bytes_as_a_text(self, g):
    g.net_out("x", self.peers.current_view(g), max_bytes="1 MiB")  # (!)


def bytes_as_a_truth(self, g):
    g.net_out("x", self.peers.current_view(g), max_bytes=True)  # (!)


def bytes_beyond_numbers(self, g):
    g.net_out("x", self.peers.current_view(g), max_bytes=1 << 63)  # (!)


def retries_without_end(self, g):
    g.net_out("x", self.peers.current_view(g), retries=17)  # (!)


def retries_below_none(self, g):
    g.net_out("x", self.peers.current_view(g), retries=-1)  # (!)


def replies_of_none(self, g):
    g.net_out("x", self.peers.current_view(g), replies=0)  # (!)


def replies_without_end(self, g):
    g.net_out("x", self.peers.current_view(g), replies=1_001)  # (!)


def order_as_a_word(self, g):
    g.net_out("x", self.peers.current_view(g), ordered="yes")  # (!)


def retries_as_a_truth(self, g):
    g.net_out("x", self.peers.current_view(g), retries=True)  # (!)


def wait_misspelt(self, g):
    g.gather(self.model.params(g), wait="al")  # (!)


def values_that_are_not_collected(self, g):
    g.output("y", g.gather(self.model.params(g)).values)  # (!)


def sample_of_none(self, g):
    self.peers.sample(g, 0)  # (!)


def sample_of_a_value(self, g):
    self.peers.sample(g, g.input("n", "int64"))  # (!)


def half_an_epoch(self, g):
    self.data.batches(g, epochs=0.5)  # (!)


def type_that_is_none(self, g):
    g.input("x", "tensr(float32)")  # (!)


def field_that_is_not_there(self, g):
    g.record(loss=g.input("x", "float64"))["los"]  # (!)


def field_of_another_type(self, g):
    g.field(g.record(loss=g.input("x", "float64")), "loss", "int64")  # (!)


def field_by_number(self, g):
    g.input("x", "record")[0]  # (!)


def field_of_a_tensor(self, g):
    g.input("x", "tensor")["loss"]  # (!)


def empty_record(self, g):
    g.record()  # (!)


def half_an_integer(self, g):
    g.input("x", "tensor(int64)") * 0.5  # (!)


def constant_of_nonsense(self, g):
    g.constant(3, "float33")  # (!)


def attribute_that_is_a_value(self, g):
    self.backend.op(g, "Softmax", g.input("x", "tensor"), axis=g.input("axis"))  # (!)


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (peers_before_the_name, ["stands where the name of the edge is expected", "text first"]),
        (name_with_a_slash, ["'a/b' cannot be the name of an output"]),
        (no_name, ["'' cannot be the name of an input"]),
        (edge_called_main, ["'main' names a region", "another name"]),
        (class_called_bootstrap, ["a peer class cannot be called 'bootstrap'"]),
        (class_with_a_bar, ["'a|b' cannot be the name of a peer class"]),
        (quorum_above_all, ["quorum=1.5", "a share above 0", "1.0 stands for all peers"]),
        (quorum_of_none, ["quorum=0"]),
        (quorum_of_true, ["quorum=True"]),
        (quorum_not_a_number, ["quorum=nan"]),
        (deadline_without_unit, ["deadline=30", "'30s'"]),
        (deadline_of_nothing, ["deadline='0s'", "longer than nothing"]),
        (deadline_misspelt, ["deadline='30 sec'", "ns, us, ms, s, m, h"]),
        (measured_deadline_of_a_send, ["deadline='auto'", "only a gather measures"]),
        (measured_deadline_misspelt, ["deadline='auto 30s'", "only a gather measures"]),
        (measured_deadline_without_a_bound, ["deadline='auto,'", "'auto, at most 30s'"]),
        (measured_deadline_with_another_word, ["'auto, up to 30s'", "'auto, at most 30s'"]),
        (overdue_answers_that_run, ["on_late='run' with deadline='auto'", "one of them"]),
        (no_bytes_at_all, ["max_bytes=0", "a whole number of bytes"]),
        (bytes_as_a_text, ["max_bytes='1 MiB'", "1 << 20"]),
        (bytes_as_a_truth, ["max_bytes=True"]),
        (bytes_beyond_numbers, ["max_bytes=9223372036854775808"]),
        (retries_without_end, ["retries=17", "from 0 to 16"]),
        (retries_below_none, ["retries=-1"]),
        (retries_as_a_truth, ["retries=True"]),
        (order_as_a_word, ["ordered='yes'", "True or False"]),
        (replies_of_none, ["replies=0", "from 1 to 1,000"]),
        (replies_without_end, ["replies=1001"]),
        (wait_misspelt, ["wait='al'", "'quorum' or 'all'", "did you mean 'all'?"]),
        (values_that_are_not_collected, ["collects no values", "values=True"]),
        (sample_of_none, ["n=0", "from 1 on"]),
        (sample_of_a_value, ["n=<Output n: int64>", "known while recording"]),
        (half_an_epoch, ["epochs=0.5"]),
        (type_that_is_none, ["'tensr' is not a kind of type", "tensor, params"]),
        (field_that_is_not_there, ["no field 'los'", "one of loss", "did you mean 'loss'?"]),
        (field_of_another_type, ["no field 'loss' of type int64"]),
        (field_by_number, ["Item is given", "an item of a record has a name, not a number"]),
        (field_of_a_tensor, ["has no field 'loss'", "a record with that field"]),
        (empty_record, ["a record without fields"]),
        (half_an_integer, ["0.5 cannot be a constant of int64", "cast"]),
        (constant_of_nonsense, ["3 cannot be a constant of float33"]),
        (attribute_that_is_a_value, ["cannot be an attribute of Softmax", "while recording"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_option(body, texts):
    refused(body, BadOption, *texts)


def test_class_of_a_selector_is_checked_where_it_is_written():
    with pytest.raises(BadOption, match="peer class"):
        slots.PeerSelector(of="a b")


def test_class_of_a_module_is_checked():
    class Odd(Program):
        peer_class = "a/b"

    with pytest.raises(BadOption, match="peer class"):
        Odd(lambda self, g: self.model.params(g)).build()


# What Python itself would let pass


@pytest.mark.parametrize(
    ("misuse", "text"),
    [
        (bool, "no truth value"),
        (lambda x: x == 3, "cannot be compared with 3"),
        (lambda x: x != "a", "cannot be compared with 'a'"),
        (list, "cannot be unpacked"),
        (lambda x: tuple(*x), "cannot be unpacked"),
    ],
)
def test_value_is_no_python_value(misuse, text):
    def body(self, g):
        with pytest.raises(NoValueYet, match=text):
            misuse(g.input("x", "record"))
        self.model.params(g)

    Program(body).build()


@pytest.mark.parametrize(
    ("misuse", "call"),
    [
        (lambda self, _: self.peers.sample(8), "self.peers.sample(g, 8)"),
        (lambda self, _: self.peers.sample(n=8), "self.peers.sample(g, n=...)"),
        (lambda self, _: self.peers.current_view(), "self.peers.current_view(g)"),
        (lambda self, _: self.model.params(), "self.model.params(g)"),
        (lambda self, x: self.model.forward(x), "self.model.forward(g, ...)"),
        (lambda self, x: self.model.forward(x, x.graph), "self.model.forward(g, ...)"),
        (lambda self, x: self.backend.add(x, x), "self.backend.add(g, ..., ...)"),
        (lambda self, x: self.backend.op("Abs", x), "self.backend.op(g, 'Abs', ...)"),
    ],
)
def test_forgotten_graph(misuse, call):
    def body(self, g):
        with pytest.raises(MissingGraph) as caught:
            misuse(self, g.input("x"))
        assert "the first argument of self." in str(caught.value)
        assert caught.value.fix == call
        self.model.params(g=g)

    Program(body).build()


def in_file(file, text="def call(act, *args):\n    return act(*args)"):
    """Return a function that stands in line 2 of some other file."""
    names = {}
    exec(compile(text, file, "exec"), names)  # noqa: S102  # the text is ours
    return names["call"]


@pytest.mark.parametrize(
    "file",
    [
        inspect.getfile(np),
        inspect.getfile(inspect),
        "/usr/lib/python3/dist-packages/part.py",
        "<frozen part>",
    ],
)
def test_line_behind_a_library_is_the_users(file):
    call = in_file(file)

    def body(self, g):
        call(g.input, "a/b")  # (!)

    refused(body, BadOption, "cannot be the name")


def test_line_of_our_programs_is_told_where_they_are_installed():
    call = in_file("/x/site-packages/bytesandbrains/programs/fedavg.py")

    with pytest.raises(BadOption) as caught:
        Program(lambda _, g: call(g.input, "a/b")).build()

    assert [str(place) for place in caught.value.where] == ["fedavg.py:2"]


def test_line_of_a_body_that_is_installed_is_the_nearest_one():
    class Installed(Program):
        body = in_file(
            "/x/site-packages/installed_part.py", "def call(self, g):\n    g.input('a/b')\n"
        )

    with pytest.raises(BadOption) as caught:
        Installed(None).build()

    assert [str(place) for place in caught.value.where] == ["installed_part.py:2"]


def test_values_can_be_kept_in_sets():
    def body(self, g):
        x, y = g.input("x"), g.input("y")
        assert len({x, y, x}) == 2
        assert x in [y, x]
        assert x == x  # noqa: PLR0124  # a value is itself
        assert x != y
        assert np.asarray(3) is not x
        g.output("z", x)

    Program(body).build()
