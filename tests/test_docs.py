"""Every Python block of the documentation runs, each page from top to bottom in an empty folder."""

import re
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BOOK = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], pattern="*.md", path=str(ROOT))
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def names(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = BOOK.parse(page)

    for example in document:
        example.evaluate()

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
