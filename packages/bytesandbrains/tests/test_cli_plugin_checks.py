"""`bb plugins --check` and `bb plugins show`: what is named, with its fix, and what is told."""

import pytest

from bytesandbrains.cli import _import_costs, _plugin_checks

WHOLE = """
from bb_roles import ComponentSpec, PeerSelector, hookimpl

{imports}

class Nobody(PeerSelector):
    def current_view(self, ctx): return ()
    def sample(self, ctx, *, n): return ()

@hookimpl
def bb_component():
    return ComponentSpec("peer_selector", {name!r}, __name__ + ":Nobody"{more})
"""


def selector(name="nobody", imports="", more=""):
    return WHOLE.format(name=name, imports=imports, more=more)


@pytest.fixture
def checked(bb):
    """Return `checked(name)`: code, row and what was printed of one plugin."""

    def check(name, kind="peer_selector"):
        done = bb("plugins", f"{kind}.{name}", "--check", "--json")
        row = next(row for row in done.json["plugins"] if row["name"] == name)
        return done.code, row, bb("plugins", f"{kind}.{name}", "--check")

    return check


def test_whole_plugins_are_ok(bb, checked, bb_install):
    bb_install("peer_selector.nobody", selector())

    code, row, printed = checked("nobody")

    assert (code, row["state"], row["error"]) == (0, "ok", None)
    assert printed.code == 0


def test_every_plugin_of_ours_is_ok_and_quick(bb):
    done = bb("plugins", "--check", "--json")

    rows = [row for row in done.json["plugins"] if row["distribution"].startswith("bb-")]
    assert {row["state"] for row in rows} == {"ok"}
    assert [row["warnings"] for row in rows if row["warnings"]] == []


@pytest.mark.parametrize("api", ["(2, 0)", "(1, 99)", "(0, 1)"])
def test_a_contract_that_does_not_fit(checked, bb_install, api):
    bb_install("peer_selector.nobody", selector(more=f", api={api}"))

    code, row, printed = checked("nobody")

    assert (code, row["state"]) == (1, "broken")
    assert "written for contract" in row["error"]["found"]
    assert "1.0 to 1.0" in row["error"]["expected"]
    assert "fix: install a bb-roles and a plugin that fit each other" in printed.err


def test_a_kind_that_there_is_none_of(bb, bb_install):
    bb_install("peer_selektor.nobody", selector())

    done = bb("plugins", "--check", "--json")

    (row,) = [row for row in done.json["plugins"] if row["role"] == "peer_selektor"]
    assert done.code == 1
    assert row["state"] == "broken"
    assert "is of no kind that there is" in row["error"]["found"]
    assert "peer_selector" in row["error"]["expected"]


def test_an_entry_point_without_a_name(bb, bb_install):
    bb_install("nobody", selector())

    done = bb("plugins", "--check")

    assert done.code == 1
    assert "plugin nobody is of no kind that there is" in done.err


def test_both_owners_of_a_name_are_named(bb, checked, bb_install):
    bb_install("peer_selector.nobody", selector(), "acme-nobody")
    bb_install("peer_selector.nobody", selector(), "other-nobody")

    code, row, printed = checked("nobody")

    assert code == 1
    assert "acme-nobody, other-nobody" in row["error"]["found"]
    assert printed.out.count("provided twice") == 2


@pytest.mark.parametrize(
    "how", ["import numpy", "import numpy.linalg as la", "from numpy import ma"]
)
def test_a_light_module_that_is_heavy_is_named_with_what_it_imports(checked, bb_install, how):
    module = bb_install("peer_selector.nobody", selector(imports=how))

    code, row, printed = checked("nobody")

    assert (code, row["state"], row["error"]["code"]) == (1, "slow", "SlowPlugin")
    assert f"imports numpy to declare itself: {module} does" in row["error"]["found"]
    assert "import numpy inside functions" in row["error"]["fix"]
    assert "slow" in printed.out


def test_the_module_that_imports_it_is_named_and_not_the_one_that_is_light(
    bb, checked, bb_install, tmp_path, monkeypatch
):
    (tmp_path / "acme_helper.py").write_text("import numpy\n")
    monkeypatch.syspath_prepend(tmp_path)
    bb_install("peer_selector.nobody", selector(imports="import acme_helper"))

    _, row, _ = checked("nobody")

    assert "imports numpy to declare itself: acme_helper does" in row["error"]["found"]


