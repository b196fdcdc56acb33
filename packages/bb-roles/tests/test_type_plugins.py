"""Types of values that plugins add: found by name and version, imported when they are needed."""

import sys

import pytest

from bb_roles.errors import UnknownPluginError
from bb_roles.registry import installed, installed_types, type_point, type_spec, value_codec


@pytest.fixture
def plugin(plugins):
    return plugins["type"].source


def test_a_type_is_found_by_name_and_version(bb_install, plugin):
    module = bb_install("type.acme.word.1", plugin(more=", max_bytes=9"))

    codec = value_codec(type_spec("acme.word/1"))

    word = sys.modules[module].Word("ABC")
    assert (codec.name, codec.max_bytes) == ("acme.word/1", 9)
    assert codec.accepts(word)
    assert not codec.accepts("ABC")
    assert codec.encode(word) == b"ABC"
    assert codec.decode(memoryview(b"ABC")).text == "ABC"


def test_a_codec_may_say_more_about_its_values_than_their_class(bb_install, plugin):
    module = bb_install("type.acme.word.1", plugin(codec="Capitals"))

    codec = value_codec(type_spec("acme.word/1"))

    assert codec.accepts(sys.modules[module].Word("ABC"))
    assert not codec.accepts(sys.modules[module].Word("abc"))
    assert not codec.accepts(None)  # no codec is asked about objects of other classes


def test_names_of_types_are_read_from_metadata(bb_install):
    modules = [
        bb_install(point, "raise SystemExit('not to be imported')")
        for point in ("type.acme.word.2", "type.acme.word.10", "type.acme", "type.acme.word.x")
    ]

    names = installed_types()

    assert [name for name in names if name.startswith("acme")] == ["acme.word/10", "acme.word/2"]
    assert not set(modules) & set(sys.modules)
    assert type_point("acme.word/2") in {f"{one.kind}.{one.name}" for one in installed("type")}


def test_versions_stand_side_by_side(bb_install, plugin):
    first = bb_install("type.acme.word.1", plugin())
    second = bb_install("type.acme.word.2", plugin(name="acme.word/2"))

    assert type_spec("acme.word/1").cls == f"{first}:Word"
    assert type_spec("acme.word/2").cls == f"{second}:Word"
    assert not value_codec(type_spec("acme.word/2")).accepts(sys.modules[first].Word("A"))


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        ("0", "max_bytes=0"),
        ("True", "max_bytes=True"),
        ("'many'", "max_bytes='many'"),
        ("1 << 40", "1 to 1073741824 bytes"),
    ],
)
def test_a_limit_that_does_not_fit(bb_install, refused, plugin, limit, text):
    bb_install("type.acme.word.1", plugin(more=f", max_bytes={limit}"))

    refused(lambda: type_spec("acme.word/1"), "plugin type.acme.word.1", text)


@pytest.mark.parametrize(
    ("codec", "text"),
    [
        ("Word", "let the class inherit bb_roles.TypeCodec"),
        ("hookimpl", "which is not a TypeCodec"),
        ("Gone", "has no 'Gone'"),
        ("Half", "decode"),
        ("Demanding", "built without arguments"),
    ],
)
def test_a_codec_that_does_not_fit(bb_install, refused, plugin, codec, text):
    bb_install("type.acme.word.1", plugin(codec=codec))

    refused(lambda: value_codec(type_spec("acme.word/1")), "plugin type.acme.word.1", text)


def test_the_restriction_to_some_plugins_hides_types_too(bb_install, refused, plugin, monkeypatch):
    bb_install("type.acme.word.1", plugin())
    bb_install("type.acme.word.2", plugin(name="acme.word/2"))
    monkeypatch.setenv("BB_PLUGINS", "type.acme.word.2")

    assert installed_types() == ["acme.word/2"]
    refused(lambda: type_spec("acme.word/1"), "BB_PLUGINS is set", kind=UnknownPluginError)
