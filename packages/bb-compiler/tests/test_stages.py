"""Stages that the compiler does not have by itself: a user's functions, and those of plugins."""

import functools

import pytest
from onnx import ModelProto

from bb_compiler import CompileError, Compiler
from bb_compiler.errors import BadStage, RefusedByStage, StageFailed, UnknownStage
from bb_compiler.explain import explain
from bb_dsl import Module, slots
from bb_ir import keys, onnx_tools
from bb_ir.errors import SourceLine
from bb_ir.types import tensor
from bb_roles.contracts import Backend
from bb_roles.errors import PluginError


class AnyBackend(Backend):
    """Stands in a binding."""


class Double(Module):
    backend = slots.Backend()

    def body(self, g):
        x = g.input("x", tensor("float32", (4,)))
        g.output("twice", x + x)


PLUGIN = """
from bb_roles import StageSpec, hookimpl
from bb_ir.errors import BytesAndBrainsError, SourceLine

class TooMuch(BytesAndBrainsError):
    pass

def passes(model):
    return model

def returns_nothing(model):
    pass

def returns_another(model):
    return model.graph

def raises(model):
    return helper(model)

def helper(model):
    return model.nonsense  # here

def refuses(model):
    raise TooMuch(
        "it is too much", expected="less", fix="ask for less", where=SourceLine("mine.py", 3)
    )

@hookimpl
def bb_stage():
    return StageSpec({name!r}, f"{{__name__}}:{function}", {place})
"""


@pytest.fixture
def publish(bb_install):
    """Return `publish(function)`: install a plugin with the stage `checked`."""

    def install(function="passes", place='after="solve_types"', name="checked"):
        source = PLUGIN.format(name=name, function=function, place=place)
        return bb_install(f"stage.{name}", source, "acme-rules")

    return install


def compiler():
    return Compiler().bind_backend("backend", AnyBackend)


def compiled(compiler):
    return compiler.compile(Double().build())


def refused(kind, call, *texts):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    return caught.value


def test_stage_of_a_plugin_stands_where_it_wants(publish):
    publish()

    stages = compiler().insert_stage("checked").stages

    assert stages[stages.index("checked") - 1] == "solve_types"


def test_whoever_inserts_it_may_say_another_place(publish):
    publish()

    assert compiler().insert_stage("checked", before="verify_recording").stages[0] == "checked"
    assert compiler().insert_stage("checked", after="stamp_passport").stages[-1] == "checked"


def test_artifact_records_the_stage_and_where_it_comes_from(publish):
    publish()

    def own(model):
        return model

    artifact = compiled(compiler().insert_stage("checked").insert_stage(own, after="checked"))

    recorded = onnx_tools.get_meta(artifact, keys.STAGES).split(",")
    assert recorded[recorded.index("solve_types") :][1:3] == ["checked", "own"]
    assert onnx_tools.get_meta(artifact, keys.STAGE + "checked") == "acme-rules 0"
    assert not onnx_tools.get_meta(artifact, keys.STAGE + "own")
    (told,) = [stage for stage in explain(artifact).stages if stage.name == "checked"]
    assert told.label == "checked (acme-rules 0)"


def test_explaining_a_compilation_tells_the_same(publish):
    publish()

    told = compiler().insert_stage("checked").explain(Double().build()).stages

    assert [(s.label, s.changes) for s in told if s.origin] == [("checked (acme-rules 0)", ())]


def test_what_is_installed_and_not_named_does_not_run(publish):
    publish("refuses")

    assert "checked" not in onnx_tools.get_meta(compiled(compiler()), keys.STAGES)


def test_stage_of_a_plugin_can_be_left_out_again(publish):
    publish("refuses")

    assert compiled(compiler().insert_stage("checked").without_stage("checked"))


def test_unknown_name_lists_all_there_are(publish):
    publish()

    refused(
        UnknownStage,
        lambda: compiler().insert_stage("cheked"),
        "there is no stage 'cheked'",
        "verify_recording, ",
        "installed: checked",
        "did you mean 'checked'?",
    )


def test_name_of_a_stage_of_the_compiler_is_no_plugin():
    refused(BadStage, lambda: compiler().insert_stage("solve_types"), "it runs unless")


