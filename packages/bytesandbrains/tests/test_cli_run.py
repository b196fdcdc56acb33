"""`bb run`: whole federations from the command line."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file

from bb_ir import keys
from bytesandbrains._files import CannotWrite
from bytesandbrains.journal import FileJournal

BINDS = ["--bind", "clients=static", "--bind", "data=digits"]


def test_artifact_runs_with_parts_of_the_data(bb, artifact):
    done = bb("run", artifact, "--config", "mine.toml", "--nodes", "client=4", "--rounds", 2)

    assert done.code == 0
    assert done.out.startswith("Mine: 1 server, 4 client; 2 rounds\n")
    assert "round 2  server  round: count=4 examples=1438 loss=" in done.out
    assert "4 tensors, 2,410 elements, sha256 " in done.out


def test_a_journal_that_ends_early_is_told(bb, artifact, monkeypatch):
    asked = [artifact, "--config", "mine.toml", "--nodes", "client=2"]
    write_parts = FileJournal.write_parts

    def fill_up(self, parts):
        if self._folder.name == "client-1":
            raise CannotWrite("no space left on device")
        return write_parts(self, parts)

    monkeypatch.setattr(FileJournal, "write_parts", fill_up)

    done = bb("run", *asked, "--journal", "night")
    told = bb("run", *asked, "--journal", "other", "--json").json

    assert done.code == 0
    assert "the journal of client[1] ended early: CannotWrite; is the disk full?" in done.out
    assert "dropped" not in done.out
    assert told["rounds"][0]["journals_stopped"] == {"client[1]": "CannotWrite"}
    assert told["rounds"][0]["refused"] == 0


def test_module_runs_without_an_artifact(bb, program, tmp_path):
    done = bb("run", program, *BINDS, "--config", "mine.toml", "--peers", 3)

    assert done.code == 0
    assert not list(tmp_path.glob("*.onnx"))


ROUNDS = """\
import bytesandbrains as bb


class Many(bb.Module):
    peer_class = "server"
    bindings = {"model": "mlp", "aggregator": "fedavg", "peers": "static", "data": "digits"}
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def body(self, g):
        g.output("begun", self.model.params(g))
        with g.rounds(3):
            cohort = self.peers.sample(g, 4)
            received = g.net_out("weights", cohort, self.model.params(g))
            metrics = self.model.fit(g, self.data.batches(g, after=received))
            g.output("here", metrics)
            reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
            done = g.gather(self.aggregator.contribute(g, *reply))
            averaged, summary = self.aggregator.aggregate(g, after=done)
            self.model.load_params(g, averaged)
            g.output("round", summary)
"""


@pytest.fixture
def many(tmp_path):
    (tmp_path / "many.py").write_text(ROUNDS)
    return "many.py"


def test_rounds_of_the_program_are_counted(bb, many):
    done = bb("run", many, "--nodes", "client=4")

    assert done.code == 0
    assert done.out.startswith("Many: 1 server, 4 client; 1 run\nrun 1  server  begun:")
    for number in (1, 2, 3):
        assert f"round  {number}  server  round: count=4" in done.out
        assert f"round  {number}  client[3]  here: examples=" in done.out
    assert "sample" not in done.out


def test_rounds_of_several_runs_say_which_run(bb, many):
    done = bb("run", many, "--nodes", "client=4", "--rounds", 2)

    assert "run 2 round  3  server  round: count=4" in done.out
    told = bb("run", many, "--nodes", "client=4", "--rounds", 2, "--json").json
    turns = [one.get("turn") for one in told["rounds"][1]["outputs"] if one["name"] != "here"]
    assert turns == [None, 1, 2, 3]


def test_cohort_that_is_smaller_than_asked_for_is_told(bb, many):
    done = bb("run", many)

    assert done.code == 0
    assert "run 1  slot 'peers' knows fewer than the 4 peers of its sample" in done.out
    assert "(--nodes client=4 makes as many)" in done.out
    told = bb("run", many, "--json").json
    assert told["rounds"][0]["short_samples"] == ["peers"]
    assert told["rounds"][0]["refused"] == 0


def test_model_is_saved_as_safetensors(bb, artifact, tmp_path):
    done = bb("run", artifact, "--config", "mine.toml", "--save-model", "m.safetensors")

    assert done.code == 0
    assert done.out.endswith("wrote m.safetensors\n")
    weights = load_file(tmp_path / "m.safetensors")
    assert weights["layers.0.weight"].shape == (32, 64)


NO_MODEL = """\
import bytesandbrains as bb


class Clock(bb.Module):
    def body(self, g):
        g.output("now", g.now())
