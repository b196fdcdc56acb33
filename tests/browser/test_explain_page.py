"""The page of `bb explain --html`, as a browser sees it."""

import re
from dataclasses import replace

import pytest
from matplotlib.image import imread

import bytesandbrains as bb

pytestmark = pytest.mark.browser


def binds(**components):
    return [word for slot, name in components.items() for word in ("--bind", f"{slot}={name}")]


LEARNING = {"model": "mlp", "data": "digits", "aggregator": "fedavg"}
#: Program, options, and how many lanes and arrows its drawing has.
PROGRAMS = {
    "one class": (
        "quickstart.py:FederatedClient", binds(model="mlp", data_source="digits"), 1, 0,
    ),
    "two classes": (
        "bytesandbrains.programs:FederatedAveraging",
        [*binds(peers="static", test="digits", **LEARNING), "--arg", "cohort=8",
         "--arg", "evaluate=True"],
        2, 2,
    ),
    "three classes": (
        "hierarchical.py:Hierarchy",
        binds(edges="static", clients="static", test="digits", **LEARNING), 3, 4,
    ),
    "gossip": ("gossip.py:Gossip", binds(neighbour="static", test="digits", **LEARNING), 2, 1),
    "formula": ("two_classes.py:Monitoring", binds(stations="static", backend="numpy"), 2, 2),
}  # fmt: skip

LOOK = """
  var svg = document.querySelector(".bb-explain svg");
  var whole = svg.getBoundingClientRect();
  function box(node) { return node.getBoundingClientRect(); }
  function inside(a, b) {
    return a.left >= b.left - 1 && a.right <= b.right + 1 && a.top >= b.top - 1 &&
      a.bottom <= b.bottom + 1;
  }
  function meet(a, b) {
    return a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 &&
      b.top < a.bottom - 1;
  }
  var texts = Array.from(svg.querySelectorAll("text")).filter(function (text) {
    return text.textContent;
  });
  var overlaps = [], outside = [], across = [];
  texts.forEach(function (one, i) {
    if (!inside(box(one), whole)) { outside.push(one.textContent); }
    texts.slice(i + 1).forEach(function (other) {
      if (meet(box(one), box(other))) { overlaps.push([one.textContent, other.textContent]); }
    });
  });
  svg.querySelectorAll(".bb-region, .bb-lane, .bb-op").forEach(function (group) {
    var frame = box(group.querySelector("rect"));
    group.querySelectorAll("text").forEach(function (text) {
      if (!inside(box(text), frame)) { across.push(text.textContent); }
    });
  });
  var boxes = Array.from(svg.querySelectorAll(".bb-region > rect")).map(box);
  var crossing = boxes.filter(function (one, i) {
    return boxes.slice(i + 1).some(function (other) {
      return meet(one, other) && !inside(one, other) && !inside(other, one);
    });
  }).length;
  var missed = Array.from(svg.querySelectorAll(".bb-edge .bb-head")).filter(function (head) {
    var tip = box(head);
    return !boxes.some(function (one) {
      return Math.min(Math.abs(tip.left - one.right), Math.abs(tip.right - one.left),
        Math.abs(tip.left - one.left), Math.abs(tip.right - one.right)) < 2 &&
        tip.top >= one.top && tip.bottom <= one.bottom;
    });
  }).length;
  return {
    title: document.title,
    ready: document.documentElement.getAttribute("data-ready"),
    lanes: svg.querySelectorAll(".bb-lane").length,
    arrows: svg.querySelectorAll(".bb-edge").length,
    ops: svg.querySelectorAll(".bb-op").length,
    rows: document.querySelectorAll("tr[data-k^=o]").length,
    overlaps: overlaps, outside: outside, across: across, crossing: crossing, missed: missed,
    wide: document.documentElement.scrollWidth - window.innerWidth,
    width: window.innerWidth,
  };
"""


@pytest.fixture(params=PROGRAMS)
def program(request, page_of):
    spec, options, lanes, arrows = PROGRAMS[request.param]
    return page_of(spec, *options), lanes, arrows


def test_drawing_is_there_and_nothing_lies_on_anything_else(chromium, program):
    page, lanes, arrows = program

    found = chromium.probe(page, LOOK)

    assert found["wrong"] == []
    assert found["ready"] == "true"
    assert (found["lanes"], found["arrows"]) == (lanes, arrows)
    assert 0 < found["ops"] <= found["rows"]
    for fault in ("overlaps", "outside", "across"):
        assert found[fault] == []
    assert (found["crossing"], found["missed"]) == (0, 0)


