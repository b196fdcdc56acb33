"""Types of values that plugins add: found by name and version, imported when they are needed."""

import sys

import pytest

from bb_roles.errors import PluginError, UnknownPluginError
from bb_roles.registry import installed, installed_types, type_point, type_spec, value_codec

PLUGIN = """
from bb_roles import TypeCodec, TypeSpec, hookimpl

class Word:
    def __init__(self, text):
        self.text = text

class WordCodec(TypeCodec):
    def encode(self, value):
        return value.text.encode()
    def decode(self, data):
        return Word(str(data, "utf-8"))

class Capitals(WordCodec):
    def is_instance(self, value):
        return value.text.isupper()

class Half(TypeCodec):
    def encode(self, value): ...

class Demanding(WordCodec):
    def __init__(self, size): ...

@hookimpl
def bb_type():
    return TypeSpec({name!r}, cls=__name__ + ":{cls}", codec=__name__ + ":{codec}"{more})
"""


def plugin(name="acme.word/1", cls="Word", codec="WordCodec", more="") -> str:
    return PLUGIN.format(name=name, cls=cls, codec=codec, more=more)


def refused(call, *texts, kind=PluginError):
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    for text in texts:
        assert text in str(caught.value), str(caught.value)


def test_a_type_is_found_by_name_and_version(bb_install):
    module = bb_install("type.acme.word.1", plugin(more=", max_bytes=9"))

    codec = value_codec(type_spec("acme.word/1"))

    word = sys.modules[module].Word("ABC")
    assert (codec.name, codec.max_bytes) == ("acme.word/1", 9)
    assert codec.accepts(word)
    assert not codec.accepts("ABC")
    assert codec.encode(word) == b"ABC"
    assert codec.decode(memoryview(b"ABC")).text == "ABC"


def test_a_codec_may_say_more_about_its_values_than_their_class(bb_install):
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


def test_versions_stand_side_by_side(bb_install):
    first = bb_install("type.acme.word.1", plugin())
    second = bb_install("type.acme.word.2", plugin("acme.word/2"))

    assert type_spec("acme.word/1").cls == f"{first}:Word"
    assert type_spec("acme.word/2").cls == f"{second}:Word"
    assert not value_codec(type_spec("acme.word/2")).accepts(sys.modules[first].Word("A"))


def test_a_version_that_nobody_provides_names_those_there_are(bb_install):
    bb_install("type.acme.word.2", plugin("acme.word/2"))

    refused(
        lambda: type_spec("acme.word/1"),
        "no plugin provides type.acme.word.1",
        "did you mean 'acme.word.2'?",
        kind=UnknownPluginError,
    )


def test_two_distributions_of_one_type_are_both_named(bb_install):
    bb_install("type.acme.word.1", plugin(), "acme-words")
    bb_install("type.acme.word.1", plugin(), "other-words")

    refused(lambda: type_spec("acme.word/1"), "acme-words, other-words")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (plugin("acme.word/2"), "declares itself as type.acme.word.2"),
        (plugin(more=", max_bytes=0"), "max_bytes=0"),
        (plugin(more=", max_bytes=True"), "max_bytes=True"),
        (plugin(more=", max_bytes='many'"), "max_bytes='many'"),
        (plugin(more=", max_bytes=1 << 40"), "1 to 1073741824 bytes"),
        (plugin(more=", api=(2, 0)"), "contract 2.0"),
        ("", "no hook bb_type"),
        ("from bb_roles import hookimpl\n@hookimpl\ndef bb_type(): return 3", "declares a int"),
    ],
)
def test_a_declaration_that_does_not_fit(bb_install, source, text):
    bb_install("type.acme.word.1", source)

    refused(lambda: type_spec("acme.word/1"), "plugin type.acme.word.1", text)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"cls": "hookimpl"}, "which is no class"),
        ({"cls": "Gone"}, "AttributeError"),
        ({"codec": "Word"}, "let the class inherit bb_roles.TypeCodec"),
        ({"codec": "hookimpl"}, "which is not a TypeCodec"),
        ({"codec": "Gone"}, "AttributeError"),
        ({"codec": "Half"}, "decode"),
        ({"codec": "Demanding"}, "built without arguments"),
    ],
)
def test_classes_that_do_not_fit(bb_install, parts, text):
    bb_install("type.acme.word.1", plugin(**parts))

    refused(lambda: value_codec(type_spec("acme.word/1")), "plugin type.acme.word.1", text)


def test_the_restriction_to_some_plugins_hides_types_too(bb_install, monkeypatch):
    bb_install("type.acme.word.1", plugin())
    bb_install("type.acme.word.2", plugin("acme.word/2"))
    monkeypatch.setenv("BB_PLUGINS", "type.acme.word.2")

    assert installed_types() == ["acme.word/2"]
    refused(lambda: type_spec("acme.word/1"), "BB_PLUGINS is set", kind=UnknownPluginError)