"""


def test_model_of_a_program_without_one_is_refused_before_it_runs(bb, tmp_path):
    (tmp_path / "clock.py").write_text(NO_MODEL)

    done = bb("run", "clock.py", "--save-model", "m.safetensors")

    assert done.code == 3
    assert "class 'Clock' has no models" in done.err
    assert "now" not in done.out
    assert not (tmp_path / "m.safetensors").exists()


def test_json_holds_rounds_and_describes_tensors(bb, artifact):
    told = bb("run", artifact, "--config", "mine.toml", "--rounds", 2, "--json").json

    assert told["ok"] is True
    assert told["nodes"] == {"server": 1, "client": 2}
    last = {output["name"]: output["value"] for output in told["rounds"][1]["outputs"]}
    assert last["round"]["count"] == 2
    assert last["params"]["tensors"]["layers.0.weight"] == {
        "dtype": "float32",
        "shape": [32, 64],
    }


def test_same_seed_gives_the_same_output(bb, artifact):
    first, again, other = (
        bb("run", artifact, "--config", "mine.toml", "--seed", seed).out for seed in (5, 5, 6)
    )

    assert first == again
    assert first != other


def test_configuration_of_one_node_wins_field_by_field(bb, artifact, tmp_path):
    (tmp_path / "c.json").write_text(
        json.dumps({"data": {"split": "test"}, "client.0.data": {"split": "train"}})
    )

    told = bb("run", artifact, "--config", "c.json", "--json").json

    assert told["rounds"][0]["outputs"][0]["value"]["examples"] == 1438 + 359


def test_place_of_the_model_is_looked_at_before_it_is_trained(bb, artifact):
    done = bb("run", artifact, "--config", "mine.toml", "--save-model", "no/m.safetensors")

    assert done.code == 2
    assert "there is no folder 'no'" in done.err
    assert "round" not in done.out


def test_failure_is_told_with_node_component_and_line(bb, artifact, tmp_path):
    (tmp_path / "c.toml").write_text("[client.model]\nlayers = [64, 5, 10]\n")

    done = bb("run", artifact, "--config", "c.toml", "--rounds", 3)

    assert done.code == 1
    assert "error[OpFailed]: LoadParams of slot 'model' (mlp) failed on client[0]" in done.err
    assert "--> mine.py:18" in done.err
    assert "self.model.load_params(g, received)" in done.err
    assert "round 2" not in done.out


WRITES = """\
import bytesandbrains as bb
from bb_roles import Codec


class InPlace(Codec):
    def encode(self, ctx, value):
        value["layers.0.bias"][:] = 0

    def decode(self, ctx, encoded):
        return encoded


class Encodes(bb.Module):
    bindings = {"model": "mlp", "codec": InPlace}
    model = bb.slots.Model()
    codec = bb.slots.Codec()

    def body(self, g):
        g.output("encoded", self.codec.encode(g, self.model.params(g)))
"""


def test_failure_of_a_component_says_its_line_and_how_to_see_the_traceback(bb, tmp_path):
    (tmp_path / "writes.py").write_text(WRITES)

    done = bb("run", "writes.py")

    assert done.code == 1
    assert "--> writes.py:7" in done.err
    assert "fix: parameters and inputs are lent" in done.err
    assert "-vv shows the whole traceback" in done.err


def test_failure_in_json_says_the_same(bb, artifact, tmp_path):
    (tmp_path / "c.toml").write_text("[client.model]\nlayers = [64, 5, 10]\n")

    done = bb("run", artifact, "--config", "c.toml", "--json")

    assert done.code == 1
    assert done.json["ok"] is False
    assert done.json["rounds"][0]["failures"][0]["code"] == "OpFailed"


ECHO = """\
import bytesandbrains as bb


class Echo(bb.Module):
    peer_class = "a"

    def body(self, g):
        x = g.input("x", bb.tensor("float32", (None,)))
        who = g.peers("who", of="b")
        got = g.net_out("there", who, x)
        back = g.net_out("back", g.sender(got), got)
        done = g.gather(back, values=True)
        g.output("n", done.count)
        g.output("all", done.values)
