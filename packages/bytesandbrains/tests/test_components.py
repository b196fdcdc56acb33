"""What a component can be told is read from its configuration class."""

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pytest
from numpy.typing import NDArray

from bb_roles.contracts import Component
from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.registry import Installed
from bb_roles.spec import ComponentSpec
from bytesandbrains import components

if TYPE_CHECKING:
    from nowhere import Unknown  # pyright: ignore[reportMissingImports]


@dataclass(frozen=True)
class Base:
    """A base class.

    Attributes:
        size (int): How large.
        kind: What the base says.
    """

    size: int
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Settings(Base):
    """A configuration.

    Attributes:
        kind: What the class says, on
            two lines: all of it.

            And after an empty one.
        names: Its names.

    Raises:
        hidden: Of another section.
    """

    names: tuple[str, ...] = ("x", "y")
    table: Mapping[str, int | None] = field(default_factory=dict[str, int | None])
    pick: Callable[[int], int] | None = None
    array: NDArray[np.float32] | None = None
    plain: object = dataclasses.field(default_factory=object)
    hidden: float = 0.5
    made: int = field(default=1, init=False)
    shared: ClassVar[int] = 2


@dataclass(frozen=True)
class Unresolved:
    """Names a type that is there for type checkers only."""

    what: "Unknown | None" = None


class Thing(Component):
    """A thing of the test.

    More about it.
    """

    Config: ClassVar[type] = Settings


@pytest.fixture
def told(monkeypatch) -> Callable[..., components.ComponentPage]:
    """Describe `Thing` with another `Config`, as if it was installed."""

    def describe(config: type = Settings, summary: str = "") -> components.ComponentPage:
        spec = ComponentSpec(role="model", name="thing", cls="acme:Thing", summary=summary)
        here = Installed("model", "thing", "acme", "1", "acme", "")
        monkeypatch.setattr(Thing, "Config", config)
        monkeypatch.setattr(components, "component_spec", lambda *_: spec)
        monkeypatch.setattr(components, "component_class", lambda _: Thing)
        monkeypatch.setattr(components, "installed", lambda _: [here])
        return components.describe("model", "thing")

    return describe


def by_name(page: components.ComponentPage) -> dict[str, components.FieldPage]:
    return {one.name: one for one in page.fields}


def test_page_of_an_installed_component_says_where_it_is_from():
    page = components.describe("model", "mlp")

    assert (page.role, page.name, page.distribution) == ("model", "mlp", "bb-model-mlp")
    assert page.cls == "bb_model_mlp._mlp:Mlp"
    assert page.summary.startswith("Multilayer perceptron")
    assert by_name(page)["lr"][:4] == ("lr", "float", "0.1", "Learning rate.")


def test_page_names_the_ops_that_a_component_adds_to_its_role():
    registry = components.describe("protocol", "registry")
    page = components.markdown([registry])

    assert "Members(label='') -> (peers: peers)" in registry.ops
    assert "- `Members(label='') -> (peers: peers)`" in page
    assert components.describe("model", "mlp").ops == ()


def test_inherited_fields_come_first_with_what_their_class_says():
    fields = components.describe("data_source", "arrays").fields

    assert fields[0].name == "split"
    assert fields[0].type == '"all" or "train" or "test"'
    assert [one.name for one in fields][-2:] == ["x", "y"]


@pytest.mark.parametrize("page", components.describe_installed(), ids=lambda page: page.name)
def test_every_field_of_every_installed_component_has_a_meaning(page):
    assert [one.name for one in page.fields if not one.meaning] == []


def test_only_what_can_be_given_is_a_field(told):
    assert list(by_name(told())) == [
        "size", "kind", "names", "table", "pick", "array", "plain", "hidden",
    ]  # fmt: skip


def test_types_are_told_as_people_say_them(told):
    types = {name: one.type for name, one in by_name(told()).items()}

    assert types == {
        "size": "int",
        "kind": '"a" or "b"',
        "names": "tuple[str, ...]",
        "table": "Mapping[str, int or None]",
        "pick": "Callable or None",
        "array": "ndarray or None",
        "plain": "object",
        "hidden": "float",
    }


def test_type_that_cannot_be_looked_up_is_told_as_it_is_written(told):
    assert by_name(told(Unresolved))["what"].type == "Unknown | None"


def test_defaults_are_values_and_never_addresses(told):
    defaults = {name: one.default for name, one in by_name(told()).items()}

    assert defaults["size"] == ""
    assert defaults["kind"] == '"a"'
    assert defaults["names"] == "('x', 'y')"
    assert defaults["table"] == "{}"
    assert defaults["pick"] == "None"
    assert defaults["plain"] == "object()"


