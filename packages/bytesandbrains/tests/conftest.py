"""What the tests of the command line share."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from bytesandbrains.cli import main

PROGRAM = """\
import bytesandbrains as bb


class Mine(bb.Module):
    peer_class = "server"
    bindings = {"model": "mlp", "aggregator": "fedavg"}
    clients = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    aggregator = bb.slots.Aggregator()

    def __init__(self, epochs=1):
        super().__init__()
        self.epochs = epochs

    def body(self, g):
        received = g.net_out("weights", self.clients.current_view(g), self.model.params(g))
        self.model.load_params(g, received)
        metrics = self.model.fit(g, self.data.batches(g, epochs=self.epochs))
        reply = g.net_out("update", g.sender(received), self.model.params(g), metrics)
        folded = self.aggregator.contribute(g, *reply)
        done = g.gather(folded, quorum=1.0, deadline="30s")
        averaged, summary = self.aggregator.aggregate(g, after=done)
        self.model.load_params(g, averaged)
        g.output("round", summary)
        g.output("params", averaged)
"""
CONFIG = """\
[client.data]
split = "train"
partition = "iid"
clients = "{count}"
client = "{index}"

[client.1.data]
batch_size = 8
"""
BINDS = ["--bind", "clients=static", "--bind", "data=digits"]


class Done(NamedTuple):
    """What one call of `bb` brought."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which must be JSON and nothing else."""
        assert self.err == ""
        return json.loads(self.out)


@pytest.fixture
def bb(tmp_path, monkeypatch):
    """Call `bb` in this process, in an empty folder; what programs import is forgotten after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def call(*arguments: object) -> Done:
        try:
            runner = CliRunner(mix_stderr=False)  # click 8.1
        except TypeError:
            runner = CliRunner()
        result = runner.invoke(main, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        assert "Traceback" not in result.stderr
        assert "\x1b" not in result.stdout + result.stderr
        return Done(result.exit_code, result.stdout, result.stderr)

    yield call
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


@pytest.fixture
def program(bb, tmp_path):
    """A program in a file, with its configuration."""
    path = tmp_path / "mine.py"
    path.write_text(PROGRAM)
    (tmp_path / "mine.toml").write_text(CONFIG)
    return Path(path.name)


@pytest.fixture
def artifact(bb, program):
    """The program, compiled."""
    done = bb("compile", program, "-o", "mine.onnx", *BINDS)
    assert done.code == 0, done.err
    return Path("mine.onnx")