"""


@pytest.mark.parametrize("text", ["[1.0, 2.0, 3.0]", "@x.npy"])
def test_inputs_are_read_and_peers_filled_in(bb, tmp_path, text):
    (tmp_path / "echo.py").write_text(ECHO)
    np.save(tmp_path / "x.npy", np.arange(3, dtype=np.float32))

    done = bb("run", "echo.py", "--input", f"x={text}", "--nodes", "b=3", "--json")

    outputs = {o["name"]: o["value"] for o in done.json["rounds"][0]["outputs"]}
    assert done.code == 0
    assert outputs["n"] == 3
    assert [one["shape"] for one in outputs["all"]] == [[3]] * 3


CONFIGS = {
    "unknown slot": ("[modle]\nlr = 1.0\n", "BadConfigFile", "did you mean [model]?"),
    "unknown field": ("[model]\nlrr = 1.0\n", "ConfigTypeMismatch", "did you mean 'lr'?"),
    "wrong type": ('[model]\nlr = "fast"\n', "ConfigTypeMismatch", "lr"),
    "wrong value": ("[client.data]\ntest_fraction = 7.0\n", "ConfigTypeMismatch", "test_fraction"),
    "no such node": ("[client.9.data]\nsplit = 'all'\n", "BadConfigFile", "--nodes client=10"),
    "class without the slot": ("[server.data]\nsplit = 'all'\n", "BadConfigFile", "[client.data]"),
    "value without a table": ("lr = 1.0\n", "BadConfigFile", "'lr'"),
    "no toml": ("[model\n", "BadConfigFile", "TOML"),
    "too deep": ("model = " + "[" * 5_000, "BadConfigFile", "TOML"),
    "no number": (f"[client.{'9' * 5_000}.data]\n", "BadConfigFile", "no table of a slot"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_configuration_has_code_place_and_fix(bb, artifact, tmp_path, case):
    text, code, told = CONFIGS[case]
    (tmp_path / "c.toml").write_text(text)

    done = bb("run", artifact, "--config", "c.toml")

    assert done.code == 3
    assert f"error[{code}]: " in done.err
    assert "c.toml" in done.err
    assert told in done.err


BAD = {
    "no config file": (["--config", "no.toml"], 3, "BadConfigFile"),
    "other config file": (["--config", "mine.py"], 3, "BadConfigFile"),
    "unknown class": (["--nodes", "clint=3"], 3, "InstallError"),
    "no nodes": (["--nodes", "client=0"], 2, "at least 1"),
    "unknown target": (["--target", "Mien"], 3, "UnknownTarget"),
    "target of a class": (["--target", "Mine.client"], 3, "InstallError"),
    "unknown input": (["--input", "x=3"], 3, "InvalidInput"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_option_is_refused(bb, artifact, case):
    options, code, told = BAD[case]

    done = bb("run", artifact, *options)

    assert done.code == code
    assert told in done.err


def test_model_that_was_not_compiled_is_told_what_is_missing(bb, program, tmp_path):
    more = "\nimport onnx\nonnx.save(Mine().build(), 'recorded.onnx')\n"
    program.write_text(program.read_text() + more)
    bb("compile", program, *BINDS)

    done = bb("run", "recorded.onnx")

    assert done.code == 3
    assert "error[UnboundSlot]" in done.err
    assert "--bind model=mlp" in done.err


def test_truncated_artifact_is_refused(bb, artifact, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(artifact.read_bytes()[:-100])

    done = bb("run", "cut.onnx")

    assert done.code == 3
    assert done.err.startswith("error[")


@pytest.mark.parametrize("command", ["run", "explain", "compile"])
def test_model_of_somebody_else_is_refused_by_name(bb, tmp_path, command):
    graph = onnx.helper.make_graph([], "g", [], [])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "other.onnx")

    done = bb(command, "other.onnx")

    assert done.code == 3
    assert done.err.startswith("error[MalformedRecording]")
    assert "--> other.onnx" in done.err


def test_artifact_of_another_version_is_refused_by_name(bb, artifact, tmp_path):
    model = onnx.load(artifact)
    (passport,) = (p for p in model.metadata_props if p.key == keys.COMPILED)
    passport.value = "v99"
    onnx.save(model, tmp_path / "later.onnx")

    done = bb("run", "later.onnx")

    assert done.code == 3
    assert done.err.startswith("error[IncompatibleCompiledVersion]")
    assert "--> later.onnx" in done.err


@pytest.mark.parametrize(
    ("config", "peers", "told"),
    [
        ("[model]\nlr = 0.05", 2, True),
        ("[client.data]\nclient = '{index}'\nclients = '{count}'\npartition = 'iid'", 2, False),
        ("[data]\nsplit = 'train'", 2, False),
        ("", 1, False),
    ],
)
def test_data_that_nobody_split_is_told(bb, artifact, config, peers, told):
    Path("c.toml").write_text(config)

    done = bb("run", artifact, "--config", "c.toml", "--peers", peers)

    assert done.code == 0
    line = (
        "nothing tells the 2 client Nodes which part of the data is theirs: slot 'data' (digits) "
        "has no configuration; --config FILE gives each a part\n"
    )
    assert done.err == (line if told else "")
    assert bb("run", artifact, "--config", "c.toml", "--peers", peers, "--json").json["ok"]


def test_data_that_was_split_when_compiled_is_not_told(bb, program):
    done = bb("compile", program, "-o", "mine.onnx", *BINDS, "--config", "mine.toml")
    assert done.code == 0

    assert bb("run", "mine.onnx").err == ""
