"""The bytes that `explain` predicts are those of real envelopes."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bytesandbrains as bb
from bb_compiler._sizes import edge_bytes, known_bytes, symbols
from bb_compiler.explain import Counters, Span, WrongAssumption, envelope_bytes, explain
from bb_ir import keys, onnx_tools
from bb_ir.types import parse_type
from bb_ir.values import encode_value
from bb_ir.wire import Hop, build_envelope

DTYPES = ["float32", "float64", "int8", "uint16", "int64", "bool", "float16"]
NAMES = st.text("abcdefghij.ü", min_size=1, max_size=200)
SHAPES = st.lists(st.integers(0, 40), max_size=3).map(tuple)


@st.composite
def tensors(draw):
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(SHAPES)
    dims = ",".join(map(str, shape))
    return f"tensor({dtype})[{dims}]", np.zeros(shape, dtype)


@st.composite
def parameter_sets(draw):
    entries = draw(st.dictionaries(NAMES, tensors(), max_size=4))
    text = ",".join(f"{name}:{type_}" for name, (type_, _) in entries.items())
    return f"params({text})", bb.ParameterSet.from_tensors({n: t for n, (_, t) in entries.items()})


SCALARS = st.one_of(
    st.floats(allow_nan=False).map(lambda value: ("float64", value)),
    st.integers(-(2**63), 2**63 - 1).map(lambda value: ("int64", value)),
    st.booleans().map(lambda value: ("bool", value)),
    st.just(("trigger", None)),
)


def records(fields):
    return st.dictionaries(NAMES, fields, max_size=5).map(
        lambda found: (
            f"record({','.join(f'{name}:{type_}' for name, (type_, _) in found.items())})",
            {name: value for name, (_, value) in found.items()},
        )
    )


NESTED = st.recursive(records(SCALARS), lambda inner: records(st.one_of(SCALARS, inner)))
EXACT = st.one_of(tensors(), parameter_sets(), SCALARS, NESTED)


def built(ports, *, answered, answers, incarnation=1, message_id=1, remaining_ns=1):
    hop = Hop(7, incarnation, bytes(38))
    return build_envelope(
        bytes(16),
        99,
        incarnation,
        message_id,
        remaining_ns=remaining_ns,
        chain=(hop,) * (answered + answers),
        fills=[encode_value(value, parse_type(text)) for text, value in ports],
    )


def predicted(ports, *, answered, answers, deadline_ns=10**9):
    named = [(f"v.{i}", parse_type(text)) for i, (text, _) in enumerate(ports)]
    return edge_bytes(named, answered=answered, answers=answers, deadline_ns=deadline_ns, dims={})


@given(ports=st.lists(EXACT, max_size=4), answered=st.booleans(), answers=st.booleans())
@settings(deadline=None)
def test_payload_and_values_are_exact_and_header_is_within_its_bounds(ports, answered, answers):
    real = built(ports, answered=answered, answers=answers)

    told = predicted(ports, answered=answered, answers=answers)

    fills = [encode_value(value, parse_type(text)).data for text, value in ports]
    assert told.payload == Span(real.payload_length, real.payload_length)
    assert told.values.exact == sum(memoryview(fill).nbytes for fill in fills)
    assert told.header.least <= len(real.head) <= told.header.most


@given(
    incarnation=st.integers(1, 2**64 - 1),
    message_id=st.integers(1, 2**64 - 1),
    remaining=st.integers(1, 10**11),
)
def test_bounds_hold_for_all_counters(incarnation, message_id, remaining):
    ports = [("tensor(float32)[2000]", np.zeros(2000, np.float32)), ("float64", 1.0)]
    facts = {"incarnation": incarnation, "message_id": message_id, "remaining_ns": remaining}

    real = built(ports, answered=True, answers=True, **facts)
    told = predicted(ports, answered=True, answers=True, deadline_ns=10**11)

    assert told.header.least <= len(real.head) <= told.header.most


@pytest.mark.parametrize("grants", [0, 1, 2])
def test_grants_weigh_what_they_do_on_the_wire(grants):
    hops = [Hop(7, 2, bytes(38), bytes(16) if number < grants else b"") for number in range(2)]
    counters = Counters(2, 5, 10**9, 38)

    real = build_envelope(bytes(16), 99, 2, 5, remaining_ns=10**9, chain=hops)

    told = known_bytes([], counters, hops=2, dims={}, grants=grants)
    bounds = edge_bytes(
        [], answered=True, answers=True, deadline_ns=10**9, dims={}, grants=grants
    ).header
    assert told == Span(len(real.head), len(real.head))
    assert bounds.least <= len(real.head) <= bounds.most


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("params", "the tensors of the parameter set v are not known"),
        ("params(w:tensor(float32)[?])", "the shape of w in v is not known"),
        ("record", "the fields of the record v are not known"),
        ("record(note:string)", "the length of v.note"),
        ("record(deep:record)", "the length of v.deep"),
        ("tensor", "the element type of v is not known"),
        ("tensor(float32)", "the shape of v is not known"),
        ("string", "v is a text of any length"),
        ("bytes", "v is bytes of any length"),
        ("peers(client)", "v is a list of any number of peers"),
        ("list(int64)", "v is a list of any length"),
        ("any", "the type of v is not known"),
    ],
)
def test_what_a_type_leaves_open_is_said_and_not_guessed(text, why):
    told = edge_bytes(
        [("v.1", parse_type(text)), ("w.2", parse_type("tensor(float32)[9000]"))],
        answered=False,
        answers=False,
        deadline_ns=1,
        dims={},
    )

    assert why in told.unknown[0]
    assert told.envelope.most is None
    assert told.values.least >= 36_000
    assert told.formula == ""


def test_open_dimensions_give_a_formula():
    ports = [
        ("batch.1", parse_type("tensor(float32)[n,8]")),
        ("mask.2", parse_type("tensor(bool)[?,4]")),
        ("scale.3", parse_type("float64")),
    ]

    told = edge_bytes(ports, answered=False, answers=False, deadline_ns=1, dims={})

    assert told.formula == "32*n + 4*mask[0] + 8"
    assert symbols(ports) == {"n", "mask[0]"}
    known = {"n": 100, "mask[0]": 3}
    exact = edge_bytes(ports, answered=False, answers=False, deadline_ns=1, dims=known)
    assert exact.values.exact == 3200 + 12 + 8
    assert exact.formula == ""


def test_values_of_one_name_are_told_apart():
    ports = [(f"pair.{i}", parse_type("tensor(float32)[?]")) for i in (4, 5)]

    told = edge_bytes(ports, answered=False, answers=False, deadline_ns=1, dims={})

    assert told.formula == "4*pair.0[0] + 4*pair.1[0]"


class Work(bb.Module):
    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")
    backend = bb.slots.Backend()

    def __init__(self, sample=8):
        super().__init__()
        self.sample = sample

    def body(self, g):
        weights = g.input("weights", "params(w:tensor(float32)[64,32],b:tensor(float32)[32])")
        x = g.input("x", "tensor(float32)[n,8]")
        view = self.clients.current_view(g)
        cohort = self.clients.sample(g, self.sample) if self.sample else view
        got, rows = g.net_out("work", cohort, weights, x)
        mean = self.backend.reduce_mean(g, rows, axes=[0])
        reply = g.net_out("answer", g.sender(got), mean, deadline="5s")
        done = g.gather(reply)
        again = g.net_out("thanks", done.senders)
        del again
        g.output("count", done.count)


@pytest.fixture(scope="module")
def compiler():
    return bb.Compiler().bind_peer_selector("clients", "static").bind_backend("backend", "numpy")


def edges_of(told):
    return {edge.name: edge for edge in told.edges}


def test_sample_answers_and_gathered_senders_count_along_the_fan_out(compiler):
    told = compiler.explain(Work(8).build())

    counts = {e.name: (e.per_frame, e.per_round, e.fan_out) for e in told.edges}
    assert counts == {
        "work": (8, 8, "sample"), "answer": (1, 8, "answer"), "thanks": (8, 8, "gather"),
    }  # fmt: skip
    assert told.round.envelopes == 24
    assert told.assumed == ()


def test_cohort_that_is_given_wins(compiler):
    told = compiler.explain(Work(8).build(), cohort={"client": 100})

    assert [e.per_round for e in told.edges] == [100, 100, 100]
    assert told.cohort == {"client": 100}


def test_view_of_unknown_size_counts_as_one_peer_and_says_so(compiler):
    told = compiler.explain(Work(0).build())

    assert edges_of(told)["work"].fan_out == "assumed"
    assert told.assumed == ("client",)
    assert told.round.envelopes == 3


def test_round_adds_up_frames_and_envelopes(compiler):
    told = compiler.explain(Work(8).build(), dims={"n": 100})

    work, answer, thanks = (edges_of(told)[name] for name in ("work", "answer", "thanks"))
    whole = work.bytes.payload.exact * 8
    assert told.round.payload_bytes == Span(whole, whole)
    assert told.round.envelope_bytes == sum(
        (edge.bytes.envelope.times(8) for edge in (answer, thanks)), work.bytes.envelope.times(8)
    )
    regions = {r.name: r for target in told.targets for r in target.regions}
    assert {name: region.frames for name, region in regions.items()} == {
        "main": 1, "work": 8, "answer": 8, "thanks": 8,
    }  # fmt: skip
    assert regions["main"].sends.envelopes == 16
    assert regions["work"].sends.envelope_bytes == answer.bytes.envelope


def test_unknown_edges_leave_the_sum_open_and_are_named(compiler):
    told = compiler.explain(Work(8).build())

    assert told.round.unknown == ("work",)
    assert told.round.envelope_bytes.most is None
    assert "work are not known" in str(told.round)


class Tree(bb.Module):
    peer_class = "cloud"
    edges = bb.slots.PeerSelector(of="edge")
    clients = bb.slots.PeerSelector(of="client")

    def body(self, g):
        x = g.input("x", "tensor(float32)[4]")
        at_edge = g.net_out("down", self.edges.sample(g, 3), x)
        at_client = g.net_out("further", self.clients.sample(g, 5), at_edge)
        back = g.net_out("up", g.sender(at_client), at_client)
        done = g.gather(back, deadline="5s")
        total = g.net_out("top", g.sender(at_edge), done.count)
        g.output("count", g.gather(total, deadline="20s").count)


def test_fan_outs_within_fan_outs_multiply():
    compiler = bb.Compiler().bind_peer_selector("edges", "static")
    compiler.bind_peer_selector("clients", "static")

    told = compiler.explain(Tree().build())

    assert {e.name: e.per_round for e in told.edges} == {
        "down": 3, "further": 15, "up": 15, "top": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cohort": {"clinet": 3}}, "did you mean 'client'"),
        ({"cohort": {"client": -1}}, "client=-1"),
        ({"cohort": {"client": True}}, "client=True"),
        ({"dims": {"m": 3}}, "dims 'm' is not in this program"),
    ],
)
def test_wrong_assumption_is_refused(compiler, given, message):
    with pytest.raises(WrongAssumption, match=message):
        compiler.explain(Work(8).build(), **given)


def test_envelope_of_known_counters_is_exact(compiler):
    told = compiler.explain(Work(8).build(), dims={"n": 3})
    work = edges_of(told)["work"]
    weights = bb.ParameterSet.from_tensors(
        {"w": np.zeros((64, 32), np.float32), "b": np.zeros(32, np.float32)}
    )
    ports = [("params", weights), ("tensor(float32)", np.zeros((3, 8), np.float32))]

    real = built(ports, answered=True, answers=False, message_id=300, remaining_ns=10**9)

    counters = Counters(message_id=300, remaining_ns=10**9)
    assert envelope_bytes(work, counters, {"n": 3}).exact == len(real.to_bytes())
    assert envelope_bytes(work, counters).exact is None


def damaged(artifact, change):
    copy = type(artifact)()
    copy.CopyFrom(artifact)
    rows = json.loads(onnx_tools.get_meta(copy, keys.EDGES))
    change({row["name"]: row for row in rows})
    onnx_tools.set_meta(copy, keys.EDGES, json.dumps(rows))
    return copy


def test_table_that_goes_in_circles_ends(compiler):
    artifact = compiler.compile(Work(8).build())

    def turn(rows):
        rows["work"]["answers"] = "answer"
        rows["work"]["sent_in"] = "answer"

    told = explain(damaged(artifact, turn))

    assert edges_of(told)["work"].per_round == 0
    assert told.to_html()


@pytest.mark.parametrize(
    ("field", "value"),
    [("ports", [["x", "tensor("]]), ("ports", 3), ("deadline_ns", "soon"), ("answers", ["a"])],
)
def test_damaged_table_is_an_error_and_no_crash(compiler, field, value):
    artifact = compiler.compile(Work(8).build())

    def spoil(rows):
        rows["work"][field] = value

    with pytest.raises(bb.CompileError, match="cannot be read"):
        explain(damaged(artifact, spoil))
