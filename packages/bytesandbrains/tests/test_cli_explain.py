"""`bb explain`: bytes and cohorts, the page, and how it reads where the screen is narrow."""

import pytest
from rich.cells import cell_len

TYPED = """\
import bytesandbrains as bb


class Typed(bb.Module):
    peer_class = "server"
    bindings = {"clients": "static", "backend": "numpy"}
    clients = bb.slots.PeerSelector(of="client")
    backend = bb.slots.Backend()

    def body(self, g):
        weights = g.input("weights", "params(w:tensor(float32)[128,64])")
        rows = g.input("rows", "tensor(float32)[n,8]")
        got, batch = g.net_out("work", self.clients.current_view(g), weights, rows)
        mean = self.backend.reduce_mean(g, batch, axes=[0])
        reply = g.net_out("answer", g.sender(got), mean)
        g.output("count", g.gather(reply, deadline="5s").count)
"""


@pytest.fixture
def typed(tmp_path):
    path = tmp_path / "typed.py"
    path.write_text(TYPED)
    return path.name


def words_of(line):
    return line.split()


def edge_line(done, name):
    return next(line for line in done.out.splitlines() if line.startswith(f"{name} "))


def test_bytes_and_counts_of_each_edge_are_told(bb, typed):
    done = bb("explain", typed, "--cohort", "client=10", "--dim", "n=100")

    assert done.code == 0
    # 32,896 bytes of an image; 3,200 of a tensor, which stands in the header.
    assert words_of(edge_line(done, "work"))[5:-2] == [
        "36,096", "32,896", "36,228-36,269", "10", "10",
    ]  # fmt: skip
    assert words_of(edge_line(done, "answer"))[4:6] == ["32", "0"]
    assert "one round with client=10, n=100 sends 20 envelopes, 3" in done.out


def test_what_is_not_known_is_a_formula_or_a_reason(bb, typed):
    done = bb("explain", typed)

    assert "32*n + 32,896" in edge_line(done, "work")
    assert "? work: work.1 has any length along n" in done.out
    assert "one round sends 2 envelopes; the bytes of work are not known" in done.out
    assert "one peer assumed where the program leaves it open: --cohort client=N" in done.out


def test_json_holds_bounds_and_reasons(bb, typed):
    told = bb("explain", typed, "--json", "--cohort", "client=3", "--dim", "n=1").json

    work, answer = told["edges"]
    assert work["bytes"]["payload"]["least"] == work["bytes"]["payload"]["most"] > 0
    assert (work["per_frame"], answer["per_round"], work["fan_out"]) == (3, 3, "cohort")
    assert told["round"]["envelopes"] == 6
    assert told["round"]["unknown"] == []


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_page_is_written(bb, typed, tmp_path, options):
    done = bb("explain", typed, "--html", "page.html", *options)

    assert done.code == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    if options:
        assert done.json["module"] == "Typed"
    else:
        assert done.out == "wrote page.html\n"


def test_page_of_an_artifact_is_written_again_byte_by_byte(bb, typed, tmp_path):
    bb("compile", typed, "-o", "a.onnx")
    for name in ("a.html", "b.html"):
        assert bb("explain", "a.onnx", "--html", name).code == 0

    page = (tmp_path / "a.html").read_bytes()
    assert page == (tmp_path / "b.html").read_bytes()
    assert b"explain the Module to see it" in page


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (["--cohort", "clinet=3"], 3, "did you mean 'client'"),
        (["--cohort", "client=many"], 2, "'many' is not a number"),
        (["--cohort", "client"], 2, "NAME=VALUE"),
        (["--dim", "m=3"], 3, "dims 'm' is not in this program"),
        (["--html", "no/such/page.html"], 3, "cannot be written"),
    ],
)
def test_wrong_option_is_told_apart(bb, typed, options, code, told):
    done = bb("explain", typed, *options)

    assert done.code == code
    assert told in done.err


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_line_is_wider_than_the_screen(bb, typed, monkeypatch, width):
    from bytesandbrains.cli._screen import Screen

    made = Screen.__init__

    def narrow(self):
        made(self)
        self._console.width = width

    monkeypatch.setattr(Screen, "__init__", narrow)

    done = bb("explain", typed, "--dim", "n=4")

    assert done.code == 0
    assert max(map(cell_len, done.out.splitlines())) <= width
    # Names, figures and places are whole, wherever they stand.
    for told in ("Typed.client", "32,896", "reduce", "typed.py:13", "placed by cursor", "static"):
        assert told in done.out.replace("ReduceMean", "reduce")


MOVED = """\
import bytesandbrains as bb


class Moved(bb.Module):
    peer_class = "server"
    bindings = {"clients": "static", "model": "mlp"}
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()

    def body(self, g):
        weights = self.model.params(g)
        got = g.net_out("work", self.clients.current_view(g), weights)
        self.model.load_params(g, got)
        self.model.load_params(g, weights)  # on the server: its weights are there
"""


def test_op_that_its_inputs_took_to_another_class_is_listed(bb, tmp_path):
    (tmp_path / "moved.py").write_text(MOVED)

    done = bb("explain", "moved.py")

    listed = done.out.partition("placed by inputs, away from the cursor (")[2].splitlines()
    assert listed[1:3] == ["  model.LoadParams on server (moved.py:14)", ""]


def test_no_op_is_listed_where_inputs_and_text_agree(bb, typed):
    assert "away from the cursor" not in bb("explain", typed).out
