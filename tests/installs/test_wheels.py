"""What was built works where nothing else of ours is."""

import json
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.parent.name for path in ROOT.glob("p*/*/src/*/__init__.py"))
ABSENT = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is not None)"


@pytest.mark.parametrize("name", NAMES)
def test_wheel_holds_one_package_with_types_and_licence(wheels, name):
    with zipfile.ZipFile(wheels[name]) as wheel:
        files = wheel.namelist()

    information = f"{name}-{wheels[name].name.split('-')[1]}.dist-info"
    assert {file.partition("/")[0] for file in files} == {name, information}
    assert f"{name}/py.typed" in files
    assert f"{information}/licenses/LICENSE" in files


def test_schemas_stubs_and_header_are_in_the_wheel(wheels):
    with zipfile.ZipFile(wheels["bb_ir"]) as wheel:
        files = {name for name in wheel.namelist() if name.startswith("bb_ir/_proto/")}

    kinds = ("_pb2.py", "_pb2.pyi", ".proto")
    named = {f"{name}{kind}" for name in ("core", "plan") for kind in kinds}
    assert files == {f"bb_ir/_proto/{name}" for name in (*named, "__init__.py", "bb_plan.hpp")}


def test_schema_is_found_where_it_is_installed(edge_python, run_in):
    script = "from bb_ir.plan import proto_path; print(proto_path().read_text())"
    told = run_in(edge_python, "-c", script)

    assert "package bb.plan.v1;" in told


def test_command_explains_itself(whole_python, run_in):
    for command in ["bb", "bytesandbrains"]:
        assert "demo" in run_in(whole_python.with_name(command), "--help")


def test_plugins_are_listed(whole_python, run_in):
    listed = json.dumps(json.loads(run_in(whole_python.with_name("bb"), "plugins", "--json")))

    for point in entry_points(group="bytesandbrains.v1"):
        kind, _, name = point.name.partition(".")
        assert kind in listed
        assert name in listed


def test_edge_device_has_runtime_and_operators(edge_python, run_in):
    run_in(edge_python, "-c", "import bb_runtime, bb_ops, bb_backend_numpy")


@pytest.mark.parametrize(
    "name", ["bb_compiler", "bb_dsl", "bb_testing", "bytesandbrains", "pytest"]
)
def test_edge_device_has_no_tools_of_developers(edge_python, run_in, name):
    run_in(edge_python, "-c", ABSENT, name)


@pytest.fixture
def artifact(tmp_path):
    """A federation, compiled here, as a file that goes to other machines."""
    import onnx

    import bytesandbrains as bb

    compiled = (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp")
        .bind_data_source("data", "digits")
        .bind_aggregator("aggregator", "fedavg")
        .compile(bb.programs.FederatedAveraging(3).build())
    )
    path = tmp_path / "federation.onnx"
    onnx.save(compiled, path)
    return path


def test_edge_devices_run_an_artifact_with_the_same_result(edge_python, run_in, artifact):
    script = Path(__file__).with_name("edge_federation.py")

    assert run_in(edge_python, script, artifact) == bb_digest(artifact)


def test_installed_command_trains(whole_python, run_in, tmp_path):
    done = json.loads(
        run_in(whole_python.with_name("bb"), "demo", "--rounds", "2", "--json", "--no-baselines")
    )

    assert "accuracy" in json.dumps(done)
    assert (tmp_path / "bb-out" / "model.safetensors").exists()


def bb_digest(artifact):
    """Train the same federation in the environment of the tests."""
    import bytesandbrains as bb

    federation = bb.LocalFederation(
        artifact,
        nodes={"client": 3},
        config={"data": lambda i: {"partition": "iid", "clients": 3, "client": i}},
    )
    list(federation.rounds(2))
    return federation.server.component("model").params(None).digest()
