"""What a new author does: `bb new`, install, test, look it up, run it; of ours, only wheels."""

import json
from pathlib import Path

import pytest

from bytesandbrains._scaffold import TEMPLATES

pytestmark = pytest.mark.slow

READ = Path(__file__).with_name("read_aloud.py")


def test_an_aggregator_from_nothing_to_a_federation(author):
    told = json.loads(author.bb("new", "aggregator", "my-agg", "--json"))
    assert told["next"][1:3] == ['pip install -e ".[test]"', "pytest"]

    author.install("my-agg")

    assert " passed" in author.run("-m", "pytest", "-q", folder="my-agg")
    rows = json.loads(author.bb("plugins", "aggregator", "--json"))["plugins"]
    assert "my-agg" in [row["name"] for row in rows]
    assert "most_examples" in author.bb("plugins", "show", "my-agg")
    small = ["--rounds", "2", "--peers", "client=6", "--no-plot", "--json"]
    mine = author.bb("sim", "fedavg", "--aggregator", "my-agg", *small)
    assert len(json.loads(mine)["rounds"]) == 2
    author.run("-W", "error", READ, author.desk / "my-agg" / "README.md")


def test_every_other_kind_passes_its_tests_at_once(author):
    kinds = [kind for kind in TEMPLATES if kind != "aggregator"]
    projects = [f"my-{kind.replace('_', '-')}" for kind in kinds]
    for kind, project in zip(kinds, projects, strict=True):
        author.bb("new", kind, project)

    author.install(*projects)

    # In one go: each start of Python and pytest takes as long as the tests of a small plugin.
    folders = [author.desk / project / "tests" for project in projects]
    options = ["-q", "--import-mode=importlib", "--strict-markers", "-W", "error"]
    assert " passed" in author.run("-m", "pytest", *options, *folders)
    checked = json.loads(author.bb("plugins", "--check", "--json"))["plugins"]
    states = {row["name"].removesuffix(".1"): (row["state"], row["warnings"]) for row in checked}
    assert [states[project] for project in projects] == [("ok", [])] * len(projects)
    assert "my-command" in author.bb("--help")
    readmes = [author.desk / project / "README.md" for project in projects]
    assert author.run("-W", "error", READ, *readmes).split() == projects
