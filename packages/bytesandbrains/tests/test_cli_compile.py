"""`bb compile` and `bb explain`."""

import json

import onnx
import pytest

BINDS = ["--bind", "clients=static", "--bind", "data=digits"]


def test_artifact_is_written_and_described(bb, program):
    done = bb("compile", program, "-o", "a.onnx", *BINDS)

    assert done.code == 0
    assert done.out.startswith("wrote a.onnx (")
    for told in ("Mine.client", "fedavg", "weights", "update"):
        assert told in done.out
    onnx.checker.check_model("a.onnx")


def test_name_of_the_file_is_that_of_the_module(bb, program, tmp_path):
    bb("compile", f"{program}:Mine", *BINDS)

    assert (tmp_path / "Mine.onnx").is_file()


def test_same_program_gives_the_same_bytes(bb, program, tmp_path):
    for name in ("a", "b"):
        bb("compile", program, "-o", f"{name}.onnx", *BINDS)

    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_json_has_targets_edges_and_bindings(bb, program):
    told = bb("compile", program, "-o", "a.onnx", "--json", *BINDS).json

    assert [target["name"] for target in told["targets"]] == ["Mine", "Mine.client"]
    assert [edge["name"] for edge in told["edges"]] == ["weights", "update"]
    bound = {"slot": "data", "role": "data_source", "component": "digits", "config": ""}
    assert bound in told["targets"][1]["bindings"]


def test_binding_of_one_class_wins(bb, program):
    told = bb("compile", program, "--json", *BINDS, "--bind", "client.data=arrays").json

    components = {row["slot"]: row["component"] for row in told["targets"][1]["bindings"]}
    assert components["data"] == "arrays"


def test_option_wins_over_the_modules_own_binding(bb, program):
    done = bb("compile", program, *BINDS, "--bind", "model=mpl")

    assert done.code == 3
    assert "did you mean 'mlp'?" in done.err


def test_binding_of_a_slot_that_is_not_used_is_no_mistake_of_the_module(bb, program):
    text = program.read_text().replace(
        '"aggregator": "fedavg"}', '"aggregator": "fedavg", "test": "digits"}'
    )
    more = "    test = bb.slots.DataSource()\n    model ="
    program.write_text(text.replace("    model =", more, 1))

    assert bb("compile", program, "-o", "a.onnx", *BINDS).code == 0


def test_bindings_that_are_no_dict_are_refused(bb, program):
    text = program.read_text()
    program.write_text(text.replace('{"model": "mlp", "aggregator": "fedavg"}', '"mlp"'))

    done = bb("compile", program, *BINDS)

    assert done.code == 3
    assert "error[NotAProgram]: Mine.bindings is of type str" in done.err


def test_component_may_be_a_class_of_the_users_own_file(bb, program, tmp_path):
    own = "\nfrom bb_model_mlp._mlp import Mlp\n\n\nclass MyModel(Mlp):\n    pass\n"
    program.write_text(program.read_text() + own)
    told = bb("compile", program, "--json", *BINDS, "--bind", "model=mine:MyModel").json

    models = {row["component"] for target in told["targets"] for row in target["bindings"]}
    assert "mine:MyModel" in models


def test_arguments_reach_the_constructor(bb, program):
    bb("compile", program, "-o", "a.onnx", *BINDS, "--arg", "epochs=7")
    told = bb("explain", "a.onnx", "--json").json

    ops = [op for t in told["targets"] for r in t["regions"] for op in r["ops"]]
    assert [op["attributes"] for op in ops if op["name"] == "Batches"] == [{"epochs": 7}]


@pytest.mark.parametrize(
    "name", ["Mine", "made", "factory", "recorded"], ids=["class", "instance", "function", "model"]
)
def test_program_may_be_given_in_four_ways(bb, program, name):
    more = "\nmade = Mine()\nrecorded = Mine().build()\n\n\ndef factory():\n    return Mine()\n"
    program.write_text(program.read_text() + more)

    binds = [*BINDS, "--bind", "model=mlp", "--bind", "aggregator=fedavg"]
    assert bb("compile", f"{program}:{name}", "-o", "a.onnx", *binds).code == 0