def test_one_heavy_plugin_hides_no_other_and_blames_no_other(bb, bb_install):
    for name, imports in (("first", "import numpy"), ("light", ""), ("second", "import numpy")):
        bb_install(f"peer_selector.{name}", selector(name, imports))

    rows = bb("plugins", "peer_selector", "--check", "--json").json["plugins"]

    states = {row["name"]: row["state"] for row in rows}
    assert (states["first"], states["light"], states["second"]) == ("slow", "ok", "slow")


def test_what_hides_its_import_is_found_all_the_same(checked, bb_install):
    hidden = "import importlib; importlib.import_module('numpy')"
    bb_install("peer_selector.nobody", selector(imports=hidden))

    assert checked("nobody")[1]["state"] == "slow"


def test_what_takes_long_is_a_warning(bb, checked, bb_install, monkeypatch):
    monkeypatch.setattr(_plugin_checks, "_SECONDS", -1.0)  # anything takes longer
    module = bb_install("peer_selector.nobody", selector())

    code, row, printed = checked("nobody")

    assert (code, row["state"]) == (0, "ok")
    (warning,) = row["warnings"]
    assert warning["code"] == "SlowPlugin"
    assert "ms of CPU to declare itself" in warning["found"]
    assert f"-X importtime -c 'import {module}'" in warning["fix"]
    assert "warning[SlowPlugin]" in printed.err


def test_a_module_that_ends_the_interpreter_is_very_slow(bb_install):
    module = bb_install("peer_selector.nobody", "import os; os._exit(3)")

    cost = _import_costs.import_costs([module, "bb_roles.spec"], 0.1)

    assert cost[module].seconds > 1
    assert cost["bb_roles.spec"].seconds < 1


@pytest.mark.parametrize(
    ("requirement", "state"),
    [
        ("bb-roles~=0.1.0", "ok"),
        ("BB_Roles (>=0.1)", "ok"),
        ("bb-roles[more]>=0.1; python_version>'3'", "ok"),
        ("bb-runtime==0.1.0", "ok"),
        ("bytesandbrains<2", "ok"),
        ("bb-roles", "no range"),
        ("bb-roles-of-others>=1", "no range"),
        ("numpy>=1.26", "no range"),
        ("", "no range"),
    ],
)
def test_a_distribution_says_for_which_contract_it_was_written(
    checked, bb_install, tmp_path, requirement, state
):
    bb_install("peer_selector.nobody", selector(), "acme-nobody")
    (metadata,) = tmp_path.rglob("METADATA")
    lines = f"Requires-Dist: {requirement}\n" if requirement else ""
    metadata.write_text(f"Metadata-Version: 2.1\nName: acme-nobody\nVersion: 0\n{lines}")

    code, row, printed = checked("nobody")

    assert row["state"] == state
    assert code == int(state != "ok")
    if code:
        assert row["error"]["code"] == "NoRange"
        assert row["error"]["found"].startswith("acme-nobody does not say which versions")
        assert "bb-roles~=" in printed.err


# --- show


@pytest.mark.parametrize(
    "asked", [("show", "krum"), ("show", "aggregator.krum"), ("aggregator.krum",)]
)
def test_one_plugin_is_shown_by_its_name(bb, asked):
    told = bb("plugins", *asked, "--json").json["plugin"]

    assert (told["role"], told["name"]) == ("aggregator", "krum")
    assert {"cohort", "attackers"} <= {field["name"] for field in told["fields"]}
    assert bb("plugins", *asked).out.startswith("aggregator.krum\n")


SETTINGS = """
from dataclasses import dataclass
from typing import Annotated
from bb_roles.limits import Limits, check_limits

@dataclass(frozen=True)
class Settings:
    '''What it is told.

    Attributes:
        patience: How long it waits.
        share: How many take part.
        label: What it is called.
    '''
    patience: Annotated[float, Limits(above=0, unit="s")]
    share: Annotated[float | None, Limits(0, 1)] = None
    label: str = "x"

    def __post_init__(self):
        check_limits(self)

"""


