"""Lays out the site: `python docs/site/stage.py FOLDER` writes FOLDER/mkdocs.yml and its pages.

The pages are those of docs/, and others made of what the project already has: a page for each
example (its source), each plugin and package (its README), and each public module (its docstrings;
which modules are public, tests/public_api.txt says). The menu follows the lists of docs/README.md,
so there is one index and not two.

What is written is plain Markdown and one settings file; no generator is imported here.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HERE = Path(__file__).parent
#: A line that begins a section of the menu: `**How-to** pages ...`, `**[Examples](x.md)**`.
SECTION = re.compile(r"\*\*\[?([^\]*]+)(?:\]\(([^)]+)\))?\*\*")
README = re.compile(r"\]\(\.\./((?:\.\./)*)(plugins|packages)/([\w-]+)/README\.md")
ITEM = re.compile(r"(?:[-*]|\d+\.) ")
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+\.md)\)")


def main(folder: Path) -> None:
    """Write everything that the generator of the site reads."""
    pages = folder / "docs"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(DOCS, pages, ignore=shutil.ignore_patterns("site", "__pycache__", "*.py"))
    shutil.copy(HERE / "style.css", pages)
    for name, text in made_pages().items():
        page = pages / name
        page.parent.mkdir(exist_ok=True)
        page.write_text(text)
    for page in pages.rglob("*.md"):
        # A page of docs/ leads to a README one folder further up than the site's page does.
        text = README.sub(r"](\1\2/\3.md", page.read_text())
        page.write_text(with_lists(text))
    index = pages / "examples/README.md"
    index.write_text(re.sub(r"\]\((\w+)\.py\)", r"](\1.md)", index.read_text()))
    settings = (HERE / "mkdocs.yml").read_text().replace("ROOT", str(ROOT))
    nav = json.dumps(menu(), indent=1)  # JSON is YAML
    (folder / "mkdocs.yml").write_text(f"{settings}\nnav: {nav}\n")


def made_pages() -> dict[str, str]:
    """Return the pages that are made of other files, by their place in the site."""
    pages = {f"examples/{path.stem}.md": example_page(path) for path in examples()}
    for kind in ("plugins", "packages"):
        pages |= {f"{kind}/{path.parent.name}.md": readme_page(path) for path in readmes(kind)}
    return pages | {f"api/{module}.md": f"::: {module}\n" for module in public_modules()}


def menu() -> list[dict[str, Any]]:
    """Return the menu: the sections of docs/README.md, and what is made, at the end of its own."""
    sections: dict[str, list[Any]] = {"Home": ["README.md"]}
    name = ""
    for line in (DOCS / "README.md").read_text().splitlines():
        if head := SECTION.match(line):
            name = head[1]
            sections[name] = [head[2]] if head[2] else []
        elif line.startswith("- ["):
            sections[name] += [{link[1]: link[2]} for link in LINK.finditer(line)]
    sections["Examples"] += [f"examples/{path.stem}.md" for path in examples()]
    sections["Decisions"] += sorted(f"decisions/{path.name}" for path in DOCS.glob("decisions/2*"))
    sections["Reference"] += [
        {"Plugins": [f"plugins/{path.parent.name}.md" for path in readmes("plugins")]},
        {"Packages": [f"packages/{path.parent.name}.md" for path in readmes("packages")]},
        {"Python API": [{module: f"api/{module}.md"} for module in public_modules()]},
    ]
    return [{name: pages} for name, pages in sections.items()]


def examples() -> list[Path]:
    """Return the programs among the examples."""
    return sorted(DOCS.glob("examples/*.py"))


def readmes(kind: str) -> list[Path]:
    """Return the READMEs of the distributions in a folder."""
    return sorted(ROOT.glob(f"{kind}/*/README.md"))


def public_modules() -> list[str]:
    """Return the modules of the packages that hold public names."""
    names = (ROOT / "tests/public_api.txt").read_text().split()
    own = {path.parent.name for path in ROOT.glob("packages/*/src/*/__init__.py")}
    return sorted({name.rpartition(".")[0] for name in names if name.split(".")[0] in own})


def with_lists(text: str) -> str:
    """Put an empty line before each list: the site's Markdown wants one, GitHub's does not."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        above = lines[-1] if lines else ""
        if not fenced and ITEM.match(line) and above and not (ITEM.match(above) or above[0] == " "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def example_page(path: Path) -> str:
    """Return an example as a page: its source."""
    return f"# {path.name}\n\n```python\n{path.read_text()}```\n"


def readme_page(path: Path) -> str:
    """Return the README of a distribution, with links that stay within the site."""
    text = path.read_text().replace("](../../README.md)", "](../README.md)")
    return text.replace("](../../docs/", "](../")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
