"""Fifty plugins that nobody uses: all are listed, and not one of their modules is imported."""

import json
import subprocess
import sys

import pytest

COUNT = 50
KINDS = [
    "aggregator", "backend", "codec", "command", "data_source", "executor", "index", "model", "op",
    "peer_selector", "planner", "protocol", "stage", "transport", "type",
]  # fmt: skip
#: What the modules do when they are imported is to end the interpreter.
SOURCE = "import os; os._exit(99)\n"
CODE = """
import sys
sys.path.append({path!r})
from bytesandbrains.cli import main
sys.argv = ["bb", *{arguments!r}]
main()
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that holds fifty distributions, as an installer leaves them."""
    folder = tmp_path_factory.mktemp("site")
    for number in range(COUNT):
        kind, module = KINDS[number % len(KINDS)], f"bb_unused_{number}"
        name = f"acme.unused{number}.1" if kind == "type" else f"unused{number}"
        (folder / f"{module}.py").write_text(SOURCE)
        info = folder / f"{module}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: bb-unused-{number}\nVersion: 1.2\n"
            "Requires-Dist: bb-roles~=0.1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[bytesandbrains.v1]\n{kind}.{name} = {module}\n")
    return folder


@pytest.fixture
def bb(site):
    """Call `bb` in a new interpreter that finds the fifty."""

    def call(*arguments):
        code = CODE.format(path=str(site), arguments=list(arguments))
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode != 99, f"{arguments} imported a plugin that nobody uses"
        return done

    return call


def test_list_has_all_of_them(bb):
    rows = json.loads(bb("plugins", "--json").stdout)["plugins"]

    assert sum(row["distribution"].startswith("bb-unused-") for row in rows) == COUNT


def test_help_has_all_commands(bb):
    done = bb("--help")

    assert done.returncode == 0
    expected = [f"unused{number}" for number in range(COUNT) if number % len(KINDS) == 3]
    rows = [line.split() for line in done.stdout.splitlines()]
    for name in expected:
        assert [name, "from", f"bb-unused-{name.removeprefix('unused')}", "1.2"] in rows


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["plugins"],
        ["plugins", "aggregator"],
        ["plugins", "show", "krum"],
        ["plugins", "aggregator.krum", "--check"],
        ["compile", "--help"],
        ["nonsense"],
        ["new", "codec", "krum", "--into", "/dev/null/nowhere"],
    ],
    ids=" ".join,
)
def test_no_command_imports_what_it_does_not_use(bb, arguments):
    bb(*arguments)


def test_binding_one_imports_no_other(bb, site):
    code = (
        f"import sys; sys.path.append({str(site)!r})\n"
        "import bytesandbrains as bb\n"
        "bb.Compiler().bind_model('model', 'mlp').bind_aggregator('aggregator', 'fedavg')\n"
        "print([name for name in sys.modules if name.startswith('bb_unused')])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_to_use_one_imports_it(bb):
    # The opposite, so that the tests above could fail.
    with pytest.raises(AssertionError, match="imported a plugin"):
        bb("plugins", "show", "unused0")
