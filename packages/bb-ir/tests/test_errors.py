"""What errors say, and how they look."""

import pickle

import pytest

from bb_ir import errors
from bb_ir.errors import BytesAndBrainsError, SourceLine, WireError, closest, did_you_mean


def test_error_says_what_where_expected_and_fix(tmp_path):
    path = tmp_path / "program.py"
    path.write_text("first\n    second = wrong\n")

    error = BytesAndBrainsError(
        "'wrong' is not known",
        expected="'right'",
        fix="write 'right'",
        where=(SourceLine(str(path), 2), "config['x']"),
    )

    assert str(error).splitlines() == [
        "'wrong' is not known",
        f"  --> {path}:2",
        "   |  second = wrong",
        "  --> config['x']",
        "  expected: 'right'",
        "  fix: write 'right'",
    ]


def test_error_may_be_short():
    error = BytesAndBrainsError("wrong")

    assert str(error) == "wrong"
    assert (error.expected, error.fix, error.where) == ("", "", ())


@pytest.mark.parametrize("file", ["nowhere/at_all.py", "no\0file.py"])
def test_place_that_cannot_be_read_is_named(file):
    error = BytesAndBrainsError("wrong", where=SourceLine(file, 3))

    assert str(error) == f"wrong\n  --> {file}:3"


def test_code_is_the_name_of_the_class_unless_said():
    class Other(BytesAndBrainsError):
        code = "other"

    assert BytesAndBrainsError.code == "error"
    assert WireError.code == "WireError"
    assert Other("x").code == "other"


@pytest.mark.parametrize("file", ["a.py", "a:b.py", "C:/a.py", "<stdin>"])
def test_place_is_read_back(file):
    assert SourceLine.parse(str(SourceLine(file, 12))) == SourceLine(file, 12)


def test_error_survives_pickling():
    error = WireError("wrong", expected="right", fix="mend", where=(SourceLine("a.py", 1),))

    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert copy.where == error.where


def test_all_errors_have_one_base():
    public = [getattr(errors, name) for name in errors.__all__]
    kinds = [one for one in public if isinstance(one, type)]

    assert all(issubclass(k, BytesAndBrainsError) for k in kinds if issubclass(k, Exception))


def test_name_that_is_almost_known_is_asked_for():
    assert did_you_mean("modle", ["model", "data"]) == "did you mean 'model'?"
    assert did_you_mean("modle", iter(["backend"])) == ""


@pytest.mark.parametrize(
    ("wanted", "known", "meant"),
    [
        ("codek", ["model", "data"], ""),
        ("codek", ["model", "codec"], "codec"),
        ("nope", ["op", "type"], ""),
        ("mpl", ["sklearn", "mlp"], "mlp"),
        ("nam", ["huge", "nan"], "nan"),
        ("a", ["b"], ""),
        ("evaluate", ["train", "eval"], "eval"),
        ("quant", ["topk", "quantize"], "quantize"),
        ("kurm", ["median", "krum"], "krum"),
        ("", ["model"], ""),
        ("model", [], ""),
    ],
)
def test_only_what_is_close_is_suggested(wanted, known, meant):
    assert closest(wanted, known) == meant
