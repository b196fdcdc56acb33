"""Laws that hold for all programs with blocks, on programs drawn at random.

A drawn program is a tree of statements: some record an op on one of two models, others open a block
around more of them. Each reads what was made before it, by number, so that any tree is a program.
"""

import json

import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.text import parse_model, print_model

MODELS = ("left", "right")
CHILDREN = ("loop", "when", "each")
PLAIN = st.tuples(
    st.sampled_from(["params", "load", "fit", "output"]),
    st.sampled_from(MODELS),
    st.integers(0, 9),
)
TREES = st.recursive(
    PLAIN,
    lambda inner: st.tuples(
        st.sampled_from([*CHILDREN, "rounds", "every", "on", "ask", "at"]),
        st.lists(inner, min_size=1, max_size=3),
        st.booleans(),
    ),
    max_leaves=8,
)
STATEMENTS = st.lists(TREES, min_size=1, max_size=4)


class Drawn(Module):
    """Statements on the server and, inside of `ask`, on the clients."""

    peer_class = "server"
    peers = slots.PeerSelector(of="client")
    left = slots.Model()
    right = slots.Model()
    data = slots.DataSource()

    def __init__(self, statements):
        super().__init__()
        self.statements = statements
        self.count = 0

    def __repr__(self):
        return f"Drawn({self.statements!r})"

    def body(self, g):
        self.count = 0
        start = g.input("start", "params")
        self.run(g, self.statements, [start])

    def run(self, g, statements, known):
        """Record statements; values they make are known to those after them."""
        for kind, what, more in statements:
            if kind in ("params", "load", "fit", "output"):
                self.op(g, kind, getattr(self, what), known, known[more % len(known)])
            else:
                self.block(g, kind, what, known, taken=more)

    def op(self, g, kind, model, known, value):
        if kind == "params":
            known.append(model.params(g, after=value))
        elif kind == "load":
            model.load_params(g, value)
        elif kind == "fit":
            model.fit(g, self.data.batches(g, after=value))
        else:
            self.count += 1
            g.output(f"out{self.count}", value)

    def block(self, g, kind, statements, known, *, taken):
        if kind == "ask":
            self.ask(g, statements, known)
            return
        if kind == "at":
            with g.at(known[-1]):
                self.run(g, statements, known)
            return
        # They stand with the values that the statements inside read.
        with g.at(known[0]):
            block = self.opened(g, kind, known)
        with block:
            inside = list(known)
            self.run(g, statements, inside)
            made = self.left.params(g, after=inside[-1])
        if kind in CHILDREN and taken:
            known.append(g.last(made, known[0]))

    def opened(self, g, kind, known):
        make = {
            "loop": lambda: g.loop(2),
            "when": lambda: g.when(g.scalar(True)),
            "each": lambda: g.each(self.data.batches(g, after=known[0])),
            "rounds": lambda: g.rounds(2),
            "every": lambda: g.every("5s"),
            "on": lambda: g.on("news"),
        }
        return make[kind]()

    def ask(self, g, statements, known):
        self.count += 1
        name = f"ask{self.count}"
        with g.at(known[0]):
            got = g.net_out(name, self.peers.sample(g, 2), known[-1])
        with g.at(got):
            self.run(g, statements, [got])


@pytest.fixture(scope="module")
def compile_it(bind_all):
    """Return a function that compiles a drawn program, once for all of its slots."""
    return lambda model: bind_all(model).compile(model)


PROGRAMS = st.builds(Drawn, STATEMENTS)


@settings(deadline=None, max_examples=80)
@given(module=PROGRAMS)
def test_programs_compile_to_valid_models_and_survive_as_text(compile_it, module):
    model = module.build()
    artifact = compile_it(model)

    onnx.checker.check_model(artifact)
    for one in (model, artifact):
        assert parse_model(print_model(one)) == one


@settings(deadline=None, max_examples=30)
@given(module=PROGRAMS)
def test_compiling_twice_gives_the_same_bytes(compile_it, module):
    first, second = compile_it(module.build()), compile_it(module.build())

    assert first.SerializeToString() == second.SerializeToString()


