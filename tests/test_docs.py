"""Every Python block of the documentation runs, each page from top to bottom in an empty folder."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer

ROOT = Path(__file__).parents[1]
#: A plugin that is not installed here, such as one that needs torch, has a session of its own.
PLUGINS = [
    page
    for page in sorted((ROOT / "plugins").glob("*/README.md"))
    if importlib.util.find_spec(page.parent.name.replace("-", "_"))
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *PLUGINS]
FILE = re.compile(r"<!-- file: (\S+) -->\n\Z")


def blocks(document):
    """Yield what pages do: Python runs; a block under `<!-- file: name -->` is written instead."""
    found = [*PythonCodeBlockParser()(document), *FencedCodeBlockLexer("toml")(document)]
    for region in found:
        above = FILE.search(document.text, 0, region.start)
        if above:
            region.parsed = above[1], region.lexemes["source"]
            region.evaluator = write_file
        if region.evaluator:
            yield region


def write_file(example):
    """Write a file that a page shows; if it is one of tests, run them as its reader would."""
    name, text = example.parsed
    file = Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(text))
    importlib.invalidate_caches()
    if "src" in file.parts:  # the page has said `pip install -e .`
        source = str(Path(*file.parts[: file.parts.index("src") + 1]).absolute())
        sys.path.insert(0, source)
        os.environ["PYTHONPATH"] = source
    if file.name.startswith("test_"):
        pytest_it = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
        ran = subprocess.run(pytest_it, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout


BOOK = Sybil(parsers=[blocks, SkipParser()], pattern="*.md", path=str(ROOT))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def names(path):
    return str(path.relative_to(ROOT))


def run_first_command():
    """Do what the README's first command does, in short: its Python reads what that leaves."""
    from click.testing import CliRunner

    from bytesandbrains.cli import main

    done = CliRunner().invoke(main, ["demo", "--rounds=1", "--no-plot", "--no-baselines"])
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PYTHONPATH", "")
    if page.name == "README.md" and page.parent == ROOT:
        run_first_command()
    document = BOOK.parse(page)

    try:
        for example in document:
            example.evaluate()
    finally:
        for written in tmp_path.glob("*.py"):
            sys.modules.pop(written.stem, None)

    assert "```python" not in page.read_text() or any(True for _ in document)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_links_of_a_page_lead_somewhere(page):
    broken = [to for to in LINK.findall(page.read_text()) if not (page.parent / to).exists()]

    assert not broken


def test_roles_page_names_every_op_and_method():
    from bb_ir.ops import ROLE_OPS

    page = (ROOT / "docs/reference/roles.md").read_text()
    schemas = [schema for ops in ROLE_OPS.values() for schema in ops.values()]

    assert [s.name for s in schemas if f"`{s.name}`" not in page] == []
    assert [s.method for s in schemas if f"`{s.method}(ctx" not in page] == []


def test_command_line_page_names_every_command_and_exit_code():
    from click.testing import CliRunner

    from bytesandbrains.cli import main

    page = (ROOT / "docs/reference/cli.md").read_text()
    told = CliRunner().invoke(main, ["--help"]).output
    commands = re.findall(r"^  ([a-z]+)  ", told.partition("Commands:")[2], re.MULTILINE)
    codes = re.findall(r"(?:codes: |; )(\d+) ", " ".join(told.split()))

    assert commands
    assert [name for name in commands if f"`bb {name}" not in page] == []
    assert [code for code in codes if f"| {code} |" not in page] == []


def test_index_of_the_docs_lists_every_page():
    docs = ROOT / "docs"
    listed = {docs / to for to in LINK.findall((docs / "README.md").read_text())}
    folders = ("tutorials", "how-to", "explanation", "reference")
    below = [page for name in folders for page in docs.glob(f"{name}/**/*.md")]
    pages = [*docs.glob("*.md"), *below]

    assert [names(page) for page in pages if page not in {*listed, docs / "README.md"}] == []


@pytest.mark.slow
def test_tutorial_on_plugins_ends_with_one_that_passes_its_suite(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from bytesandbrains.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "geomed/src"))
    page = (ROOT / "docs/tutorials/your-first-plugin.md").read_text()
    files = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", page, re.DOTALL)

    begun = CliRunner().invoke(main, ["new", "aggregator", "geomed"])
    for name, text in files:
        assert Path(name).exists(), f"bb new writes no {name}"
        Path(name).write_text(text)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    ran = subprocess.run(tests, cwd="geomed", capture_output=True, text=True, check=False)

    assert begun.exit_code == 0, begun.output
    assert ran.returncode == 0, ran.stdout