def test_meaning_is_that_of_the_nearest_class_and_of_its_own_section(told):
    meanings = {name: one.meaning for name, one in by_name(told()).items()}

    assert meanings["size"] == "How large."
    assert (
        meanings["kind"] == "What the class says, on two lines: all of it. And after an empty one."
    )
    assert meanings["names"] == "Its names."
    assert meanings["hidden"] == ""


def test_component_without_a_summary_gets_the_first_line_of_its_docstring(told):
    assert told().summary == "A thing of the test."
    assert told(summary="a thing").summary == "a thing"


def test_config_that_is_no_dataclass_is_told_as_such(told):
    with pytest.raises(PluginError, match=r"model\.thing has a Config that is not a dataclass"):
        told(int)


def test_component_that_nobody_provides_is_told_as_such():
    with pytest.raises(UnknownPluginError, match=r"no plugin provides model\.nothing"):
        components.describe("model", "nothing")


def test_markdown_has_a_row_per_field_and_keeps_its_columns(told):
    page = told(summary="a thing")
    fields = (components.FieldPage("size", "int | str", "", "This | that."),)

    text = components.markdown([dataclasses.replace(page, fields=fields)])

    assert "## `model.thing`\n\nA thing. From `acme`.\n" in text
    assert "\n| `size` | `int \\| str` | must be given | This \\| that. |\n" in text


def test_markdown_says_that_a_component_takes_nothing(told):
    text = components.markdown([dataclasses.replace(told(), fields=())])

    assert text.endswith("\nIt takes no configuration.\n")


def test_module_prints_the_page(capsys):
    components.main()

    out: Any = capsys.readouterr().out
    assert out == components.markdown(components.describe_installed())
    assert out.startswith("# Components\n")


# What `bb plugins ROLE.NAME` makes of it.


def test_view_has_the_facts_and_a_row_per_field(bb):
    done = bb("plugins", "model.mlp")

    lines = done.out.splitlines()
    assert done.code == 0
    assert lines[0] == "model.mlp"
    assert "distribution  bb-model-mlp" in lines
    assert "class         bb_model_mlp._mlp:Mlp" in lines
    assert any(line.split()[:3] == ["lr", "float", "0.1"] for line in lines)
    assert "Learning rate." in done.out


def test_view_as_json_has_the_same(bb):
    told = bb("plugins", "peer-selector.static", "--json").json["plugin"]
    page = components.describe("peer_selector", "static")

    assert (told["role"], told["name"], told["summary"]) == (page.role, page.name, page.summary)
    assert (told["class"], told["distribution"]) == (page.cls, page.distribution)
    assert told["version"]
    assert told["fields"] == [one._asdict() for one in page.fields]


def test_view_of_a_component_that_takes_nothing_says_so(bb):
    assert "it takes no configuration" in bb("plugins", "backend.numpy").out


def test_view_of_ops_names_them(bb):
    done = bb("plugins", "op.syscall")

    assert done.code == 0
    assert "Record" in done.out
    assert "configuration" not in done.out


def test_view_keeps_brackets_that_look_like_markup(bb):
    assert "tuple[int, ...]" in bb("plugins", "model.mlp").out


@pytest.mark.parametrize("check", [[], ["--check"]])
@pytest.mark.parametrize("what", ["model.mpl", "op.mpl"])
def test_view_of_what_nobody_provides_is_an_error_of_the_input(bb, what, check):
    done = bb("plugins", what, "--json", *check)

    assert done.code == 3
    assert [error["code"] for error in done.json["errors"]] == ["UnknownPluginError"]


def test_view_of_a_plugin_of_an_unknown_role_is_a_usage_error(bb):
    done = bb("plugins", "modle.mlp")

    assert done.code == 2
    assert "'modle' is no role; there are aggregator" in done.err


def test_check_of_one_plugin_checks_that_one(bb):
    (row,) = bb("plugins", "data_source.digits", "--check", "--json").json["plugins"]

    assert (row["name"], row["state"]) == ("digits", "ok")


def test_unknown_role_is_told_in_json_too(bb):
    done = bb("plugins", "modle", "--json")

    (error,) = done.json["errors"]
    assert done.code == 2
    assert error["code"] == "NoSuchRole"
    assert "aggregator" in error["expected"]


def test_list_says_where_plugins_are_only_when_asked(bb):
    plain, located = bb("plugins", "model"), bb("plugins", "model", "-v")

    assert "from" not in plain.out.split()
    assert max(map(len, plain.out.splitlines())) <= 80
    assert "from" in located.out.split()


def test_list_imports_no_plugin(bb, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "bb_model_mlp"]:
        monkeypatch.delitem(sys.modules, name)

    bb("plugins", "model")

    assert "bb_model_mlp" not in sys.modules
