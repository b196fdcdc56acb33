"""Finding plugins: listing reads metadata only, binding imports one plugin, errors name it."""

import subprocess
import sys

import pytest

from bb_roles.contracts import Component, Model
from bb_roles.entry_points import may_be_installed, unprovided
from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.registry import (
    bound_class,
    component_class,
    component_spec,
    import_named,
    installed,
    ops_spec,
)
from bb_roles.spec import API, ComponentSpec

WHOLE = """
from bb_roles import ComponentSpec, Model, hookimpl

class Tiny(Model):
    def forward(self, ctx, x): ...
    def backward(self, ctx, grad): ...
    def compute_loss(self, ctx, prediction, target): ...
    def params(self, ctx): ...
    def load_params(self, ctx, params): ...
    def fit(self, ctx, batches): ...
    def evaluate(self, ctx, batches): ...

class Half(Model):
    def forward(self, ctx, x): ...

@hookimpl
def bb_component():
    return ComponentSpec({arguments}, cls=__name__ + ":{cls}"{more})
"""


WHOLE_BUT_FOR_A_FIELD = """from bb_roles import ComponentSpec, hookimpl

@hookimpl
def bb_component():
    return ComponentSpec("model", "broken", cls="m:C", sumary="Of no use.")
"""


def whole(cls="Tiny", role="model", name="tiny", more=""):
    return WHOLE.format(arguments=f"role={role!r}, name={name!r}", cls=cls, more=more)


def refused(call, *texts, kind=PluginError):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)
    return caught.value


def test_component_is_found_by_role_and_name(bb_install):
    module = bb_install("model.tiny", whole())

    spec = component_spec("model", "tiny")

    assert (spec.role, spec.name, spec.api) == ("model", "tiny", API)
    assert component_class(spec) is sys.modules[module].Tiny
    assert bound_class("model", "tiny") is sys.modules[module].Tiny


def test_listing_imports_nothing(bb_install):
    module = bb_install("model.tiny", "raise SystemExit('this module is not to be imported')")

    found = [one for one in installed() if one.name == "tiny"]

    assert [(one.kind, one.value, one.version) for one in found] == [("model", module, "0")]
    assert found[0].distribution == module
    assert module not in sys.modules


def test_listing_is_sorted_and_by_kind(bb_install):
    bb_install("model.zeta", "")
    bb_install("aggregator.alpha", "")
    bb_install("model.alpha", "")

    names = [(one.kind, one.name) for one in installed()]

    assert names == sorted(names)
    assert {one.kind for one in installed("model")} == {"model"}
    assert {"alpha", "zeta"} <= {one.name for one in installed("model")}


def test_whether_there_can_be_a_plugin_is_told_from_files(bb_install, monkeypatch, tmp_path):
    bb_install("model.tiny", "", "acme-models")
    assert may_be_installed("model")
    assert not may_be_installed("acme")
    bb_install("acme.tiny", "", "acme-models")  # the second of one distribution
    assert may_be_installed("acme")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "gone")])
    assert not may_be_installed("model")
    (tmp_path / "archive.zip").write_bytes(b"")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "archive.zip")])
    assert may_be_installed("model")  # nobody knows what is in it