def test_module_of_a_package_can_be_named(bb):
    binds = ["peers=static", "model=mlp", "data=digits", "aggregator=fedavg"]
    options = [word for bind in binds for word in ("--bind", bind)]

    done = bb(
        "compile", "bytesandbrains.programs:FederatedAveraging", "--arg", "cohort=3", *options
    )

    assert done.code == 0


def test_file_with_the_name_of_a_module_of_python_is_read_all_the_same(bb, program, tmp_path):
    (tmp_path / "json.py").write_text(program.read_text())

    assert bb("compile", "json.py", "-o", "a.onnx", *BINDS).code == 0


def test_compiled_program_compiles_to_itself(bb, artifact, tmp_path):
    done = bb("compile", artifact, "-o", "again.onnx")

    assert done.code == 0
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / artifact).read_bytes()


def test_explain_lists_every_op_with_its_place(bb, artifact):
    done = bb("explain", artifact)

    assert done.code == 0
    for told in (
        "Mine / main  on server; started by an invocation",
        "Mine / update  on server; started by edge update, inside a frame of main",
        "Mine.client / weights  on client; started by edge weights",
        "metrics.",
        "placed by cursor",
        "mine.py:18",
        "verify_recording, ",
    ):
        assert told in done.out


def test_explain_lists_what_the_cursor_placed(bb, artifact):
    listed = bb("explain", artifact).out.partition("placed by the cursor")[2]

    assert "data.Batches on client" in listed
    assert "aggregator.Aggregate" not in listed


def test_explain_of_a_module_says_what_each_stage_changed(bb, program):
    done = bb("explain", program, *BINDS)

    assert done.code == 0
    assert "1 -> 2 functions" in done.out


