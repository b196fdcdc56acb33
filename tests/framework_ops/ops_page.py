"""Writes the page on framework ops: `python tests/framework_ops/ops_page.py > docs/reference/...`.

The table is `bb_ir.framework_ops`, what an op does is the docstring of its helper, and what an
example prints comes from running it. `test_ops_page.py` compares the page with what this writes.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import reduce
from types import ModuleType
from typing import Any

import numpy as np
from ops_examples import EXAMPLES

import bb_dsl as bb
from bb_compiler import Compiler
from bb_dsl._framework import Randoms
from bb_ir import keys
from bb_ir.framework_ops import FRAMEWORK_OPS, FrameworkOp
from bb_ir.ids import PeerId
from bb_ir.params import ParameterSet
from bb_runtime import Emitted, LocalBus, Metric, OpFailed, load_artifact
from bb_testing.programs import CountingModel, FixedPeers, ListSource, PlainBackend, Stage

__all__ = ["main", "markdown", "run"]

_HEAD = """\
# Framework ops

What a program does without a component: values, lists, time, random draws, metrics, blocks and
messages. A framework op stands on the peer where its inputs stand; one without inputs stands where
the op before it stands, as any other does. Where the table says that an op *waits*, only what takes
its result waits with it, and the frame holds no component meanwhile. All results follow from the
inputs, and from what the last column names; so two runs with the same inputs, seed and times give
the same.

[Rounds, loops, conditions and clocks](../how-to/time-and-loops.md) explains blocks,
[Roles](roles.md) lists the ops of components, and a
[decision](../decisions/2026-11-22-framework-ops.md) says what is left out and how to do without.

This page is written by `python tests/framework_ops/ops_page.py > docs/reference/framework-ops.md`.
"""
_BESIDE = """\
## Examples

Each is the `body` of this Module, run on a server and two clients.

```py
{program}```
"""
_PROGRAM = """\
import bytesandbrains as bb


class Example(bb.Module):
    peer_class = "server"
    peers = bb.slots.PeerSelector(of="client")
    model = bb.slots.Model()
    data = bb.slots.DataSource()
    backend = bb.slots.Backend()
"""
#: What has no helper with a docstring.
_SAYS = {
    "Calculate": "Record arithmetic, a comparison or logic on plain values.",
    keys.RANDOM: "Record one random number: uniform, normal, or a whole one.",
    keys.TURN: "What a turn begins with; `as` gives it.",
}


def markdown() -> str:
    """Return the page."""
    ops = list(FRAMEWORK_OPS.values())
    table = (
        "| Op | Recorded by | Takes | Gives | Waits | Follows from |\n|---|---|---|---|---|---|\n"
    )
    table += "".join(map(_row, ops))
    examples = (text for op in ops for text in _section(op))
    return "\n".join([_HEAD, table, _BESIDE.format(program=_PROGRAM), *examples])


def main() -> None:
    """Print the page."""
    sys.stdout.write(markdown())


def _row(op: FrameworkOp) -> str:
    anchor = op.name.lower()
    cells = [f"[`{op.name}`](#{anchor})", f"`{op.helper}`", op.takes, op.gives, op.waits,
             op.depends]  # fmt: skip
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _section(op: FrameworkOp) -> Iterator[str]:
    yield f"### `{op.name}`\n"
    yield f"{_does(op)} In `{op.domain}`{_attributes(op)}.\n"
    source = EXAMPLES[op.name].strip()
    yield f"```py\n{source}\n```\n"
    yield "```text\n" + "\n".join(run(op.name)) + "\n```\n"


def _attributes(op: FrameworkOp) -> str:
    told = [f"`{name.rstrip('?')}`" + (" (optional)" if name.endswith("?") else "")
            for name in op.attributes]  # fmt: skip
    return f"; attributes: {', '.join(told)}" if told else ""


def _does(op: FrameworkOp) -> str:
    """Return the first sentence on what an op does."""
    if op.name in _SAYS:
        return _SAYS[op.name]
    path = re.search(r"(?:\bg|turn)\.([a-z_.]+)", op.helper)
    assert path is not None, op.helper
    owner: Any = Randoms if path[1].startswith("random.") else bb.Graph
    owner = bb.Turn if op.name == keys.UNTIL else owner
    name = path[1].removeprefix("random.")
    text = inspect.getdoc(reduce(getattr, name.split("."), owner)) or ""
    return " ".join(text.partition("\n\n")[0].split())


def run(op: str) -> list[str]:
    """Run the example of an op; return what it publishes, and where.

    Raises:
        AssertionError: An op fails.
    """
    names = {PeerId.from_seed(b"stage", at): f"client {at}" if at else "server" for at in range(3)}
    artifact = load_artifact(_compiled(EXAMPLES[op]))
    selects = any(row.slot == "peers" for one in artifact.targets.values() for row in one.rows)
    config = {"peers": {"peers": [*names][1:]}} if selects else {}
    stage = Stage(artifact, clients=2, config=config)
    bus = LocalBus(stage.server, *stage.clients)
    stage.server.invoke(stage.main, {})
    events = [*bus.run(), *bus.advance("10s")]
    failed = [event.step for event in events if isinstance(event.step, OpFailed)]
    assert not failed, failed
    told = [
        f"{names[event.peer]}: {event.step.name} = {_shown(event.step.value, names)}"
        for event in events
        if isinstance(event.step, Emitted)
    ]
    for node in (stage.server, *stage.clients):
        told += [f"{names[node.peer]}: {_metric(m)}" for m in node.metrics()
                 if not m.name.startswith("bb_")]  # fmt: skip
    return told


def _metric(metric: Metric) -> str:
    return f"metrics() has {metric.kind} {metric.name} = {metric.value:g}"


def _compiled(body: str) -> Any:
    text = f"{_PROGRAM}\n    def body(self, g):\n{textwrap.indent(body.strip(), ' ' * 8)}\n"
    module = ModuleType("example")
    exec(compile(text.replace("bytesandbrains", "bb_dsl"), "example.py", "exec"), module.__dict__)  # noqa: S102  # ours
    model = module.Example().build()
    parts = {"peers": FixedPeers, "model": CountingModel, "data": ListSource,
             "backend": PlainBackend}  # fmt: skip
    compiler = Compiler()
    for slot, part in parts.items():
        compiler.bind(slot, part)
    return compiler.compile(model)


def _shown(value: Any, names: Mapping[PeerId, str]) -> str:
    """Return a value as the page shows it."""
    if isinstance(value, PeerId):
        return names[value]
    if isinstance(value, ParameterSet):
        return f"parameters {', '.join(value)}"
    if isinstance(value, np.ndarray):
        return f"{value.tolist()}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_shown(one, names) for one in value)}]"
    if isinstance(value, Mapping):
        fields = (f"{name}: {_shown(one, names)}" for name, one in value.items())
        return f"{{{', '.join(fields)}}}"
    return repr(value)


if __name__ == "__main__":
    main()
