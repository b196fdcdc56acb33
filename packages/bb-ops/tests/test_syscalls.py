"""The framework ops: what each gives, and how it fails."""

import pytest

import bb_dsl as bb
from bb_compiler import Compiler
from bb_ir.ids import PeerId
from bb_ops.plugin import bb_ops
from bb_ops.syscalls import field, pass_through, record
from bb_roles.registry import import_named, ops_spec
from bb_runtime import Emitted, install
from bb_testing.programs import CountingModel, ListSource


def test_pass_through_gives_the_same_object():
    value = object()
    assert pass_through(value) is value


def test_field_gives_one_field_of_a_record():
    assert field({"loss": 0.5, "examples": 3}, name="examples") == 3


def test_a_missing_field_is_named_with_those_there_are():
    with pytest.raises(KeyError, match="no field 'accuracy'; it has loss, examples"):
        field({"loss": 0.5, "examples": 3}, name="accuracy")


def test_record_gives_names_to_values():
    assert record(1, 2.5, names=["a", "b"]) == {"a": 1, "b": 2.5}


def test_a_record_needs_a_name_for_every_value():
    with pytest.raises(ValueError, match="zip"):
        record(1, 2, names=["a"])


def test_every_declared_op_can_be_imported():
    spec = bb_ops()
    for name, path in spec.ops.items():
        assert callable(import_named(path, name))


def test_the_ops_are_found_as_an_installed_plugin():
    assert ops_spec("ai.bytesandbrains.syscall") == bb_ops()


class Measures(bb.Module):
    """Publishes a record made of a field of another one."""

    peer_class = "server"
    model = bb.slots.Model()
    data = bb.slots.DataSource()

    def body(self, g: bb.Graph) -> None:
        batch, labels = self.data.next_batch(g)
        loss = self.model.compute_loss(g, self.model.forward(g, batch), labels)
        g.output("loss", g.field(g.record(loss=loss, again=loss), "again"))


def test_they_run_in_a_program():
    compiler = Compiler().bind_model("model", CountingModel).bind_data_source("data", ListSource)
    artifact = compiler.compile(Measures().build())
    config = {"data": {"value": 2.0, "size": 4}}
    node = install(PeerId.from_seed(b"ops", 0), [], artifact, ["Measures"], config)
    node.invoke("Measures")
    assert [s.value for s in node.poll() if isinstance(s, Emitted)] == [8.0]


class Counts(bb.Module):
    """Publishes a record of scalars that stand in the program."""

    def body(self, g: bb.Graph) -> None:
        values = {"examples": 2**40 + 1, "share": 0.1, "last": True, "by": "server"}
        g.output("facts", g.record(**{name: g.scalar(v) for name, v in values.items()}))


def test_scalars_of_a_program_arrive_exactly():
    artifact = Compiler().compile(Counts().build())
    node = install(PeerId.from_seed(0), [], artifact, ["Counts"])
    node.invoke("Counts")

    value = node.poll()[0].value

    assert value == {"examples": 2**40 + 1, "share": 0.1, "last": True, "by": "server"}
    assert [type(field) for field in value.values()] == [int, float, bool, str]


@pytest.mark.parametrize("value", [[1, 2], 2**63, None])
def test_what_is_no_scalar_is_refused(value):
    class Wrong(bb.Module):
        def body(self, g: bb.Graph) -> None:
            g.scalar(value)

    with pytest.raises(bb.BuildError, match="an int of 64 bits, a float, a bool or a text"):
        Wrong().build()
