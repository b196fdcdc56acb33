"""A stage of the compiler that somebody else published: found, named, run and recorded."""

import importlib
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

import bytesandbrains as bb
from bb_compiler.errors import RefusedByStage, UnknownStage
from bb_roles.registry import installed, stage_spec
from bb_testing import StageSuite

PACKAGE = Path(__file__).parent / "third_party" / "acme-house-rules"


class Compressed(bb.Module):
    """A round in which parameters travel in 8 bits, or not."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    codec = bb.slots.Codec()
    aggregator = bb.slots.Aggregator()

    def __init__(self, how: str = "encoded") -> None:
        super().__init__()
        self.how = how

    def body(self, g: bb.Graph) -> None:
        weights = self.codec.encode(g, self.model.params(g))
        received = g.net_out("weights", self.peers.current_view(g), weights)
        self.model.load_params(g, self.codec.decode(g, received))
        metrics = self.model.fit(g, self.data.batches(g))
        answer = self.packed(g, metrics)
        update = g.net_out("update", g.sender(received), answer)
        done = g.gather(update, values=True, deadline="5s")
        g.output("answers", done.values)

    def packed(self, g: bb.Graph, metrics: bb.Output) -> bb.Output:
        """Return what a client answers with."""
        own = self.model.params(g)
        small = self.codec.encode(g, own)
        match self.how:
            case "raw":
                return own
            case "hidden":
                return g.record(small=small, own=own)
            case "unpacked":
                return self.codec.decode(g, small)
            case _:
                return g.record(small=small, metrics=metrics)


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Install the package as pip would."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    site = tmp_path / "site-packages"
    shutil.copytree(PACKAGE / "src", site, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"acme_house_rules-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["bytesandbrains.v1"]
    rows = [f"{name} = {module}" for name, module in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[bytesandbrains.v1]", *rows, ""]))
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme_rules"]:
        del sys.modules[name]


def compiler() -> bb.Compiler:
    return (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .bind_codec("codec", "quantize")
        .bind_aggregator("aggregator", "fedavg")
    )


def notes(artifact) -> dict[str, str]:
    return {note.key: note.value for note in artifact.metadata_props}


def test_it_is_listed_and_nothing_is_imported(publish):
    (row,) = [one for one in installed("stage") if one.name == "encoded_params"]

    assert (row.distribution, row.version) == ("acme-house-rules", "2.0.1")
    assert "acme_rules" not in sys.modules


def test_to_be_installed_is_not_enough_to_run(publish):
    artifact = compiler().compile(Compressed("raw").build())

    assert "encoded_params" not in notes(artifact)["ai.bytesandbrains.stages"]
    assert "acme_rules" not in sys.modules


def test_artifact_says_that_it_ran_and_in_which_version(publish):
    stages = compiler().insert_stage("encoded_params")

    told = notes(stages.compile(Compressed().build()))

    assert "solve_types,encoded_params," in told["ai.bytesandbrains.stages"]
    assert told["ai.bytesandbrains.stage.encoded_params"] == "acme-house-rules 2.0.1"


@pytest.mark.parametrize("how", ["raw", "hidden", "unpacked"])
def test_program_that_sends_raw_parameters_does_not_compile(publish, how):
    with pytest.raises(RefusedByStage) as caught:
        compiler().insert_stage("encoded_params").compile(Compressed(how).build())

    told = str(caught.value)
    assert "stage 'encoded_params' refuses the program: edge 'update' carries raw" in told
    assert 'update = g.net_out("update", g.sender(received), answer)' in told
    assert "fix: send self.codec.encode(g, params)" in told


def test_artifact_of_a_checked_program_runs(publish):
    artifact = compiler().insert_stage("encoded_params").compile(Compressed().build())
    config = {
        "model": {"layers": [64, 10]},
        "data": lambda i: {"partition": "iid", "clients": 2, "client": i},
    }

    answers = bb.LocalFederation(artifact, nodes={"client": 2}, config=config).run()["answers"]

    assert [sorted(answer) for answer in answers] == [["metrics", "small"]] * 2


def test_without_the_package_the_name_is_unknown():
    with pytest.raises(UnknownStage, match="there is no stage 'encoded_params'"):
        compiler().insert_stage("encoded_params")


@pytest.mark.usefixtures("publish")
class TestEncodedParams(StageSuite):
    def spec(self):
        return stage_spec("encoded_params")

    def compiler(self):
        return compiler()

    def program(self):
        return Compressed().build()

    def refused(self):
        return [Compressed(how).build() for how in ("raw", "hidden", "unpacked")]