BAD = {
    "no file": (["nope.py"], "NoSuchFile", "nope.py"),
    "no module": (["no.such.module:X"], "NoSuchFile", "no.such.module"),
    "no class": (["mine.py:Mnie"], "NoSuchName", "did you mean mine.py:Mine?"),
    "no program": (["three.py:three"], "NotAProgram", "'three' in three.py is of type int"),
    "unbound slot": (["mine.py"], "UnboundSlot", "--bind clients=static"),
    "unknown component": (["mine.py", *BINDS, "--bind", "data=digit"], "UnknownPluginError",
                          "did you mean 'digits'?"),
    "unknown slot": (["mine.py", *BINDS, "--bind", "dta=digits"], "UnknownSlot",
                     "did you mean 'data'?"),
    "unknown class": (["mine.py", *BINDS, "--bind", "clint.data=digits"], "UnknownSlot", "client"),
    "wrong argument": (["mine.py", *BINDS, "--arg", "epoch=3"], "WrongArguments", "epochs=1"),
    "no folder": (["mine.py", *BINDS, "-o", "no/a.onnx"], "CannotWrite", "no/a.onnx"),
    "import raises": (["raises.py"], "ProgramRaised", "raises.py:1"),
    "no python": (["syntax.py"], "ProgramRaised", "syntax.py:1"),
    "body raises": (["body.py"], "ProgramRaised", "len(3)"),
    "misspelt slot": (["slot.py"], "UnknownAttribute", "did you mean 'model'?"),
    "misspelt kind of slot": (["kind.py"], "ProgramRaised", "did you mean 'Model'?"),
    "slot without parentheses": (["bare.py"], "ProgramRaised", "parentheses after Model"),
    "file without its ending": (["mine"], "NoSuchFile", "did you mean mine.py?"),
    "nothing recorded": (["empty.py"], "EmptyModule", "Empty.body"),
    "truncated": (["cut.onnx"], "InvalidArtifact", "cut.onnx"),
    "junk": (["junk.onnx"], "InvalidArtifact", "junk.onnx"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_has_code_place_and_fix(bb, program, artifact, tmp_path, case):
    module = "import bytesandbrains as bb\nclass Empty(bb.Module):\n"
    model = "    model = bb.slots.Model()\n"
    texts = {
        "raises.py": "1 / 0\n",
        "syntax.py": "def f(:\n",
        "body.py": module + model + "    def body(self, g):\n        len(3)\n",
        "slot.py": module + model + "    def body(self, g):\n        self.modl.params(g)\n",
        "kind.py": module + model.replace("Model", "Modell"),
        "bare.py": module + model.replace("()", ""),
        "empty.py": module + "    def body(self, g):\n        pass\n",
        "three.py": "three = 3\n",
        "junk.onnx": "junk",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "cut.onnx").write_bytes(artifact.read_bytes()[:3000])
    artifact.unlink()
    arguments, code, told = BAD[case]

    done = bb("compile", *arguments)

    assert done.code == 3
    assert f"error[{code}]: " in done.err
    assert told in done.err
    assert {path.name for path in tmp_path.glob("*.onnx")} == {"cut.onnx", "junk.onnx"}


def test_every_unbound_slot_is_told_with_the_users_line(bb, program):
    done = bb("compile", program)

    assert done.err.count("error[UnboundSlot]") == 2
    assert "--> mine.py:17" in done.err
    assert "installed: arrays, digits" in done.err
    assert "--bind data=arrays or --bind data=digits" in done.err


def test_binding_of_an_artifact_is_refused(bb, artifact):
    done = bb("explain", artifact, "--bind", "model=mlp")

    assert done.code == 3
    assert "error[AlreadyCompiled]" in done.err


@pytest.mark.parametrize("option", [["--bind", "model"], ["--arg", "=3"]])
def test_malformed_option_is_a_usage_error(bb, program, option):
    done = bb("compile", program, *option)

    assert done.code == 2
    assert "NAME=VALUE" in done.err


# Configuration


NETWORK = "[model]\nlayers = [64, 32, 10]\nlr = 0.05\n"


def edges(done):
    return {edge["name"]: edge["bytes"] for edge in done.json["edges"]}


def test_configuration_is_compiled_in_and_makes_bytes_exact(bb, program, tmp_path):
    (tmp_path / "net.toml").write_text(NETWORK)

    before = edges(bb("compile", program, "-o", "a.onnx", *BINDS, "--json"))
    after = edges(bb("compile", program, "-o", "a.onnx", *BINDS, "--config", "net.toml", "--json"))

    assert before["weights"]["payload"]["most"] is None
    assert after["weights"]["payload"]["most"] == after["weights"]["payload"]["least"] > 9000
    assert edges(bb("explain", "a.onnx", "--json")) == after
    assert "layers" in bb("explain", "a.onnx").out


def test_limits_of_edges_follow_from_the_configuration(bb, program, tmp_path):
    (tmp_path / "net.toml").write_text(NETWORK)

    def limits(*options):
        told = bb("explain", program, *BINDS, *options, "--json").json
        return {edge["name"]: edge["max_payload"] for edge in told["edges"]}

    assert limits() == {"weights": 0, "update": 0}
    known = limits("--config", "net.toml")
    assert known["weights"] - (1 << 16) > 9000
    assert known["update"] == known["weights"] + 64  # the metrics beside the parameters


def test_explain_of_a_module_takes_a_configuration_too(bb, program, tmp_path):
    (tmp_path / "net.toml").write_text(NETWORK)

    told = edges(bb("explain", program, *BINDS, "--config", "net.toml", "--json"))

    assert told["update"]["payload"]["most"] == told["weights"]["payload"]["most"] > 9000


def configs(bb, artifact="a.onnx"):
    told = bb("explain", artifact, "--json").json
    return {
        (target["peer_class"], row["slot"]): json.loads(row["config"] or "{}")
        for target in told["targets"]
        for row in target["bindings"]
    }


def test_fields_with_placeholders_and_those_of_one_node_are_left_for_the_run(bb, program):
    done = bb("compile", program, "-o", "a.onnx", *BINDS, "--config", "mine.toml")

    assert done.code == 0
    assert "note: field partition of 'data' is left to the run" in done.err
    assert configs(bb)["client", "data"] == {"split": "train"}
    assert bb("run", "a.onnx", "--config", "mine.toml", "--nodes", "client=2").code == 0


def test_fields_beside_a_placeholder_are_compiled_in(bb, program, tmp_path):
    (tmp_path / "data.toml").write_text("[data]\nbatch_size = 4\nseed = '{seed}'\n")

    done = bb("compile", program, "-o", "a.onnx", *BINDS, "--config", "data.toml")

    assert done.code == 0
    assert "note:" not in done.err
    assert configs(bb)["client", "data"] == {"batch_size": 4}


def test_table_of_a_class_wins_field_by_field(bb, program, tmp_path):
    (tmp_path / "net.toml").write_text(
        NETWORK + "momentum = 0.5\n[client.model]\nlr = 0.5\n[client.1.model]\nmomentum = 0.1\n"
    )

    assert bb("compile", program, "-o", "a.onnx", *BINDS, "--config", "net.toml").code == 0

    found = configs(bb)
    assert found["server", "model"] == {"layers": [64, 32, 10], "lr": 0.05, "momentum": 0.5}
    assert found["client", "model"] == {"layers": [64, 32, 10], "lr": 0.5, "momentum": 0.5}
    assert found["server", "aggregator"] == {}


def test_binding_of_a_class_takes_what_is_said_for_the_slot(bb, program, tmp_path):
    (tmp_path / "net.toml").write_text("[data]\nsplit = 'all'\n[client.data]\nbatch_size = 3\n")
    binds = [*BINDS, "--bind", "client.data=digits"]

    done = bb("compile", program, "-o", "a.onnx", *binds, "--config", "net.toml")

    assert done.code == 0, done.err
    assert configs(bb)["client", "data"] == {"split": "all", "batch_size": 3}


def test_two_ends_that_do_not_fit_are_told_when_compiling(bb, program, tmp_path):
    (tmp_path / "net.toml").write_text(NETWORK + "[client.model]\nlayers = [64, 16, 10]\n")

    done = bb("compile", program, *BINDS, "--config", "net.toml")

    assert done.code == 3
    assert "error[TypeMismatch]" in done.err
    assert "self.model.load_params(g, received)" in done.err


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[modle]\nlr = 1.0\n", "did you mean [model]?"),
        ("[model]\nlayer = [64, 10]\n", "did you mean 'layers'?"),
        ("[model]\nlr = 'much'\n", "`lr`"),
        ("[server.data]\nbatch_size = 3\n", "[client.data]"),
        ("[model\n", "correct it as TOML"),
        ("[model]\nlr = 1979-05-27\n", "['lr']"),
        ("[client.data]\nbatch_sise = 3\nclient = '{index}'\n", "did you mean 'batch_size'?"),
    ],
)
def test_wrong_configuration_names_the_file(bb, program, tmp_path, text, told):
    (tmp_path / "net.toml").write_text(text)

    done = bb("compile", program, *BINDS, "--config", "net.toml")

    assert done.code == 3
    assert "error[BadConfig" in done.err
    assert told in done.err
    assert "net.toml" in done.err


