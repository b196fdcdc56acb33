"""The bytes that `explain` predicts for each network edge, against those that were sent.

The programs are the examples, and one whose round is counted as a whole. Every envelope that a
Node hands out is weighed. A prediction is either exact and equal, or is left open with the reason;
anything else is a defect. Where a dimension of a tensor is open, the prediction is a formula, and
its value for the length that was sent counts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from measure import Effort, Row

import bytesandbrains as bb
from bb_compiler._sizes import _labels, _symbol
from bb_compiler.explain import Counters, EdgeInfo, Span, envelope_bytes, explain
from bb_ir.types import parse_type
from bb_ir.wire import (
    PRELUDE_SIZE,
    EnvelopeHead,
    WireLimits,
    read_header,
    read_prelude,
)

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
CLIENTS = 10


class Sent(NamedTuple):
    """An envelope as it left its Node."""

    head: EnvelopeHead
    head_bytes: int


def measure(effort: Effort) -> dict[str, Any]:
    """Run the programs and weigh what they send."""
    programs = [("federation", one_round), *examples()]
    found: list[dict[str, Any]] = []
    for name, run in programs[: 3 if effort.smoke else None]:
        found += compare(name, *watched(run))
    return {"edges": found, "round": whole_round()}


def examples() -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the examples: their names, and what runs them; but those of what is not here."""
    for path in sorted(EXAMPLES.glob("*.py")):
        if path.stem.startswith("torch") and importlib.util.find_spec("torch") is None:
            continue
        yield path.stem, partial(play, path)