def test_finding_a_component_imports_its_plugin_and_no_other():
    code = (
        "import sys; from bb_roles.registry import component_spec, installed; installed();"
        "component_spec('aggregator', 'fedavg'); print(*sorted(n for n in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    names = done.stdout.split()
    assert [n for n in names if n.startswith("bb_") and n.count("_") > 1 and "." not in n] == [
        "bb_aggregator_fedavg"
    ]
    assert not {"numpy", "onnx"} & set(names)


def test_unknown_component_names_what_is_near_and_what_there_is(bb_install):
    bb_install("model.tiny", whole())

    error = refused(
        lambda: component_spec("model", "tinny"),
        "no plugin provides model.tinny",
        "did you mean 'tiny'?",
        "bb plugins",
        kind=UnknownPluginError,
    )

    assert "tiny" in error.expected


def test_what_is_installed_is_told_once_each(bb_install):
    for owner in ("acme-models", "other-models"):
        bb_install("model.tiny", whole(), owner)

    error = refused(lambda: component_spec("model", "large"), kind=UnknownPluginError)

    assert error.expected.count("tiny") == 1


def test_two_distributions_of_one_name_are_both_named(bb_install):
    bb_install("model.tiny", whole(), "acme-models")
    bb_install("model.tiny", whole(), "other-models")

    refused(
        lambda: component_spec("model", "tiny"),
        "more than one distribution: acme-models, other-models",
        "uninstall all but one",
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("import no_such_library", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def broken(:", "SyntaxError"),
        ("from bb_roles import hookimpl\n@hookimpl\ndef bb_compnent(): ...", "bb_compnent"),
        (
            "from bb_roles import hookimpl\n@hookimpl\ndef bb_component(): 1 / 0",
            "ZeroDivisionError",
        ),
    ],
)
def test_plugin_that_does_not_load_is_named(bb_install, source, text):
    module = bb_install("model.broken", source)

    error = refused(
        lambda: component_spec("model", "broken"), "plugin model.broken does not load", text, module
    )

    assert error.__cause__ is not None


def test_broken_plugin_takes_no_other_down(bb_install):
    bb_install("model.broken", "1 / 0")
    bb_install("model.tiny", whole())

    assert component_spec("model", "tiny").name == "tiny"


def test_plugin_without_the_hook(bb_install):
    bb_install("model.silent", "")

    refused(lambda: component_spec("model", "silent"), "no hook bb_component", "@hookimpl")


def test_plugin_that_declares_something_else(bb_install):
    bb_install(
        "model.odd", "from bb_roles import hookimpl\n@hookimpl\ndef bb_component(): return 3"
    )

    refused(lambda: component_spec("model", "odd"), "declares a int", "ComponentSpec")


@pytest.mark.parametrize("arguments", [{"role": "codec"}, {"name": "other"}])
def test_plugin_that_declares_itself_as_another(bb_install, arguments):
    bb_install("model.tiny", whole(**arguments))

    refused(lambda: component_spec("model", "tiny"), "declares itself as", "agree")


@pytest.mark.parametrize("api", [(0, 9), (2, 0), (1, 99)])
def test_plugin_for_another_version_of_the_contract(bb_install, api):
    bb_install("model.tiny", whole(more=f", api={api}"))

    refused(lambda: component_spec("model", "tiny"), f"contract {api[0]}.{api[1]}", "1.0 to 1.0")


def test_class_that_lacks_methods_lists_them(bb_install):
    bb_install("model.tiny", whole(cls="Half"))

    refused(
        lambda: component_class(component_spec("model", "tiny")),
        "lacks evaluate, fit, load_params, params",
        "bb_roles.Model",
    )


OPS = """
from bb_ir.ops import OpSchema, ops
Tiny.ops = ops(OpSchema("{op}", "{method}"))
"""


def test_class_without_the_method_of_an_op_it_declares(bb_install):
    bb_install("model.tiny", whole() + OPS.format(op="Shrink", method="shrink"))

    refused(lambda: component_class(component_spec("model", "tiny")), "lacks shrink", "own ops")


def test_class_that_declares_an_op_of_its_role(bb_install):
    bb_install("model.tiny", whole() + OPS.format(op="Params", method="params"))

    refused(lambda: component_class(component_spec("model", "tiny")), "op Params, which every")


def test_class_that_adds_ops_to_its_role(bb_install):
    source = whole().replace("class Half", "    def predict(self, ctx): ...\n\nclass Half")
    bb_install("model.tiny", source + OPS.format(op="Predict", method="predict"))

    assert component_class(component_spec("model", "tiny")).ops["Predict"].method == "predict"


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("def backward(self, ctx, grad)", "def backward(self, ctx)", "(self, ctx, grad)"),
        ("def params(self, ctx)", "def params(self)", "def params(self, ctx)"),
        ("def fit(self, ctx, batches)", "def fit(self, ctx, *, batches)", "(self, ctx, batches)"),
        ("def save(self)", "def save(self, ctx)", "def save(self)"),
        ("def __init__(self, config, env)", "def __init__(self, env)", "(self, config, env)"),
        ("def shrink(self, ctx)", "def shrink(self, ctx, by)", "def shrink(self, ctx)"),
    ],
)
def test_method_that_cannot_take_what_it_is_given(bb_install, right, wrong, expected):
    more = "".join(
        f"    {line}: ...\n"
        for line in ("def save(self)", "def __init__(self, config, env)", "def shrink(self, ctx)")
    )
    source = whole().replace("class Half", f"{more}\nclass Half")
    source += OPS.format(op="Shrink", method="shrink")
    assert source.count(right) == 1
    module = bb_install("model.tiny", source.replace(right, wrong))

    told = wrong.removeprefix("def ")
    error = refused(lambda: bound_class("model", "tiny"), f"Tiny.{told} does not take", expected)

    assert str(error.where[0]).startswith(sys.modules[module].__file__)
    bb_install("model.other", source.replace('"tiny"', '"other"').replace("'tiny'", "'other'"))
    assert bound_class("model", "other").__name__ == "Tiny"


def test_methods_may_take_more_than_they_are_given(bb_install):
    source = whole().replace("fit(self, ctx, batches)", "fit(self, *values, rate=1, **more)")
    source = source.replace("def params(self, ctx): ...", "params = staticmethod(len)")
    bb_install("model.tiny", source)

    assert bound_class("model", "tiny").__name__ == "Tiny"


def test_method_with_a_slip_of_the_pen_is_to_be_renamed(bb_install):
    bb_install("model.tiny", whole().replace("def evaluate", "def evalaute"))

    refused(lambda: bound_class("model", "tiny"), "lacks evaluate", "rename 'evalaute' to 'evalua")