@settings(deadline=None, max_examples=40)
@given(module=PROGRAMS, random=st.randoms(use_true_random=False))
def test_names_of_values_do_not_matter(compile_it, module, random):
    model = module.build()
    renamed = onnx.ModelProto()
    renamed.CopyFrom(model)
    rename(renamed.functions[0], random)

    first, second = compile_it(model), compile_it(renamed)

    assert [f.name for f in first.functions] == [f.name for f in second.functions]
    assert onnx_tools.get_meta(first, keys.PROGRAM) == onnx_tools.get_meta(second, keys.PROGRAM)


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


@settings(deadline=None, max_examples=60)
@given(module=PROGRAMS)
def test_every_op_reads_what_its_frame_has(compile_it, module):
    for function in compile_it(module.build()).functions:
        regions = {r["name"]: r for r in json.loads(onnx_tools.get_meta(function, keys.REGIONS))}
        homes = dict.fromkeys(function.input, "main")
        for node in function.node:
            here = onnx_tools.get_meta(node, keys.REGION)
            reads = [*filter(None, node.input), *onnx_tools.meta_list(node, keys.AFTER)]
            if node.op_type == keys.LAST:
                assert regions[homes[reads[0]]]["parent"] == here
                reads = reads[1:]
            assert all(homes[name] in line(regions, here) for name in reads)
            homes.update(dict.fromkeys(node.output, here))


def line(regions, region):
    """Return a region and those whose frames its own can see."""
    found = [region]
    while regions[found[-1]]["parent"]:
        found.append(regions[found[-1]]["parent"])
    return found


@settings(deadline=None, max_examples=80)
@given(module=PROGRAMS)
def test_ops_of_a_slot_run_as_they_were_recorded_across_blocks(compile_it, module):
    """Ops on one slot are ordered by what stands for them in the region around both."""
    for function in compile_it(module.build()).functions:
        regions = {r["name"]: r for r in json.loads(onnx_tools.get_meta(function, keys.REGIONS))}
        blocks = {
            onnx_tools.get_meta(n, keys.OPENS): n for n in function.node if n.op_type != keys.TURN
        }
        after = {}
        for node in function.node:
            direct = onnx_tools.meta_list(node, keys.ORDER)
            after[node.output[0]] = set(direct).union(*(after[name] for name in direct))
        uses = [n for n in function.node if onnx_tools.get_meta(n, keys.SLOT) in MODELS]
        for at, later in enumerate(uses):
            for earlier in uses[:at]:
                check_order(earlier, later, regions, blocks, after)


def check_order(earlier, later, regions, blocks, after):
    """Check that one op, or what stands for it, waits for another on the same slot."""
    same = onnx_tools.get_meta(earlier, keys.SLOT) == onnx_tools.get_meta(later, keys.SLOT)
    if not same or {earlier.op_type, later.op_type} == {"Params"}:
        return
    lines = [line(regions, onnx_tools.get_meta(n, keys.REGION)) for n in (earlier, later)]
    common = next((region for region in lines[0] if region in lines[1]), None)
    if common is None:
        return  # frames of their own
    first, second = (
        node if ways[0] == common else blocks[ways[ways.index(common) - 1]]
        for node, ways in zip((earlier, later), lines, strict=True)
    )
    if first is not second:
        assert first.output[0] in after[second.output[0]]


def test_names_of_regions_count_in_the_hash(compiled):
    class Named(Module):
        model = slots.Model()

        def __init__(self, name):
            super().__init__()
            self.name = name

        def body(self, g):
            with g.loop(2, name=self.name):
                self.model.params(g)

    first, second, again = (compiled(Named(name)).functions[0].name for name in ("a", "b", "a"))

    assert first != second
    assert first == again


def test_options_of_blocks_count_in_the_hash(compiled):
    class Often(Module):
        model = slots.Model()

        def __init__(self, **options):
            super().__init__()
            self.options = options

        def body(self, g):
            with g.rounds(**self.options):
                self.model.params(g)

    names = {
        compiled(Often(**options)).functions[0].name
        for options in ({}, {"times": 2}, {"times": 3}, {"width": 2}, {"on_fail": "continue"})
    }

    assert len(names) == 5