def play(path: Path) -> None:
    """Import an example, and call what it has to be called."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # components of an example are found again by its name
    spec.loader.exec_module(module)
    getattr(module, "main", int)()


def one_round() -> bb.LocalFederation:
    """Run one round of federated averaging over ten clients."""
    federation = bb.LocalFederation(
        compiler().compile(program()),
        nodes={"client": CLIENTS},
        config={
            "data": lambda i: {"partition": "iid", "clients": CLIENTS, "client": i},
            "test": {"split": "test"},
        },
    )
    federation.run()
    return federation


def program() -> Any:
    """Record the program of `one_round`."""
    return bb.programs.FederatedAveraging(CLIENTS, evaluate=True).build()


def compiler() -> bb.Compiler:
    """Bind its slots, with a configuration from which the shapes of the parameters follow."""
    return (
        bb.Compiler()
        .bind_peer_selector("peers", "static")
        .bind_model("model", "mlp", config={"layers": [64, 32, 10]})
        .bind_data_source("data", "digits")
        .bind_data_source("test", "digits")
        .bind_aggregator("aggregator", "fedavg")
    )


def watched(run: Callable[[], object]) -> tuple[list[Any], list[Sent]]:
    """Run a program; return the artifacts it compiled, and the envelopes that its Nodes sent."""
    artifacts: list[Any] = []
    sent: list[Sent] = []
    compile_, poll = bb.Compiler.compile, bb.Node.poll

    def compiling(self: bb.Compiler, model: Any) -> Any:
        artifact = compile_(self, model)
        artifacts.append(artifact)
        return artifact

    def polling(self: bb.Node) -> Any:
        steps = poll(self)
        sent.extend(weighed(step.envelope.head) for step in steps if isinstance(step, bb.Ship))
        return steps

    bb.Compiler.compile, bb.Node.poll = compiling, polling
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            run()
    finally:
        bb.Compiler.compile, bb.Node.poll = compile_, poll
    return artifacts, sent


def weighed(head: bytes) -> Sent:
    """Read the head of an envelope."""
    limits = WireLimits()
    prelude = read_prelude(head, limits)
    return Sent(read_header(prelude, memoryview(head)[PRELUDE_SIZE:], limits), len(head))


def compare(name: str, artifacts: list[Any], sent: list[Sent]) -> Iterator[dict[str, Any]]:
    """Yield a line for each edge over which something was sent."""
    seen: set[str] = set()
    for artifact in artifacts:
        ran = explain(artifact)
        if ran.program in seen:
            continue
        seen.add(ran.program)
        for edge in ran.edges:
            mine = [
                one
                for one in sent
                if one.head.control is None
                and one.head.edge == int(edge.id, 16)
                and one.head.program.hex() == ran.program[:32]
            ]
            if mine:
                yield line(name, artifact, edge, mine)


def line(name: str, artifact: Any, edge: EdgeInfo, sent: list[Sent]) -> dict[str, Any]:
    """Compare one edge; lengths that the program leaves open are taken from what was sent."""
    states: set[str] = set()
    values: set[int] = set()
    payloads: set[int] = set()
    wholes: set[int] = set()
    told: dict[tuple[int, ...], EdgeInfo] = {}
    for one in sent:
        fills = one.head.fills
        values.add(sum(fill.length or len(fill.inline) for fill in fills))
        payloads.add(one.head.payload_length)
        wholes.add(one.head_bytes + one.head.payload_length)
        dims = lengths(edge, [fill.shape for fill in fills])
        key = tuple(dims.values())
        if key not in told:
            told[key] = with_lengths(artifact, edge, dims)
        states.add(state(told[key], one, dims))
    known = told[max(told)]
    return {
        "program": name,
        "edge": edge.name,
        "envelopes": len(sent),
        "state": max(states, key=["equal", "within", "open", "wrong"].index),
        "formula": edge.bytes.formula,
        "values": [str(known.bytes.values), shown(values)],
        "payload": [str(known.bytes.payload), shown(payloads)],
        "envelope": [str(known.bytes.envelope), shown(wholes)],
        "why": list(known.bytes.unknown),
    }


def with_lengths(artifact: Any, edge: EdgeInfo, dims: dict[str, int]) -> EdgeInfo:
    """Return what is told of an edge when the lengths of its dimensions are known."""
    if not dims:
        return edge
    return next(e for e in explain(artifact, dims=dims).edges if e.name == edge.name)


def lengths(edge: EdgeInfo, shapes: list[tuple[int, ...]]) -> dict[str, int]:
    """Return the lengths that shapes give to the dimensions that an edge leaves open."""
    types = [parse_type(port.type) for port in edge.ports]
    names = _labels([(port.name, type_) for port, type_ in zip(edge.ports, types, strict=True)])
    return {
        _symbol(name, axis, dim): length
        for name, type_, shape in zip(names, types, shapes, strict=True)
        if type_.shape is not None
        for axis, (dim, length) in enumerate(zip(type_.shape, shape, strict=True))
        if not isinstance(dim, int)
    }


def state(edge: EdgeInfo, one: Sent, dims: dict[str, int]) -> str:
    """Say how one envelope compares: `equal`, `within` bounds, `open`, or `wrong`."""
    head = one.head
    values = sum(fill.length or len(fill.inline) for fill in head.fills)
    peer = len(head.chain[0].peer) if head.chain else 38
    counters = Counters(head.incarnation, head.message_id, head.remaining_ns or 0, peer)
    pairs = [
        (edge.bytes.values, values),
        (edge.bytes.payload, head.payload_length),
        (edge.bytes.header, one.head_bytes),
        (edge.bytes.envelope, one.head_bytes + head.payload_length),
        (envelope_bytes(edge, counters, dims), one.head_bytes + head.payload_length),
    ]
    if not all(holds(span, found) for span, found in pairs):
        return "wrong"
    if edge.bytes.unknown:
        return "open"
    exact = (edge.bytes.values, edge.bytes.payload, pairs[-1][0])
    return "equal" if all(span.exact is not None for span in exact) else "within"


def holds(span: Span, found: int) -> bool:
    """Whether a figure is within its bounds."""
    return span.least <= found and (span.most is None or found <= span.most)


def shown(found: set[int]) -> str:
    """Return figures for people: one, or the least and the most."""
    return str(Span(min(found), max(found)))


def whole_round() -> dict[str, Any]:
    """Compare the sum of one round with all that was sent in it."""
    told = compiler().explain(program())
    _, sent = watched(one_round)
    mine = [one for one in sent if one.head.control is None]
    payload = sum(one.head.payload_length for one in mine)
    whole = payload + sum(one.head_bytes for one in mine)
    round_ = told.round
    return {
        "envelopes": [round_.envelopes, len(mine)],
        "payload": [str(round_.payload_bytes), f"{payload:,}"],
        "envelope": [str(round_.envelope_bytes), f"{whole:,}"],
        "equal": (round_.envelopes, round_.payload_bytes.exact) == (len(mine), payload)
        and holds(round_.envelope_bytes, whole),
    }


def rows(result: dict[str, Any]) -> list[Row]:
    """Return the lines of the table."""
    found = [
        Row(
            "",
            f"{one['program']}, edge `{one['edge']}`, {one['envelopes']:,} envelopes",
            "" if one["state"] == "open" else "predicted is sent",
            f"values {one['values'][1]}, payload {one['payload'][1]}, "
            f"envelope {one['envelope'][1]} bytes",
            predicted(one),
            None if one["state"] == "open" else one["state"] != "wrong",
            "; ".join(one["why"]),
        )
        for one in result["edges"]
    ]
    whole = result["round"]
    sums = [f"{n} envelopes, payload {p}, all {e} bytes" for n, p, e in zip(
        whole["envelopes"], whole["payload"], whole["envelope"], strict=True)]  # fmt: skip
    what = f"one round of federated averaging, {CLIENTS} clients"
    found.append(
        Row("", what, "predicted is sent", sums[1], f"predicted: {sums[0]}", whole["equal"])
    )
    return found


def predicted(one: dict[str, Any]) -> str:
    """Return the prediction for people."""
    if one["state"] == "open":
        return f"left open: {'; '.join(one['why'])}"
    formula = f"{one['formula']} = " if one["formula"] else ""
    values, payload, envelope = (one[kind][0] for kind in ("values", "payload", "envelope"))
    return f"predicted: values {formula}{values}, payload {payload}, envelope {envelope}"
