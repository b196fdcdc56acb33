"""An artifact becomes a Node, or a typed error says why not and nothing is left."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from onnx import ModelProto

import bb_dsl as bb
from bb_compiler import Compiler
from bb_ir import keys, onnx_tools
from bb_ir.errors import TypeTextError
from bb_ir.ids import PeerId
from bb_ir.types import tensor
from bb_roles import Backend, DataSource, Model
from bb_runtime import Artifact, Config, FrameEnded, Node, install, load_artifact
from bb_runtime.errors import (
    ConfigTypeMismatch,
    ConstructionFailed,
    EmptyTargets,
    IncompatibleCompiledVersion,
    InstallError,
    InvalidArtifact,
    InvalidBindingTable,
    MissingConfig,
    NotAllowed,
    NotCompiled,
    SlotBindingConflict,
    UnknownTarget,
    UnregisteredComponent,
    UnresolvedOp,
)
from bb_testing.programs import (
    CountingModel,
    FixedPeers,
    ListSource,
    PartConfig,
    PlainBackend,
)

PEER = PeerId.from_seed(b"install", 0)


class Program(bb.Module):
    """Uses a model on both classes, and a backend and a data source on one each."""

    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    backend = bb.slots.Backend()

    def body(self, g: bb.Graph) -> None:
        x = g.input("x", tensor("float64", (None,)))
        g.output("twice", x + x)
        got = g.net_out("weights", self.peers.sample(g, 1), self.model.params(g))
        self.model.load_params(g, got)
        self.model.fit(g, self.data.batches(g))


MADE: list[Any] = []


class Noted(CountingModel):
    """Writes down that it was built, and what it was given."""

    depends: ClassVar = {"backend": Backend}

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        MADE.append(self)


class Needy(CountingModel):
    """Needs a field of its configuration."""

    @dataclass(frozen=True)
    class Config:
        """Has no default."""

        path: str
        size: int = 1


class Broken(ListSource):
    """Cannot be built."""

    def __init__(self, config, env) -> None:
        super().__init__(config, env)
        raise OSError("the disk is gone")


class ClosesBadly(CountingModel):
    """Raises when it is closed."""

    def close(self) -> None:
        super().close()
        raise ValueError("cannot close")


@pytest.fixture(autouse=True)
def _nothing_made():
    MADE.clear()


def build(**parts: Any) -> ModelProto:
    chosen = {
        "peers": FixedPeers,
        "model": CountingModel,
        "data": ListSource,
        "backend": PlainBackend,
        **parts,
    }
    compiler = Compiler()
    for slot, part in chosen.items():
        compiler.bind(slot, part)
    return compiler.compile(Program().build())


def set_up(artifact: Any, targets: Any = ("Program", "Program.client"), **facts: Any) -> Node:
    return install(PEER, [], artifact, list(targets), **facts)


def edited(change: Callable[[ModelProto], None]) -> ModelProto:
    model = build()
    change(model)
    return model


def rows_of(model: ModelProto, slot: str) -> list[Any]:
    """Return the rows of the binding table for a slot, of all targets."""
    rows = (e for e in model.metadata_props if e.key.startswith(keys.BINDING))
    return [row for row in rows if row.key.endswith(f"/{slot}")]


def rebound(slot: str, value: str) -> ModelProto:
    def change(model: ModelProto) -> None:
        for row in rows_of(model, slot):
            row.value = value

    return edited(change)


def with_port(model: ModelProto, type_: str) -> str:
    """Return the table of edges with another text as the type of every port."""
    edges = json.loads(onnx_tools.get_meta(model, keys.EDGES))
    return json.dumps([{**row, "ports": [[n, type_] for n, _ in row["ports"]]} for row in edges])


def unbound(slot: str, **parts: Any) -> ModelProto:
    model = build(**parts)
    for row in rows_of(model, slot):
        model.metadata_props.remove(row)
    return model


# The artifact itself


@pytest.mark.parametrize("form", ["model", "bytes", "path", "text", "artifact"])
def test_an_artifact_comes_in_many_forms(form, tmp_path):
    model = build()
    path = tmp_path / "artifact.onnx"
    path.write_bytes(model.SerializeToString())
    given = {
        "model": model,
        "bytes": model.SerializeToString(),
        "path": path,
        "text": str(path),
        "artifact": load_artifact(model),
    }[form]
    node = set_up(given)
    assert node.targets == ("Program", "Program.client")
    assert node.classes == ("server", "client")
    assert "Program, Program.client" in repr(node)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidArtifact, match=r"there is no file .*nowhere.onnx"):
        set_up(tmp_path / "nowhere.onnx")


def test_a_folder_is_no_artifact(tmp_path):
    with pytest.raises(InvalidArtifact, match="cannot be read as an ONNX model"):
        set_up(tmp_path)


def test_a_truncated_file_is_no_artifact(tmp_path):
    path = tmp_path / "short.onnx"
    whole = build().SerializeToString()
    path.write_bytes(whole[: len(whole) - 7])
    with pytest.raises(InvalidArtifact, match=r"short.onnx cannot be read.*\n.*fix: compile"):
        set_up(path)


def test_a_recording_is_not_compiled():
    with pytest.raises(NotCompiled, match=r"no passport\n.*expected: .*\n.*fix: compile it"):
        set_up(Program().build())


def test_an_artifact_of_another_compiler_is_refused():
    model = edited(lambda m: onnx_tools.set_meta(m, keys.COMPILED, "v9"))
    with pytest.raises(IncompatibleCompiledVersion, match=r"'v9'\n.*expected: 'v1'"):
        set_up(model)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: onnx_tools.set_meta(m, keys.EDGES, ""),
        lambda m: onnx_tools.set_meta(m, keys.EDGES, "[{}]"),
        lambda m: onnx_tools.set_meta(m, keys.EDGES, "{"),
        lambda m: onnx_tools.set_meta(m, keys.PROGRAM, "zz"),
        lambda m: onnx_tools.set_meta(m.functions[0], keys.REGIONS, "[1]"),
        lambda m: onnx_tools.set_meta(m.functions[0].node[0], keys.REGION, ""),
    ],
)
def test_tables_that_cannot_be_read_are_an_invalid_artifact(change):
    with pytest.raises(InvalidArtifact, match=r"cannot be read[\s\S]*compile the program again"):
        set_up(edited(change))


@pytest.mark.parametrize("text", ["tensr", "custom(acme.graph)", "list("])
def test_texts_that_are_no_types_are_an_invalid_artifact(text):
    model = edited(lambda m: onnx_tools.set_meta(m, keys.EDGES, with_port(m, text)))

    with pytest.raises(InvalidArtifact, match="compile the program again") as caught:
        set_up(model)

    assert isinstance(caught.value.__cause__, TypeTextError)


def test_ops_that_do_not_fit_together_are_an_invalid_artifact():
    def change(model: ModelProto) -> None:
        model.functions[0].node[0].input[0] = "from_nowhere"

    with pytest.raises(InvalidArtifact, match="do not fit together"):
        set_up(edited(change))


# Targets


@pytest.mark.parametrize("targets", [[], "Program", ()])
def test_no_target_is_an_error_that_lists_them(targets):
    with pytest.raises(EmptyTargets, match=r"a list of target names[\s\S]*Program.client"):
        install(PEER, [], build(), targets)


def test_an_unknown_target_is_an_error_that_lists_them():
    with pytest.raises(UnknownTarget, match=r"'Programm'\n.*Program, Program.client"):
        set_up(build(), ["Programm"])


def test_a_target_is_found_by_its_full_name_too():
    artifact = load_artifact(build())
    full = artifact.target("Program").name
    assert "#" in full
    assert set_up(artifact, [full]).targets == ("Program",)


def test_a_target_named_twice_is_installed_once():
    assert set_up(build(), ["Program", "Program"]).targets == ("Program",)


# The binding table


@pytest.mark.parametrize("value", ["model", "model|a|b|c", "wizard|x|-1"])
def test_a_row_that_cannot_be_read_is_an_error(value):
    with pytest.raises(InvalidBindingTable, match=r"expected: binding.<target>/<slot>"):
        set_up(rebound("model", value))


def test_a_row_without_a_slot_is_an_error():
    def change(model: ModelProto) -> None:
        rows_of(model, "model")[0].key = keys.BINDING + "Program"

    with pytest.raises(InvalidBindingTable):
        set_up(edited(change))


def test_two_rows_for_one_slot_are_a_conflict():
    def change(model: ModelProto) -> None:
        row = rows_of(model, "model")[0]
        model.metadata_props.add(key=row.key, value="model|other|-1")

    with pytest.raises(SlotBindingConflict, match="CountingModel and other"):
        set_up(edited(change))


def test_a_slot_without_a_row_is_an_error_with_the_users_line():
    with pytest.raises(InvalidBindingTable, match=r"'data', which has no row[\s\S]*test_install"):
        set_up(unbound("data"))


@pytest.mark.parametrize("component", ["no_such_thing", "bb_testing.programs:Nothing", "nowhere:X"])
def test_a_component_that_is_not_here_is_an_error(component):
    with pytest.raises(UnregisteredComponent, match="slot 'model'"):
        set_up(rebound("model", f"model|{component}|-1"))


def test_a_class_of_another_role_is_no_component_for_a_slot():
    with pytest.raises(UnregisteredComponent, match="slot 'model'"):
        set_up(rebound("model", "model|bb_testing.programs:ListSource|-1"))


def test_only_what_is_allowed_may_be_bound():
    with pytest.raises(NotAllowed, match=r"binds slot 'backend'[\s\S]*allow it"):
        set_up(build(), allow=["model.mlp"])


def test_an_allowed_artifact_installs():
    rows = load_artifact(build()).target("Program").rows
    rows += load_artifact(build()).target("Program.client").rows
    assert set_up(build(), allow={f"{row.role}.{row.component}" for row in rows}).targets


# Configuration


def test_a_missing_value_is_an_error_that_names_it():
    with pytest.raises(MissingConfig, match=r"'model' needs path[\s\S]*'path'"):
        set_up(build(model=Needy))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ({"model": {"sise": 3}}, r"no configuration field 'sise'[\s\S]*did you mean 'size'"),
        ({"model": {"size": "three"}}, r"`size` of slot 'model' is 'three' \(str\)"),
        ({"model": 7}, r"slot 'model' is a int"),
        ({"modell": {}}, r"'modell', which is no slot[\s\S]*slots: backend, data, model, peers"),
        ({"modell": {}}, r"fix: did you mean 'model'\?"),
        ({"clients.model": {}}, r"fix: did you mean 'client.model'\?"),
        ({"wizard.model": {}}, r"'wizard.model', which is no slot"),
        ({"client.model": {"size": "x"}}, r"`size` of slot 'client.model' is 'x' \(str\)"),
    ],
)
def test_a_wrong_configuration_is_an_error_that_names_the_field(config, match):
    with pytest.raises(ConfigTypeMismatch, match=match) as caught:
        set_up(build(), config=config)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert caught.value.__cause__ is None


def test_a_configuration_may_be_an_instance():
    node = set_up(build(), config=Config(model=PartConfig(size=7)))
    assert node.component("model").w.shape == (7,)


def test_the_configuration_of_a_class_wins():
    config = {"model": {"size": 2}, "client.model": {"size": 5}}
    node = set_up(build(), config=config)
    assert node.component("model", target="Program").w.shape == (2,)
    assert node.component("model", target="Program.client").w.shape == (5,)


# Building


def test_targets_whose_rows_are_equal_share_a_component():
    node = set_up(build(model=Noted))
    assert len(MADE) == 1
    assert node.component("model", target="Program") is node.component(
        "model", target="Program.client"
    )


def test_a_row_of_its_own_gives_a_component_of_its_own():
    compiler = Compiler().bind("peers", FixedPeers).bind("data", ListSource)
    compiler.bind("backend", PlainBackend).bind("model", CountingModel)
    compiler.bind("model", Noted, on="client")
    node = set_up(compiler.compile(Program().build()))
    assert type(node.component("model", target="Program")) is CountingModel
    assert type(node.component("model", target="Program.client")) is Noted


def test_dependencies_are_built_first_and_handed_in():
    node = set_up(build(model=Noted), ["Program"])
    assert MADE[0].env.dependencies == {"backend": node.component("backend")}
    assert MADE[0].env.peer == PEER


def test_components_are_shared_only_when_their_dependencies_are():
    node = set_up(build(model=Noted), config={"client.backend": {"size": 9}})
    assert len(MADE) == 2
    on_client = node.component("model", target="Program.client")
    assert on_client.env.dependencies["backend"].config.size == 9


class ModelOnData(CountingModel):
    """Needs a data source."""

    depends: ClassVar = {"data": DataSource}


class DataOnModel(ListSource):
    """Needs a model."""

    depends: ClassVar = {"model": Model}


def test_components_that_depend_on_each_other_cannot_be_built():
    with pytest.raises(ConstructionFailed, match=r"in a circle: data -> model -> data"):
        set_up(build(model=ModelOnData, data=DataOnModel))


def test_a_dependency_that_the_artifact_does_not_bind_is_an_error():
    model = unbound("backend", model=Noted)
    with pytest.raises(InvalidBindingTable, match="'backend', and the artifact does not"):
        set_up(model, ["Program.client"])


def test_a_constructor_that_raises_is_reported_with_its_slot():
    with pytest.raises(ConstructionFailed, match=r"slot 'data', .*Broken, .*OSError: the disk"):
        set_up(build(data=Broken))


def test_what_was_built_before_a_failure_is_closed(monkeypatch):
    closed: list[str] = []
    monkeypatch.setattr(PlainBackend, "close", lambda self: closed.append(self.env.slot))
    with pytest.raises(ConstructionFailed):
        set_up(build(data=Broken), ["Program.client", "Program"])
    with pytest.raises(ConstructionFailed):
        set_up(build(data=Broken, model=Noted))
    assert closed == ["backend"]


def test_an_op_that_nobody_can_carry_out_is_an_error_with_the_users_line():
    class Strange(Program):
        def body(self, g: bb.Graph) -> None:
            x = g.input("x", tensor("float64", (None,)))
            g.output("y", self.backend.op(g, "Erf", x))

    model = Compiler().bind("backend", PlainBackend).compile(Strange().build())
    with pytest.raises(UnresolvedOp, match=r"Erf of ai.onnx.*PlainBackend[\s\S]*test_inst"):
        install(PEER, [], model, ["Strange"])


def test_a_backend_that_raises_cannot_carry_out_an_op():
    with pytest.raises(UnresolvedOp, match="ValueError: kernel was told to fail"):
        set_up(build(), config={"backend": {"fail_in": "kernel"}})


def test_a_backend_slot_that_holds_something_else_cannot_carry_out_an_op():
    with pytest.raises(UnresolvedOp, match="its slot holds no Backend"):
        set_up(rebound("backend", "model|bb_testing.programs:CountingModel|-1"))


def test_a_component_without_the_method_cannot_carry_out_an_op():
    with pytest.raises(UnresolvedOp, match="the component has no method"):
        set_up(rebound("model", "data_source|bb_testing.programs:ListSource|-1"))


class Restarts(bb.Module):
    """Uses a method that a data source may do without."""

    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        self.data.reset(g)


class Endless(ListSource):
    """Does without it."""

    reset = DataSource.reset


def test_an_optional_method_that_a_component_does_without_is_told_at_install():
    model = Compiler().bind("data", Endless).compile(Restarts().build())
    with pytest.raises(UnresolvedOp) as caught:
        install(PEER, [], model, ["Restarts"])
    assert "Reset" in caught.value.found
    assert "slot 'data', Endless, does without the optional method reset" in caught.value.found
    assert "self.data.reset(g)" in str(caught.value)


def test_an_optional_method_that_a_component_has_is_called():
    model = Compiler().bind("data", ListSource).compile(Restarts().build())
    node = install(PEER, [], model, ["Restarts"])
    node.invoke("Restarts")
    assert [step.how for step in node.poll() if isinstance(step, FrameEnded)] == ["done"]


@pytest.mark.parametrize(("name", "match"), [("NoSuchOp", "does not have it"), ("Field", "")])
def test_a_framework_op_must_be_installed(name, match):
    class Reads(bb.Module):
        peer_class = "server"
        data = bb.slots.DataSource()
        model = bb.slots.Model()

        def body(self, g: bb.Graph) -> None:
            metrics = self.model.fit(g, self.data.batches(g))
            g.output("loss", g.field(g.record(loss=metrics), "loss"))

    model = (
        Compiler().bind("data", ListSource).bind("model", CountingModel).compile(Reads().build())
    )
    for node in model.functions[0].node:
        if node.op_type == "Field":
            node.op_type = name
    if not match:
        install(PEER, [], model, ["Reads"])
        return
    with pytest.raises(UnresolvedOp, match=match):
        install(PEER, [], model, ["Reads"])


def test_an_op_of_an_unknown_domain_is_an_error_that_says_what_is_missing():
    def change(model: ModelProto) -> None:
        for node in model.functions[0].node:
            if node.op_type == "Params":
                node.domain = "ai.bytesandbrains.protocol.magic"

    with pytest.raises(UnresolvedOp, match=r"no plugin provides op\.protocol\.magic"):
        set_up(edited(change))


def test_a_failed_install_closes_all_components(monkeypatch):
    closed: list[str] = []
    for part in (CountingModel, ListSource, PlainBackend, FixedPeers):
        monkeypatch.setattr(part, "close", lambda self: closed.append(self.env.slot))
    with pytest.raises(UnresolvedOp):
        set_up(build(), config={"backend": {"fail_in": "kernel"}})
    assert sorted(closed) == ["backend", "data", "model", "peers"]


def test_every_failure_is_one_family():
    for name in ("ConfigTypeMismatch", "ConstructionFailed", "EmptyTargets", "InvalidArtifact",
                 "IncompatibleCompiledVersion", "InvalidBindingTable", "MissingConfig",
                 "NotAllowed", "NotCompiled", "SlotBindingConflict", "UnknownTarget",
                 "UnregisteredComponent", "UnresolvedOp", "UnresolvedType"):  # fmt: skip
        from bb_runtime import errors

        cls = getattr(errors, name)
        assert issubclass(cls, InstallError)
        assert cls.code == name


# Closing


def test_closing_a_node_closes_each_component_once():
    node = set_up(build())
    node.close()
    slots = ("backend", "data", "model", "peers")
    assert [node.component(slot).closed for slot in slots] == [1] * 4


def test_a_component_that_fails_to_close_does_not_keep_the_others_open():
    node = set_up(build(model=ClosesBadly))
    with pytest.raises(ValueError, match="cannot close"):
        node.close()
    assert [node.component(s).closed for s in ("backend", "data", "model", "peers")] == [1] * 4


def test_the_tables_of_an_artifact_are_plain():
    artifact = load_artifact(build())
    assert isinstance(artifact, Artifact)
    assert artifact.classes == ("server", "client")
    assert json.loads(json.dumps(artifact.slots)) == artifact.slots
    assert load_artifact(artifact) is artifact
