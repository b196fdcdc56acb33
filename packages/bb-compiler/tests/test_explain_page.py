"""The page and the drawing, without a browser: `tests/browser` opens them in one."""

import re
from dataclasses import replace

import pytest

import bytesandbrains as bb
from bb_compiler.explain._layout import GAP, LANE, fit, lay_out
from bb_compiler.explain._style import STYLE


class Ring(bb.Module):
    peer_class = "peer"
    others = bb.slots.PeerSelector(of="peer")
    backend = bb.slots.Backend()

    def __init__(self, hops=1, ops=0):
        super().__init__()
        self.hops = hops
        self.ops = ops

    def body(self, g):
        value = g.input("x", "tensor(float32)[4]")
        for number in range(self.hops):
            value = g.net_out(f"hop{number}", self.others.sample(g, 1), value)
        for _ in range(self.ops):
            g.output(f"y{_}", value)


class Blocks(bb.Module):
    peer_class = "server"
    clients = bb.slots.PeerSelector(of="client")

    def body(self, g):
        flag = g.input("flag", "bool")
        with g.when(flag):
            g.net_out("inside", self.clients.sample(g, 2))
        with g.every("5s"):
            g.net_out("hello", self.clients.current_view(g))


@pytest.fixture(scope="module")
def compiler():
    return bb.Compiler().bind_peer_selector("others", "static")


@pytest.fixture(scope="module")
def fedavg():
    compiler = bb.Compiler().bind_peer_selector("peers", "static").bind_model("model", "mlp")
    compiler.bind_data_source("data", "digits").bind_aggregator("aggregator", "fedavg")
    return compiler.explain(bb.programs.FederatedAveraging(8).build())


@pytest.fixture(scope="module")
def blocks():
    return bb.Compiler().bind_peer_selector("clients", "static").explain(Blocks().build())


def test_equal_explanations_give_equal_pages(fedavg):
    assert fedavg.to_html() == replace(fedavg).to_html()


def test_page_asks_for_nothing_and_runs_only_its_own_script(fedavg):
    page = fedavg.to_html()

    assert "://" not in page
    assert "default-src 'none'" in page
    assert len(re.findall("<script", page)) == 1
    assert not re.findall(r"<[^>]*\s(src|href|on\w+)=", page)


def test_page_lists_targets_bindings_edges_ops_and_passes(fedavg):
    page = fedavg.to_html()

    rows = {kind: len(re.findall(f'<tr data-k="{kind}', page)) for kind in ("e", "o")}
    assert rows["e"] == len(fedavg.edges) == 2
    assert rows["o"] == sum(len(r.ops) for t in fedavg.targets for r in t.regions)
    for told in ("FederatedAveraging.client", "mlp", "partition_by_class", "1 -&gt; 2 functions",
                 "the fields of the record update.1 are not known"):  # fmt: skip
        assert told in page


def test_drawing_of_a_notebook_leaves_the_rest_of_it_alone(fedavg):
    shown = fedavg._repr_html_()

    style = re.search("<style>(.*)</style>", shown, re.DOTALL)[1]
    selectors = [part for rule in re.findall(r"([^{}]+){", style) for part in rule.split(",")]
    assert all(".bb-explain" in one or one.strip().startswith("@media") for one in selectors)
    assert style.strip() == STYLE
    assert not re.findall(r"<script|\sid=|<body|<html", shown)
    assert shown.count('class="bb-edge') == 2


def test_gossip_goes_to_another_peer_of_the_class(compiler):
    out = lay_out(compiler.explain(Ring().build()))

    assert [lane.peer_class for lane in out.lanes] == ["peer", "peer"]
    assert [lane.note != "" for lane in out.lanes] == [False, True]
    (arrow,) = out.arrows
    assert (arrow.start, arrow.end) == (out.lanes[0].x + LANE, out.lanes[1].x)


def test_children_stand_inside_their_parent(fedavg):
    out = lay_out(fedavg)

    main, weights, update = (
        next(box for box in out.boxes if box.title == name)
        for name in ("main", "weights", "update")
    )
    assert main.x < update.x < update.x + update.width < main.x + main.width
    assert main.y < weights.y < update.y < update.y + update.height < main.y + main.height
    assert weights.x == main.x + LANE + GAP


def test_rows_stand_in_their_box_and_no_two_at_one_height(fedavg):
    out = lay_out(fedavg)

    heights = [row.y for row in out.rows]
    assert len(set(heights)) == len(heights)
    assert heights == sorted(heights)
    assert all(
        any(
            box.x <= row.x and row.x + row.width <= box.x + box.width
            and box.y < row.y < box.y + box.height
            for box in out.boxes
        )
        for row in out.rows
    )  # fmt: skip


def test_blocks_are_drawn_where_they_stand_and_say_their_kind(blocks):
    out = lay_out(blocks)

    boxes = {box.title: box for box in out.boxes}
    main, when, every = boxes["main"], boxes["@when"], boxes["@every"]
    assert main.y < when.y < when.y + when.height < main.y + main.height < every.y
    assert when.note.startswith("when")
    assert every.note.startswith("every")
    assert {arrow.edge.name for arrow in out.arrows} == {"inside", "hello"}
    regions = {r.name: r for t in blocks.targets for r in t.regions}
    assert regions["@when"].options["kind"] == "when"
    assert "inside a frame of main; when; within" in blocks.to_html()


def test_blocks_take_one_turn_a_round(blocks):
    assert {e.name: e.per_round for e in blocks.edges} == {"inside": 2, "hello": 1}


def test_long_run_of_ops_is_shortened_in_the_drawing_and_whole_in_the_table(compiler):
    told = compiler.explain(Ring(ops=40).build())

    out = lay_out(told)

    assert "… 32 more ops" in [row.text for row in out.rows]
    assert told.to_html().count("Output(") >= 40


def test_long_chain_of_messages_ends_in_the_drawing_and_not_in_the_count(compiler):
    told = compiler.explain(Ring(hops=80).build())

    out = lay_out(told)

    assert len(told.edges) == told.round.envelopes == 80
    assert 0 < len(out.arrows) < 80
    assert told.to_html()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("short", "short"), ("x" * 11, "xxxxxxxxx…"), ("名" * 6, "名名名名…"), ("", "")],
)
def test_text_is_cut_to_its_room(text, shown):
    assert fit(text, 10 * 6.65) == shown