def test_types_defaults_limits_and_units_are_shown(bb, bb_install):
    source = selector(imports=SETTINGS).replace(
        "def current_view", "Config = Settings\n    def current_view"
    )
    bb_install("peer_selector.nobody", source)

    fields = {
        one["name"]: one
        for one in bb("plugins", "show", "nobody", "--json").json["plugin"]["fields"]
    }
    printed = bb("plugins", "show", "nobody").out

    assert fields["patience"] == {
        "name": "patience", "type": "float", "default": "", "meaning": "How long it waits.",
        "limits": "above 0", "unit": "s",
    }  # fmt: skip
    assert (fields["share"]["type"], fields["share"]["limits"]) == ("float or None", "0 to 1")
    assert (fields["label"]["limits"], fields["label"]["unit"]) == ("", "")
    assert "must be given" in printed
    assert printed.splitlines()[-4].split() == [
        "name",
        "type",
        "default",
        "limits",
        "unit",
        "meaning",
    ]


def test_a_name_of_two_kinds_is_ambiguous(bb, bb_install):
    bb_install("peer_selector.krum", selector("krum"))

    done = bb("plugins", "show", "krum")

    assert done.code == 3
    assert "aggregator.krum, peer_selector.krum" in done.err


@pytest.mark.parametrize("asked", ["kurm", "aggregator.kurm", "nothing.krum"])
def test_a_name_that_nobody_has(bb, asked):
    done = bb("plugins", "show", asked)

    assert done.code == 3
    assert "error[UnknownPluginError]" in done.err


@pytest.mark.parametrize("asked", [("show",), ("show", "krum", "mlp"), ("model", "mlp")])
def test_wrong_usage_of_show(bb, asked):
    assert bb("plugins", *asked).code == 2


def test_a_name_alone_shows_and_checks_the_plugin_that_has_it(bb):
    assert bb("plugins", "krum").out == bb("plugins", "show", "krum").out
    checked = bb("plugins", "--check", "krum", "--json").json["plugins"]

    assert [(one["role"], one["name"], one["state"]) for one in checked] == [
        ("aggregator", "krum", "ok")
    ]


def test_a_name_alone_that_several_plugins_have_is_not_guessed(bb):
    done = bb("plugins", "--check", "registry")

    assert done.code == 3
    assert "one of peer_selector.registry, protocol.registry" in done.err


def test_a_name_that_is_almost_right_is_asked_for(bb):
    assert "did you mean 'krum'?" in " ".join(bb("plugins", "kurm").err.split())
    assert "did you mean 'aggregator'?" in " ".join(bb("plugins", "agregator").err.split())


def test_a_broken_plugin_cannot_be_shown(bb, bb_install):
    bb_install("peer_selector.nobody", "1/0")

    done = bb("plugins", "show", "nobody")

    assert done.code == 3
    assert "ZeroDivisionError" in done.err


OTHERS = {
    "op.acme": """
from bb_roles import OpsSpec, hookimpl

@hookimpl
def bb_ops():
    return OpsSpec("ai.bytesandbrains.acme", {"Length": "builtins:len"})
""",
    "stage.acme": """
from bb_roles import StageSpec, hookimpl

def run(model):
    return model

@hookimpl
def bb_stage():
    return StageSpec("acme", __name__ + ":run", after="solve_types")
""",
    "type.acme.word.1": """
from bb_roles import TypeCodec, TypeSpec, hookimpl

class Codec(TypeCodec):
    def encode(self, value): ...
    def decode(self, data): ...

@hookimpl
def bb_type():
    return TypeSpec("acme.word/1", "builtins:str", __name__ + ":Codec", 99)
""",
    "transport.acme": """
from bb_roles import TransportSpec, hookimpl

@hookimpl
def bb_transport():
    return TransportSpec("acme", "bb_testing:MemoryTransport", ("memory",))
""",
    "command.acme": """
import click
from bb_roles import CommandSpec, hookimpl

@click.command()
def greet(): ...

@hookimpl
def bb_command():
    return CommandSpec("acme", __name__ + ":greet", "Greets.")
""",
}
TOLD = {
    "op.acme": "1 ops: Length",
    "stage.acme": "after solve_types",
    "type.acme.word.1": "99 bytes",
    "transport.acme": "schemes",
    "command.acme": "bb acme --help",
}


@pytest.mark.parametrize("point", OTHERS)
def test_other_kinds_are_shown_and_checked(bb, bb_install, point):
    bb_install(point, OTHERS[point])

    shown, checked = bb("plugins", "show", point), bb("plugins", point, "--check", "--json")

    assert shown.code == 0, shown.err
    assert TOLD[point] in shown.out
    assert [row["state"] for row in checked.json["plugins"]] == ["ok"]