@pytest.mark.parametrize(
    ("named", "fix"),
    [(".Tiny", "write '{module}:Tiny'"), (":Tinny", "did you mean 'Tiny'?")],
)
def test_class_that_is_misspelled_is_told(bb_install, named, fix):
    module = bb_install("model.tiny", whole().replace(":Tiny", named))

    refused(lambda: bound_class("model", "tiny"), fix.format(module=module))


@pytest.mark.parametrize(
    ("source", "line"),
    [("import sys\n1 / 0", 2), ("x = 1\ndef broken(:", 2), (WHOLE_BUT_FOR_A_FIELD, 5)],
)
def test_line_of_the_plugin_that_went_wrong_is_told(bb_install, source, line):
    module = bb_install("model.broken", source)

    (place,) = refused(lambda: component_spec("model", "broken"), "does not load").where

    assert str(place).endswith(f"{module}.py:{line}")


def test_error_of_a_library_is_told_with_the_line_that_called_it(bb_install):
    bb_install("model.broken", "import json\n\njson.loads('{')")

    (place,) = refused(lambda: component_spec("model", "broken"), "JSONDecodeError").where

    assert str(place).endswith(".py:3")


def test_contract_that_is_no_version_is_written_right(bb_install):
    bb_install("model.tiny", whole(more=", api='1.0'"))

    refused(lambda: component_spec("model", "tiny"), "'1.0', which is no version", "api=(1, 0)")


@pytest.mark.parametrize(("cls", "text"), [("hookimpl", "is no Model"), ("Gone", "has no 'Gone'")])
def test_class_that_is_none(bb_install, cls, text):
    bb_install("model.tiny", whole(cls=cls))

    refused(lambda: component_class(component_spec("model", "tiny")), "plugin model.tiny", text)


def test_class_of_another_contract(bb_install):
    bb_install("codec.tiny", whole(role="codec"))

    refused(lambda: component_class(component_spec("codec", "tiny")), "is no Codec")


def test_environment_restricts_what_is_seen(bb_install, monkeypatch):
    bb_install("model.tiny", whole())
    bb_install("model.other", whole(name="other"))
    monkeypatch.setenv("BB_PLUGINS", " model.tiny , aggregator.fedavg")

    names = {f"{one.kind}.{one.name}" for one in installed() if one.kind != "op"}

    assert names <= {"model.tiny", "aggregator.fedavg"}
    assert component_spec("model", "tiny").name == "tiny"
    refused(lambda: component_spec("model", "other"), "BB_PLUGINS is set", kind=UnknownPluginError)


@pytest.mark.parametrize(
    ("named", "near"),
    [("model.tinny", "model.tiny"), ("tiny", "model.tiny"), ("zzzzzzzz.qqqqqqqqq", "")],
)
def test_names_in_the_environment_that_nobody_provides_are_told(
    bb_install, monkeypatch, named, near
):
    bb_install("model.tiny", whole())
    bb_install("model.other", whole(name="other"))
    monkeypatch.setenv("BB_PLUGINS", f"{named},model.other")

    assert unprovided() == {named: near}
    meant = f"{named!r}, which nobody provides" + (f" (did you mean {near!r}?)" if near else "")
    refused(lambda: component_spec("model", "tiny"), meant, kind=UnknownPluginError)


@pytest.mark.parametrize("value", ["", " , ", "model.tiny"])
def test_names_in_the_environment_that_are_provided_are_not(bb_install, monkeypatch, value):
    bb_install("model.tiny", whole())
    monkeypatch.setenv("BB_PLUGINS", value)

    assert unprovided() == {}


def test_framework_ops_are_always_seen(monkeypatch):
    monkeypatch.setenv("BB_PLUGINS", "model.tiny")

    assert "Field" in ops_spec("ai.bytesandbrains.syscall").ops


def test_ops_of_a_domain_that_nobody_implements():
    refused(lambda: ops_spec("org.other"), "op.org.other", kind=UnknownPluginError)


def test_ops_of_another_domain(bb_install):
    source = (
        "from bb_roles import OpsSpec, hookimpl\n@hookimpl\ndef bb_ops(): return OpsSpec('x', {})"
    )
    bb_install("op.org.other", source)

    refused(lambda: ops_spec("org.other"), "op.org.other declares itself as op.x", "OpsSpec agree")


def test_class_that_an_artifact_names_by_its_module(bb_install):
    module = bb_install("model.tiny", whole())

    assert issubclass(bound_class("model", f"{module}:Tiny"), Model)
    refused(lambda: bound_class("model", f"{module}:Half"), "lacks evaluate")
    refused(lambda: bound_class("model", "no_such_module:Tiny"), "ModuleNotFoundError")
    refused(lambda: bound_class("codec", f"{module}:Tiny"), "is no Codec")


def test_named_things_are_imported_by_path():
    assert import_named("bb_roles.contracts:Component.save", "x") is Component.save
    refused(lambda: import_named("bb_roles.contracts:Nothing", "op.x"), "plugin op.x cannot be")


def test_specs_are_values():
    assert ComponentSpec("model", "a", "m:C") == ComponentSpec("model", "a", "m:C")
