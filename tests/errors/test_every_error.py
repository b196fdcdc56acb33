"""Every error class of this repository is provoked, says what it must, and is on the page."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/reference/errors.md"
#: What they say is in what they hold: other errors, or a traceback.
WITHOUT_HELP = {"FrameFailed", "SeveralErrors"}
#: Usage errors are printed as click prints them.
BY_CLICK = {"NoSuchRole", "WrongUsage"}


def load(name):
    """Import a module that stands beside this file; tests are in no package."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


harness = load("harness")
CASES = [case for section in harness.sections() for case in section.cases]


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """Return a function that runs a case, once."""
    known = {}

    def tell(case):
        if case.kind not in known:
            known[case.kind] = harness.run(case, tmp_path_factory.mktemp("case").resolve())
        return known[case.kind]

    return tell


def name_of(case):
    return f"{case.kind.__module__.partition('.')[0]}.{case.kind.__name__}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_error_is_raised_and_says_what_is_wrong(case, told):
    error = told(case).error

    assert error["code"] == case.kind.code
    assert case.names, "say after the name of the error what its first sentence must hold"
    assert [text for text in case.names if text not in error["found"]] == [], error["found"]
    raised = told(case).raised
    assert raised is None or type(raised) is case.kind


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_error_quotes_the_lines_of_the_program(case, told):
    places = [place for place in told(case).error["where"] if "line" in place]

    assert [place["line"] for place in places] == case.marked, told(case).printed
    lines = case.program.splitlines()
    for place in places:
        assert place["file"] == "program.py"
        assert place["text"] == lines[place["line"] - 1].strip()
        assert f"--> program.py:{place['line']}\n   |  {place['text']}" in told(case).printed


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_error_says_what_to_do(case, told):
    error = told(case).error

    assert error["expected"] or error["fix"] or case.kind.__name__ in WITHOUT_HELP
    assert error["found"].strip() == error["found"] != ""
    assert not error["found"].endswith("."), "places and what is expected follow it"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_error_names_values_as_the_program_does(case, told):
    printed = told(case).printed

    assert re.findall(r"'[a-z_]+\.\d+'", re.sub(r"ArtifactInvalid.*", "", printed)) == []
    assert not re.search(r"0x[0-9a-f]{6,}|/tmp/|site-packages", printed), "no address, no path"


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_error_is_printed_with_its_code(case, told):
    if case.kind.__name__ in BY_CLICK:
        assert told(case).error["found"] in told(case).printed
    elif case.kind.__name__ == "SeveralErrors":
        assert told(case).printed.count("error[") > 1
    else:
        assert told(case).printed.startswith(f"error[{case.kind.code}]: ")


def test_every_error_class_has_one_program():
    kinds = [case.kind for case in CASES]
    expected = {one for one in harness.error_classes() if one.__name__ not in harness.ABSTRACT}

    assert sorted(expected - set(kinds), key=str) == [], "write a program for it in cases/"
    assert len(kinds) == len(set(kinds))


def test_classes_that_only_stand_for_others_have_others():
    for one in harness.error_classes():
        if one.__name__ in harness.ABSTRACT:
            assert one.__subclasses__(), f"{one} is never raised, and nothing is a kind of it"


def test_every_error_class_says_what_it_means():
    thin = [
        f"{one.__module__}.{one.__name__}"
        for one in harness.error_classes()
        if "\n\n" not in (one.__doc__ or "").strip()
    ]

    assert thin == [], "a docstring says what happened, and below when it is met and what to do"


def test_every_plugin_that_cases_may_see_is_installed():
    from bb_roles.registry import installed

    assert set(harness.PLUGINS) <= {f"{one.kind}.{one.name}" for one in installed()}


@pytest.fixture
def written(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    return load("page").markdown()


def test_page_is_what_the_errors_say(written):
    assert PAGE.read_text() == written, (
        "write it anew: python tests/errors/page.py > docs/reference/errors.md"
    )


def test_many_errors_of_one_pass_are_cut_short():
    from bb_compiler.errors import CompileError, SeveralErrors
    from bytesandbrains.cli._errors import as_texts, flatten

    many = SeveralErrors([CompileError(f"number {n}") for n in range(23)])

    for text, rest in ((str(many), "and 3 more"), (as_texts(many), "and 3 more errors")):
        assert "number 19" in text
        assert "number 20" not in text
        assert text.endswith(f"\n\n{rest}")
    assert len(flatten(many)) == 23


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_errors_fit_the_screen(columns, tmp_path, monkeypatch):
    import click

    from bytesandbrains.cli._errors import as_text

    case = next(case for case in CASES if case.kind.__name__ == "AmbiguousPlacement")
    error = harness.run(case, tmp_path.resolve()).raised
    monkeypatch.chdir(tmp_path)

    text = as_text(error, width=columns)

    plain = click.unstyle(text)
    assert text.startswith(f"{click.style('error[AmbiguousPlacement]', fg='red', bold=True)}: ")
    assert max(map(len, plain.splitlines())) <= columns
    assert " ".join(plain.split()).startswith(f"error[AmbiguousPlacement]: {error.found}")
    assert "   |  mine = self.model.params(g)" in plain
    assert "\n  fix: " in plain


def test_long_line_of_a_program_is_cut_to_the_screen():
    import linecache

    from bb_ir.errors import BytesAndBrainsError, SourceLine
    from bytesandbrains.cli._errors import as_text

    linecache.cache["long.py"] = (1, None, [f"x = {'y' * 100}\n"], "long.py")

    text = as_text(BytesAndBrainsError("it is long", where=SourceLine("long.py", 1)), width=40)

    assert max(map(len, text.splitlines()[2:])) <= 40 + len("\x1b[36m\x1b[0m")
    assert text.endswith("yyy...")