def test_plugin_with_the_name_of_a_stage_of_the_compiler(publish):
    publish(name="solve_types")

    refused(BadStage, lambda: compiler().insert_stage("solve_types"), "the author of acme-rules")


def test_the_same_stage_twice(publish):
    publish()

    refused(
        BadStage,
        lambda: compiler().insert_stage("checked").insert_stage("checked"),
        "inserted twice",
    )


def test_place_that_there_is_not(publish):
    publish(place='after="solve_typos"')

    refused(
        UnknownStage,
        lambda: compiler().insert_stage("checked"),
        "'solve_typos'",
        "acme-rules 0 wants",
        "before= or after=",
    )
    refused(
        UnknownStage,
        lambda: compiler().insert_stage("checked", after="solve_typs"),
        "did you mean 'solve_types'?",
    )
    refused(
        UnknownStage,
        lambda: compiler().insert_stage("checked", after="solve_types", before="solve_types"),
        "two places",
    )


def test_place_whose_stage_was_left_out(publish):
    publish()

    refused(
        UnknownStage,
        lambda: compiler().without_stage("solve_types").insert_stage("checked"),
        "'solve_types'",
        "before= or after=",
    )


def test_broken_plugin(publish):
    publish("nonsense")

    refused(PluginError, lambda: compiler().insert_stage("checked"), "stage.checked", "nonsense")


@pytest.mark.parametrize("given", [None, 3, Double, b"solve_types"])
def test_what_is_no_stage(given):
    refused(BadStage, lambda: compiler().insert_stage(given, after="solve_types"), "is inserted")


def test_function_with_the_name_of_a_stage_of_the_compiler():
    def solve_types(model):
        return model

    refused(
        BadStage,
        lambda: compiler().insert_stage(solve_types, after="expand_ops"),
        "rename the function",
    )


def test_callable_objects_are_stages():
    stage = functools.partial(lambda model, **_: model, much=3)

    assert "partial" in compiler().insert_stage(stage, after="solve_types").stages


@pytest.mark.parametrize(
    ("function", "text"),
    [("returns_nothing", "returns nothing"), ("returns_another", "returns GraphProto")],
)
def test_stage_that_returns_no_model(publish, function, text):
    publish(function)

    refused(
        StageFailed, lambda: compiled(compiler().insert_stage("checked")), "'checked'", text,
        "return model",
    )  # fmt: skip


def test_function_of_a_user_that_returns_no_model():
    def forgetful(model):
        pass

    stage = compiler().insert_stage(forgetful, after="solve_types")

    refused(StageFailed, lambda: compiled(stage), "'forgetful' returns nothing")
    refused(StageFailed, lambda: stage.explain(Double().build()), "'forgetful' returns nothing")


def test_stage_that_raises_names_its_line(publish):
    module = publish("raises")

    error = refused(
        StageFailed, lambda: compiled(compiler().insert_stage("checked")),
        "stage 'checked' raises AttributeError", "return model.nonsense  # here",
    )  # fmt: skip

    (place,) = error.where
    assert isinstance(place, SourceLine)
    assert place.file.endswith(f"{module}.py")


def test_error_of_a_library_names_the_stage_s_own_line():
    def careless(model):
        return ModelProto.FromString(b"nonsense")

    error = refused(
        StageFailed,
        lambda: compiled(compiler().insert_stage(careless, after="solve_types")),
        "'careless' raises DecodeError",
    )
    assert 'ModelProto.FromString(b"nonsense")' in str(error)


def test_objection_of_a_plugin_becomes_an_error_of_the_compiler(publish):
    publish("refuses")

    error = refused(
        RefusedByStage,
        lambda: compiled(compiler().insert_stage("checked")),
        "stage 'checked' refuses the program: it is too much",
        "expected: less",
        "fix: ask for less",
    )
    assert error.where == (SourceLine("mine.py", 3),)


def test_objection_of_a_user_s_own_function_stays_what_it_is():
    class Mine(CompileError):
        pass

    def objects(model):
        raise Mine("no", fix="yes")

    refused(Mine, lambda: compiled(compiler().insert_stage(objects, after="solve_types")))
