"""A headless Chromium, and pages of `bb explain` to open in it."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = ["chromium", "chromium-browser", "google-chrome"]
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--virtual-time-budget=3000",
]  # fmt: skip


class Chromium:
    def __init__(self, program: str, profile: Path):
        self.command = [program, *FLAGS, f"--user-data-dir={profile}"]

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self.command, *arguments], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def dom(self, page: Path, *, width: int = 1200) -> str:
        """Open a page; return the document as its scripts left it."""
        return self.run(f"--window-size={width},900", "--dump-dom", page.as_uri())

    def probe(self, page: Path, script: str, *, width: int = 1200) -> dict:
        """Open a copy of a page with a script of the test's own; return what it found."""
        text = page.read_text()
        text = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text)
        catch = (
            "<script>window.wrong = [];"
            "window.onerror = function (told) { window.wrong.push(String(told)); };</script>"
        )
        ask = (
            f"<script>var found = (function () {{ {script} }})(); found.wrong = window.wrong;"
            'var out = document.createElement("pre"); out.id = "found";'
            "out.textContent = JSON.stringify(found); document.body.appendChild(out);</script>"
        )
        copy = page.with_name(f"probed-{page.name}")
        copy.write_text(
            text.replace("<head>", f"<head>{catch}").replace("</body>", f"{ask}</body>")
        )
        found = re.search(r'<pre id="found">(.*?)</pre>', self.dom(copy, width=width), re.DOTALL)
        assert found, "the probe did not run"
        return json.loads(html.unescape(found[1]))

    def picture(self, page: Path, to: Path, *, dark: bool = False) -> Path:
        scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
        self.run(*scheme, "--window-size=1000,800", f"--screenshot={to}", page.as_uri())
        return to


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        told = f"no browser: none of {', '.join(NAMES)} is on the path"
        if "CI" in os.environ:
            pytest.fail(told)
        pytest.skip(f"{told}; on Debian: apt-get install chromium")
    return Chromium(program, tmp_path_factory.mktemp("profile"))


@pytest.fixture(scope="session")
def page_of(tmp_path_factory):
    """Return what makes the page of a program, once for all tests."""
    made: dict[str, Path] = {}

    def page(program: str, *options: str) -> Path:
        from bytesandbrains.cli import main

        key = " ".join((program, *options))
        if key not in made:
            path = tmp_path_factory.mktemp("page") / "page.html"
            file, _, name = program.partition(":")
            spec = f"{EXAMPLES / file}:{name}" if file.endswith(".py") else program
            done = CliRunner().invoke(main, ["explain", spec, "--html", str(path), *options])
            assert done.exit_code == 0, done.output
            made[key] = path
        return made[key]

    return page
