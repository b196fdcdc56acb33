"""`bb demo`: a federation that really learns, with its files."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from safetensors.numpy import load_file

import bytesandbrains as bb

SHORT = ["--rounds", "3", "--clients", "4", "--cohort", "3", "--epochs", "2"]
FILES = {
    "accuracy.png", "artifact.onnx", "config.json", "metrics.json", "model.safetensors",
    "timings.json",
}  # fmt: skip
#: A shell may have started the tests with interrupts ignored.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from bytesandbrains.cli import main
main()
"""


def start(out: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", COMMAND, "demo", "--out", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def demo(out: Path, *options: str, code: int = 0, **environment: str) -> tuple[str, str]:
    process = start(out, *options, **environment)
    told = process.communicate()
    assert process.returncode == code, told
    assert "Traceback" not in told[1]
    return told


def metrics(out: Path) -> dict:
    return json.loads((out / "metrics.json").read_text())


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    return out, demo(out, *SHORT)


def test_all_files_are_there_and_can_be_read(short):
    out, _ = short

    assert {path.name for path in out.iterdir()} == FILES
    onnx.checker.check_model(str(out / "artifact.onnx"))
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert {n: t.shape for n, t in load_file(out / "model.safetensors").items()} == {
        "layers.0.weight": (128, 64),
        "layers.0.bias": (128,),
        "layers.1.weight": (10, 128),
        "layers.1.bias": (10,),
    }


def test_metrics_hold_every_round_and_the_baselines(short):
    told = metrics(short[0])

    assert [one["round"] for one in told["rounds"]] == [1, 2, 3]
    assert {one["clients"] for one in told["rounds"]} == {3}
    assert told["final"] == told["rounds"][-1]
    assert len(told["baselines"]["local_only"]["accuracies"]) == 4
    assert told["interrupted"] is False
    assert "seconds" not in json.dumps(told)


def test_saved_model_is_as_good_as_told(short):
    out, _ = short
    params = bb.ParameterSet.from_image((out / "model.safetensors").read_bytes())
    told = metrics(out)

    assert params.digest() == told["model"]["sha256"]
    assert measure(params) == told["final"]["accuracy"]


class Measure(bb.Module):
    """How good a parameter set is."""

    model = bb.slots.Model()
    test = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        self.model.load_params(g, g.input("params", "params"))
        g.output("metrics", self.model.evaluate(g, self.test.batches(g)))


def measure(params: bb.ParameterSet) -> float:
    """Return the accuracy on the held-out digits of seed 0."""
    compiler = bb.Compiler().bind_model("model", "mlp").bind_data_source("test", "digits")
    config = {"model": {"layers": [64, 128, 10]}, "test": {"split": "test", "seed": 0}}
    node = bb.LocalFederation(compiler.compile(Measure().build()), config=config)
    return node.run({"params": params})["metrics"]["accuracy"]


def test_output_without_a_terminal_is_plain_lines(short):
    out, (told, errors) = short
    lines = told.splitlines()

    assert errors == ""
    assert "\x1b" not in told
    assert "\r" not in told
    assert lines[0].startswith("round 1 ")
    assert lines[-1].startswith("reached 0.")
    assert lines[-1].endswith(f"; wrote {out}/")


def test_same_seed_gives_the_same_bytes(short, tmp_path):
    out, _ = short
    demo(tmp_path, *SHORT, PYTHONHASHSEED="77")

    for name in FILES - {"timings.json"}:
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes(), name


def test_other_seed_gives_another_model(short, tmp_path):
    demo(tmp_path, *SHORT, "--seed", "1", "--no-plot", "--no-baselines")

    assert metrics(tmp_path)["model"] != metrics(short[0])["model"]


def test_interrupt_keeps_what_was_done(tmp_path):
    process = start(tmp_path, "--rounds", "100000", "--no-baselines")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("round 1 ")

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()

    told = metrics(tmp_path)
    saved = bb.ParameterSet.from_image((tmp_path / "model.safetensors").read_bytes())
    assert process.returncode == 130
    assert told["interrupted"] is True
    assert len(told["rounds"]) >= 1
    assert saved.digest() == told["model"]["sha256"]
    assert f"interrupted after round {len(told['rounds'])} of 100000" in errors


def test_json_is_the_only_output(tmp_path):
    told, errors = demo(tmp_path, *SHORT, "--json", "--no-plot", "--no-baselines")

    assert errors == ""
    assert json.loads(told)["final"] == metrics(tmp_path)["final"]


def test_quiet_prints_one_line_and_leaves_no_file_of_another_run(tmp_path):
    (tmp_path / "accuracy.png").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("mine")

    told, _ = demo(tmp_path, *SHORT, "--quiet", "--no-plot", "--no-baselines")

    assert len(told.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"accuracy.png"} | {"notes.txt"}


@pytest.mark.parametrize(
    "options",
    [["--cohort", "11"], ["--rounds", "0"], ["--alpha", "0"], ["--seed", "-1"], ["--epochs", "x"]],
)
def test_impossible_option_is_a_usage_error(tmp_path, options):
    out = tmp_path / "out"

    _, errors = demo(out, *options, code=2)

    assert options[0] in errors
    assert not out.exists()


def test_out_that_is_a_file_is_refused_before_training(tmp_path):
    out = tmp_path / "file"
    out.write_text("")

    told, errors = demo(out, code=3)

    assert told == ""
    assert errors.startswith("error[CannotWrite]")


def test_missing_parts_are_told_with_the_command_that_brings_them(tmp_path):
    _, errors = demo(tmp_path, code=3, BB_PLUGINS="model.mlp")

    assert errors.startswith("error[DemoPartsMissing]: the demo needs plugin aggregator.fedavg")
    assert 'pip install "bytesandbrains[demo]"' in errors


def test_first_round_needs_neither_scikit_learn_nor_matplotlib(tmp_path):
    code = f"""
import sys
sys.argv = ["bb", "demo", "--no-plot", "--no-baselines", "--out", {str(tmp_path)!r}]
sys.argv += ["--rounds", "1"]
try:
    from bytesandbrains.cli import main
    main()
finally:
    print({{"sklearn", "matplotlib", "scipy", "rich"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.splitlines()[-1] == "set()", done.stderr


@pytest.mark.slow
def test_federation_reaches_what_is_promised(tmp_path):
    demo(tmp_path, "--no-plot")

    told = metrics(tmp_path)
    reached, whole = told["final"]["accuracy"], told["baselines"]["centralized"]["accuracy"]
    assert len(told["rounds"]) == 30
    assert reached >= 0.95
    assert abs(whole - reached) <= 0.02
    assert reached > told["baselines"]["local_only"]["max"]


def test_doctor_gives_the_fingerprint_that_the_demo_notes(short):
    out, _ = short
    noted = json.loads((out / "timings.json").read_text())["machine"]["fingerprint"]

    done = subprocess.run(
        [sys.executable, "-c", "from bytesandbrains.cli import main; main()", "doctor", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(done.stdout)["fingerprint"] == noted


def test_artifact_tells_exactly_what_a_round_sends(short):
    out, _ = short
    params = (out / "model.safetensors").stat().st_size
    told = bb.explain(onnx.load(out / "artifact.onnx"))

    assert {edge.bytes.payload.most for edge in told.edges} == {params + -params % 64}
    assert not any(edge.bytes.unknown for edge in told.edges)