def test_page_fits_a_phone(chromium, program):
    found = chromium.probe(program[0], LOOK, width=500)

    assert found["width"] == 500
    assert found["wide"] <= 0


def test_script_runs_under_the_policy_of_the_page(chromium, page_of):
    spec, options, *_ = PROGRAMS["two classes"]

    dom = chromium.dom(page_of(spec, *options))

    assert re.search(r'<html[^>]* data-ready="true"', dom)


POINT = """
  var root = document.querySelector(".bb-explain");
  var told = root.querySelector(".bb-told");
  var hint = told.textContent;
  function hot() { return root.querySelectorAll(".bb-hot").length; }
  var edge = root.querySelector(".bb-edge");
  edge.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  var pointed = [told.textContent, hot()];
  root.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  var left = [told.textContent === hint, hot()];
  edge.dispatchEvent(new MouseEvent("click", { bubbles: true }));
  root.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  var kept = [told.textContent, hot()];
  root.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
  return { pointed: pointed, left: left, kept: kept, ended: hot() };
"""


def test_edge_is_highlighted_and_explained(chromium, page_of):
    spec, options, *_ = PROGRAMS["two classes"]

    found = chromium.probe(page_of(spec, *options), POINT)

    told, lit = found["pointed"]
    assert "weights: server → client" in told
    assert "8 per frame (as many as are sampled)" in told
    assert lit == 2  # the arrow and its row
    assert found["left"] == [True, 0]
    assert found["kept"] == [told, 2]
    assert (found["ended"], found["wrong"]) == (0, [])


def test_page_is_light_or_dark_as_the_reader_is(chromium, page_of, tmp_path):
    spec, options, *_ = PROGRAMS["gossip"]
    page = page_of(spec, *options)

    light = imread(chromium.picture(page, tmp_path / "light.png"))
    dark = imread(chromium.picture(page, tmp_path / "dark.png", dark=True))

    assert light[2, 2, :3].min() > 0.9
    assert dark[2, 2, :3].max() < 0.2
    for picture in (light, dark):  # something is drawn on the ground
        assert picture[:, :, :3].std() > 0.05


NASTY = '"><img src=x onerror="document.title=1"></text><script>document.title=2</script>'


def disguised(told, name):
    """Return an explanation in which everything that a stranger chooses is called `name`."""

    def called(old):
        return name + old if old else ""

    def op(one):
        ports = tuple(replace(port, name=name, type=name[:40]) for port in one.outputs)
        odd = {"slot": name, "inputs": (name,), "outputs": ports, "source": name}
        return replace(one, **odd, edge=called(one.edge), attributes={"name": name})

    def region(one):
        names = {key: called(getattr(one, key)) for key in ("name", "parent", "opened_in")}
        return replace(one, ops=tuple(map(op, one.ops)), options={"kind": name}, **names)

    def target(one):
        bindings = tuple(replace(row, slot=name, component=name) for row in one.bindings)
        regions = tuple(map(region, one.regions))
        odd = {"name": name, "hash": name, "peer_class": called(one.peer_class)}
        return replace(one, **odd, bindings=bindings, regions=regions)

    def edge(one):
        names = ("name", "source_class", "target_class", "sent_in", "answers")
        odd = {key: called(getattr(one, key)) for key in names}
        weighed = replace(one.bytes, formula=name, unknown=(name,))
        return replace(one, **odd, source=name, bytes=weighed)

    stages = tuple(replace(stage, name=name, changes=(name,)) for stage in told.stages)
    return replace(
        told, module=name, program=name, targets=tuple(map(target, told.targets)),
        edges=tuple(map(edge, told.edges)), stages=stages, cohort={name: 3},
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [NASTY, "名" * 200, "W" * 300, "a\u202eb\x00c\ud800"],
    ids=["markup", "wide", "long", "unseen"],
)
def test_names_of_strangers_are_shown_and_do_nothing_else(chromium, tmp_path, name):
    compiler = bb.Compiler().bind_peer_selector("peers", "static").bind_model("model", "mlp")
    compiler.bind_data_source("data", "digits").bind_aggregator("aggregator", "fedavg")
    told = compiler.explain(bb.programs.FederatedAveraging(4).build())
    page = tmp_path / "page.html"
    page.write_text(disguised(told, name).to_html())

    found = chromium.probe(page, LOOK)

    assert found["title"] not in {"1", "2"}
    assert (found["ready"], found["wrong"]) == ("true", [])
    assert (found["lanes"], found["arrows"]) == (2, 2)
    for fault in ("overlaps", "outside", "across"):
        assert found[fault] == []