@pytest.mark.parametrize("option", [("--config", "mine.toml"), ("--stage", "checked")])
@pytest.mark.parametrize("command", ["compile", "explain"])
def test_options_of_compiling_are_refused_for_an_artifact(bb, artifact, command, option):
    done = bb(command, artifact, *option)

    assert done.code == 3
    assert f"error[AlreadyCompiled]: {option[0]}" in done.err


# Stages


STAGE = """
from bb_roles import StageSpec, hookimpl

def looks(model):
    return model

@hookimpl
def bb_stage():
    return StageSpec("checked", f"{__name__}:looks", after="solve_types", summary="Looks on.")
"""


def test_stage_of_a_plugin_runs_when_it_is_named(bb, program, bb_install):
    bb_install("stage.checked", STAGE, "acme-rules")

    done = bb("compile", program, "-o", "a.onnx", *BINDS, "--stage", "checked")

    assert done.code == 0, done.err
    assert "solve_types, checked (acme-rules 0), " in bb("explain", "a.onnx").out
    told = bb("explain", program, *BINDS, "--stage", "checked", "--json").json["stages"]
    assert [s["name"] for s in told if s["origin"]] == ["checked"]
    page = bb("plugins", "stage.checked").out
    assert "after solve_types" in page
    assert "Looks on." in page
    assert bb("plugins", "--check", "stage").code == 0


def test_unknown_stage_is_told_with_all_there_are(bb, program, bb_install):
    bb_install("stage.checked", STAGE, "acme-rules")

    done = bb("compile", program, *BINDS, "--stage", "chekced")

    assert done.code == 3
    assert "error[UnknownStage]: there is no stage 'chekced'" in done.err
    assert "installed: checked" in done.err
    assert "did you mean 'checked'?" in done.err


def test_stage_that_objects_ends_the_command(bb, program, bb_install):
    bb_install("stage.checked", STAGE.replace("return model", "pass"), "acme-rules")

    done = bb("compile", program, *BINDS, "--stage", "checked")

    assert done.code == 3
    assert "error[StageFailed]: stage 'checked' returns nothing" in done.err
