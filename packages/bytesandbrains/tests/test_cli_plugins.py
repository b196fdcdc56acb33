"""`bb plugins` and `bb doctor`."""

import sys

import pytest


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Install a distribution with one plugin, as far as metadata can tell."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    made = []

    def add(distribution: str, point: str, code: str = "") -> None:
        module = distribution.replace("-", "_")
        info = folder / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Name: {distribution}\nVersion: 1.2\nRequires-Dist: bb-roles~=0.1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[bytesandbrains.v1]\n{point} = {module}\n")
        (folder / f"{module}.py").write_text(code)
        made.append(module)

    yield add
    for module in made:
        sys.modules.pop(module, None)


def test_table_names_role_version_and_distribution(bb):
    done = bb("plugins")

    rows = {tuple(line.split()[:4]) for line in done.out.splitlines()}
    assert done.code == 0
    assert ("role", "name", "version", "distribution") in rows
    assert any(row[:2] == ("model", "mlp") and row[3] == "bb-model-mlp" for row in rows)
    assert all(line == line.rstrip() for line in done.out.splitlines())


def test_json_has_every_fact(bb):
    rows = {row["name"]: row for row in bb("plugins", "model", "--json").json["plugins"]}
    row = rows["mlp"]

    assert (row["name"], row["role"], row["distribution"]) == ("mlp", "model", "bb-model-mlp")
    assert row["location"]
    assert row["duplicate"] is False


def test_one_role_can_be_asked_for_with_a_dash(bb):
    roles = {row["role"] for row in bb("plugins", "data-source", "--json").json["plugins"]}

    assert roles == {"data_source"}


def test_unknown_role_is_a_usage_error_that_lists_the_roles(bb):
    done = bb("plugins", "modle")

    assert done.code == 2
    assert "aggregator" in done.err


def test_check_passes_for_what_works(bb):
    done = bb("plugins", "--check", "--json")

    assert done.code == 0
    assert {row["state"] for row in done.json["plugins"]} == {"ok"}


def test_broken_plugin_is_named_and_takes_no_other_down(bb, publish):
    publish("acme-sad", "model.sad", "import no_such_library\n")

    done = bb("plugins", "model", "--check")

    assert done.code == 1
    assert "broken" in done.out
    assert "mlp" in done.out
    assert "model.sad" in done.err
    assert "no_such_library" in done.err


def test_broken_plugin_is_listed_without_check(bb, publish):
    publish("acme-sad", "model.sad", "import no_such_library\n")

    done = bb("plugins", "model")

    assert done.code == 0
    assert "acme-sad" in done.out


def test_class_that_cannot_be_imported_is_broken_too(bb, publish):
    code = """
from bb_roles import ComponentSpec, hookimpl

@hookimpl
def bb_component():
    return ComponentSpec(role="model", name="half", cls="acme_half:Missing")
"""
    publish("acme-half", "model.half", code)

    done = bb("plugins", "model", "--check", "--json")

    states = {row["name"]: row["state"] for row in done.json["plugins"]}
    errors = [row["error"]["code"] for row in done.json["plugins"] if row["error"]]
    assert states.pop("half") == "broken"
    assert set(states.values()) == {"ok"}
    assert errors == ["PluginError"]


TYPE = """
from bb_roles import TypeCodec, TypeSpec, hookimpl

class TextCodec(TypeCodec):
    def encode(self, value): return value.encode()
    def decode(self, data): return str(data, "utf-8")

@hookimpl
def bb_type():
    return TypeSpec("acme.text/1", cls="builtins:str", codec="acme_text:{codec}", summary="A text.")
"""


def test_types_of_values_are_listed_and_shown(bb, publish):
    publish("acme-text", "type.acme.text.1", TYPE.format(codec="TextCodec"))

    (row,) = bb("plugins", "type", "--check", "--json").json["plugins"]
    shown = bb("plugins", "type.acme.text.1")

    assert (row["role"], row["name"], row["state"]) == ("type", "acme.text.1", "ok")
    assert shown.code == 0
    assert "A text." in shown.out


def test_a_type_whose_codec_is_missing_is_broken(bb, publish):
    publish("acme-text", "type.acme.text.1", TYPE.format(codec="Gone"))

    done = bb("plugins", "type", "--check")

    assert done.code == 1
    assert "type.acme.text.1" in done.err


def test_doubles_are_shown_and_both_are_named(bb, publish):
    publish("acme-mlp", "model.mlp")

    plain, checked = bb("plugins", "model"), bb("plugins", "model", "--check")

    assert plain.code == 0
    assert plain.out.count("provided twice") == 2
    assert checked.code == 1
    assert "acme-mlp, bb-model-mlp" in checked.err


def test_doctor_tells_what_decides_the_bits(bb):
    told = bb("doctor", "--json").json

    assert len(told["fingerprint"]) == 16
    assert told["versions"]["numpy"]
    assert told["versions"]["bytesandbrains"]
    assert told["blas"]["name"]
    assert told["cpu"]["machine"]
    assert told["broken"] == {}


def test_doctor_prints_a_table(bb):
    done = bb("doctor")

    assert done.code == 0
    assert done.out.startswith("fingerprint")
    assert "all load" in done.out


def test_doctor_fails_on_a_broken_plugin(bb, publish):
    publish("acme-sad", "model.sad", "import no_such_library\n")

    done = bb("doctor")

    assert done.code == 1
    assert "1 broken" in done.out


def test_fingerprint_is_the_same_twice_and_changes_with_a_version(monkeypatch):
    from bytesandbrains import fingerprint as module

    first, second = module.fingerprint(), module.fingerprint()
    monkeypatch.setattr(module, "_versions", lambda: {"numpy": "0"})

    assert first == second
    assert module.fingerprint().fingerprint != first.fingerprint


def test_blas_is_unknown_rather_than_guessed(monkeypatch):
    from bytesandbrains import fingerprint as module

    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    assert module.fingerprint().blas.threads is None


def test_names_in_the_environment_that_nobody_provides_are_told(bb, monkeypatch):
    monkeypatch.setenv("BB_PLUGINS", "model.mlpp,aggregator.krum")

    done = bb("plugins", "aggregator")

    assert (done.code, "krum" in done.out) == (0, True)
    assert done.err == (
        "BB_PLUGINS names 'model.mlpp', which nobody provides: did you mean 'model.mlp'?\n"
    )
    assert bb("plugins", "--json").json["unprovided"] == [
        {"name": "model.mlpp", "near": "model.mlp"}
    ]
    monkeypatch.setenv("BB_PLUGINS", "aggregator.krum")
    assert bb("plugins", "aggregator").err == ""
    assert "unprovided" not in bb("plugins", "--json").json
