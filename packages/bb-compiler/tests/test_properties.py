"""Laws that hold for all programs, on programs drawn at random.

A drawn program is a list of statements on a few slots. Each statement reads what was made before
it, by number, so that any list is a program.
"""

import json

import onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_compiler import Compiler
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model
from bb_roles.contracts import Aggregator, Backend, DataSource, Model, PeerSelector

MODELS = ("left", "right")
STATEMENTS = st.lists(
    st.tuples(
        st.sampled_from(["params", "load", "fit", "scale", "output"]),
        st.sampled_from(MODELS),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=8,
)


class AnyAggregator(Aggregator):
    """Stands in a binding."""


class AnyBackend(Backend):
    """Stands in a binding."""


class AnyData(DataSource):
    """Stands in a binding."""


class AnyModel(Model):
    """Stands in a binding."""


class AnyPeers(PeerSelector):
    """Stands in a binding."""


COMPILER = (
    Compiler()
    .bind_model("left", AnyModel)
    .bind_model("right", AnyModel)
    .bind_data_source("data", AnyData)
    .bind_aggregator("aggregator", AnyAggregator)
    .bind_peer_selector("peers", AnyPeers)
    .bind_backend("backend", AnyBackend)
)


class Drawn(Module):
    """Statements on the server, then a fan-out with statements on the clients, then the end."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    left = slots.Model()
    right = slots.Model()
    data = slots.DataSource()
    aggregator = slots.Aggregator()
    backend = slots.Backend()

    def __init__(self, before, inside=None, after=()):
        super().__init__()
        self.before, self.inside, self.after = before, inside, after
        self.count = 0

    def body(self, g):
        self.count = 0
        start = g.input("start", "params")
        self.run(g, self.before, start)
        if self.inside is None:
            return
        with g.at(start):
            cohort, sent = self.peers.sample(g, 4), self.left.params(g)
        received = g.net_out("weights", cohort, sent)
        self.run(g, self.inside, received)
        with g.at(received):
            metrics = self.left.fit(g, self.data.batches(g))
            reply = g.net_out("update", g.sender(received), self.left.params(g), metrics)
        done = g.gather(self.aggregator.contribute(g, *reply))
        averaged, _ = self.aggregator.aggregate(g, after=done)
        self.run(g, self.after, averaged)

    def run(self, g, statements, params):
        """Record statements where `params` stands."""
        known = [params]
        with g.at(params):
            for kind, slot, number in statements:
                model, value = getattr(self, slot), known[number % len(known)]
                if kind == "params":
                    known.append(model.params(g))
                elif kind == "load":
                    model.load_params(g, value)
                elif kind == "fit":
                    model.fit(g, self.data.batches(g, after=value))
                elif kind == "scale":
                    self.backend.relu(g, g.constant(float(number)) * 2)
                else:
                    self.count += 1
                    g.output(f"out{self.count}", value)


PROGRAMS = st.builds(Drawn, STATEMENTS, st.none() | STATEMENTS, STATEMENTS)


def compiled(module):
    return COMPILER.compile(module.build())


def names(artifact):
    return [function.name for function in artifact.functions]


@settings(deadline=None, max_examples=60)
@given(PROGRAMS)
def test_programs_compile_to_valid_models_and_survive_as_text(module):
    model = module.build()
    artifact = COMPILER.compile(model)

    onnx.checker.check_model(artifact)
    for one in (model, artifact):
        assert parse_model(print_model(one)) == one


@settings(deadline=None, max_examples=40)
@given(PROGRAMS)
def test_compiling_twice_gives_the_same_bytes(module):
    first, second = compiled(module), compiled(module)

    assert first.SerializeToString() == second.SerializeToString()


@settings(deadline=None, max_examples=40)
@given(PROGRAMS, st.randoms(use_true_random=False))
def test_names_of_values_do_not_matter(module, random):
    model = module.build()
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    rename(renamed.functions[0], random)

    first, second = COMPILER.compile(model), COMPILER.compile(renamed)

    assert names(first) == names(second)
    for key in (keys.PROGRAM, keys.REGIONS):
        assert onnx_tools.get_meta(first, key) == onnx_tools.get_meta(second, key)
    ids = [
        [e["id"] for e in json.loads(onnx_tools.get_meta(m, keys.EDGES))] for m in (first, second)
    ]
    assert ids[0] == ids[1]


def rename(function, random):
    """Give every value that is not a port another name."""
    ports = {*function.input, *function.output}
    made = [v for node in function.node for v in node.output if v not in ports]
    numbers = random.sample(range(1000), len(made))
    new = {old: f"v.{number}" for old, number in zip(made, numbers, strict=True)}
    for node in function.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
        after = [new.get(name, name) for name in onnx_tools.meta_list(node, keys.AFTER)]
        onnx_tools.set_meta(node, keys.AFTER, ",".join(after))
        at = onnx_tools.get_meta(node, keys.AT)
        if at.startswith("value:"):
            old = at.removeprefix("value:")
            onnx_tools.set_meta(node, keys.AT, f"value:{new.get(old, old)}")
    for info in function.value_info:
        info.name = new.get(info.name, info.name)


@settings(deadline=None, max_examples=40)
@given(STATEMENTS, st.randoms(use_true_random=False))
def test_order_of_independent_statements_changes_no_slots_own_order(statements, random):
    # They read the input alone (number 0), so that nothing links statements of two slots.
    apart = [(kind, slot, 0) for kind, slot, _ in statements]

    first, second = (effects(compiled(Drawn(s))) for s in (apart, shuffled(apart, random)))

    assert first == second


def shuffled(statements, random):
    """Return the statements in another order that keeps those of each slot in theirs."""
    queues = {slot: [one for one in statements if one[1] == slot] for slot in MODELS}
    mixed = []
    while any(queues.values()):
        slot = random.choice([slot for slot, queue in queues.items() if queue])
        mixed.append(queues[slot].pop(0))
    return mixed


def effects(artifact):
    """Return for each model slot its ops, each with the numbers of those that it must follow."""
    found = {}
    for slot in MODELS:
        ops = [
            node
            for node in artifact.functions[0].node
            if onnx_tools.get_meta(node, keys.SLOT) == slot
        ]
        numbers = {name: at for at, node in enumerate(ops) for name in node.output}
        found[slot] = [
            (node.op_type, [numbers[name] for name in onnx_tools.meta_list(node, keys.ORDER)])
            for node in ops
        ]
    return found


@settings(deadline=None, max_examples=40)
@given(PROGRAMS)
def test_ops_of_a_slot_are_ordered_as_they_were_recorded(module):
    for function in onnx_tools.targets(compiled(module)):
        writers, readers = {}, {}
        for node in function.node:
            meta = onnx_tools.metadata(node)
            if meta.get(keys.SLOT) not in MODELS:
                continue
            place = (meta[keys.REGION], meta[keys.SLOT])
            order = set(filter(None, meta.get(keys.ORDER, "").split(",")))
            if place in writers:
                assert writers[place] in order
            if node.op_type == "Params":
                readers.setdefault(place, set()).add(node.output[0])
            else:
                assert readers.pop(place, set()) <= order
                writers[place] = node.output[0]


@settings(deadline=None, max_examples=40)
@given(PROGRAMS)
def test_every_op_stands_on_one_class_with_what_it_reads(module):
    for function in onnx_tools.targets(compiled(module)):
        regions = {r["name"]: r for r in json.loads(onnx_tools.get_meta(function, keys.REGIONS))}
        homes = dict.fromkeys(function.input, "main")
        for node in function.node:
            here = onnx_tools.get_meta(node, keys.REGION)
            line = [here]
            while regions[line[-1]]["parent"]:
                line.append(regions[line[-1]]["parent"])
            reads = [] if node.op_type == keys.GATHER else [n for n in node.input if n]
            assert all(homes[name] in line for name in reads)
            homes.update(dict.fromkeys(node.output, here))
