"""What has to be the same on every Python and processor: control flow, folds, codecs, and learning.

One federation learns digits in a bad world, and one does arithmetic on whole numbers. Of the first
it is written down what every Node did, in which order and when, without the numbers in it: kinds
of steps, frames, peers, sizes, codes. Its learning curve may differ by 1e-3, for matrix products
do in their last bits. What folds and codecs make of given bits may not differ by one.

    python tests/federation/same_everywhere.py             compare with what is written down
    python tests/federation/same_everywhere.py --update    write down what there is now
    python tests/federation/same_everywhere.py --report    print one run as JSON

What is written down changes when the engine, the simulator, a plugin or a seed's use does. Then
rewrite it, and see in the difference that only that changed which was meant to.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from bb_compiler import Compiler
from bb_ir.params import ParameterSet
from bb_roles.config import build_config
from bb_roles.registry import bound_class
from bb_runtime import (
    Artifact,
    BlockEnded,
    Deferred,
    Dropped,
    Emitted,
    FrameEnded,
    Node,
    OpFailed,
    Ship,
    load_artifact,
)
from bb_runtime.digests import code_of
from bb_sim import Compute, Crash, Liar, Link, Partition, Scenario, Simulation
from bb_testing import programs as tiny
from bb_testing.context import FakeContext, environment
from bytesandbrains.programs import FederatedAveraging

GOLDEN = Path(__file__).parent / "golden" / "same_everywhere.json"
#: How far learning curves may be apart.
NEAR = 1e-3
CLIENTS = 8


def measure() -> dict[str, Any]:
    """Return all that is compared."""
    learning, curve = _learning()
    return {
        "control flow": learning,
        "learning curve": curve,
        "folds": {"federation": _whole_numbers(), **_folds()},
        "codecs": _codecs(),
    }


def differences(found: dict[str, Any], golden: dict[str, Any]) -> list[str]:
    """Return what is not the same."""
    wrong = [
        f"{part}.{name} is {found[part].get(name)}, and was {was}"
        for part in ("control flow", "folds", "codecs")
        for name, was in golden[part].items()
        if found[part].get(name) != was
    ]
    for name, was in golden["learning curve"].items():
        now = found["learning curve"].get(name, [])
        if len(now) != len(was) or any(abs(a - b) > NEAR for a, b in zip(now, was, strict=True)):
            wrong.append(f"{name} is {now}, and was {was}")
    return wrong


# Control flow, and learning


class Flow:
    """What every Node did, without the numbers that it worked with."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {}
        self.kinds: Counter[str] = Counter()

    def polled(self, node: Node, steps: list[Any]) -> None:
        """Write down what a Node reports."""
        lines = self.lines.setdefault(str(node.peer), [])
        for step in steps:
            kind = type(step).__name__
            self.kinds[kind] += 1
            lines.append(" ".join(map(str, (node.now_ns, kind, *_facts(step)))))

    def to_dict(self) -> dict[str, Any]:
        """Return digests, and how many steps there were of each kind."""
        whole = hashlib.sha256()
        for peer in sorted(self.lines):
            whole.update("\n".join((peer, *self.lines[peer], "")).encode())
        return {"sha256": whole.hexdigest(), "steps": dict(sorted(self.kinds.items()))}


def _facts(step: Any) -> tuple[Any, ...]:
    match step:
        case Ship():
            sizes = step.envelope.head_length, step.envelope.payload_length
            return (step.to, step.message_id, *sizes)
        case Emitted():
            return step.target, step.name, step.frame
        case FrameEnded():
            return step.target, step.region, step.frame, step.how, step.reason
        case OpFailed():
            return step.target, step.op, step.slot, step.frame, code_of(step.error)
        case Dropped():
            return step.reason, step.peer, step.edge
        case BlockEnded():
            return step.target, step.region, step.turns, step.failed, step.how
        case Deferred():
            return step.target, step.op, step.slot, step.frame
        case _:
            return ()


WORLD = Scenario(
    peers={"client": CLIENTS},
    rounds=6,
    seed=11,
    pause="100ms",
    links=Link(
        latency="20ms", jitter="40ms", spread="heavy", bandwidth="50Mbit/s", loss=0.05,
        duplicate=0.1, reorder=0.2, reorder_by="500ms",
    ),
    compute={"client": Compute("100ms", "200ms", slow=0.25, factor=6.0)},
    faults=(
        Crash("client[1]", "900ms", "700ms"),
        Partition("client[25%]", "2s", "4s"),
    ),
    liars=(Liar("client[2]", "nan", share=0.5), Liar("client[3]", "garbage", share=0.3)),
)  # fmt: skip


def _averaging(**parts: Any) -> Artifact:
    compiler = Compiler().bind("aggregator", "fedavg", role="aggregator")
    roles = {"peers": "peer_selector", "model": "model", "data": "data_source"}
    for slot, part in {"test": parts["data"], **parts}.items():
        compiler.bind(slot, part, role=roles.get(slot, "data_source"))
    program = FederatedAveraging(CLIENTS, quorum=0.5, deadline="3s", evaluate=True)
    return load_artifact(compiler.compile(program.build()))


def _learning() -> tuple[dict[str, Any], dict[str, list[float]]]:
    artifact = _averaging(peers="static", model="mlp", data="digits")
    flow, poll = Flow(), Node.poll
    split = {"split": "train", "partition": "iid", "clients": CLIENTS}
    config = {"data": lambda index: {**split, "client": index}, "test": {"split": "test"}}

    def see(self: Node, *args: Any, **options: Any) -> Any:
        steps = poll(self, *args, **options)
        flow.polled(self, steps)
        return steps

    with patch.object(Node, "poll", see):
        result = Simulation(artifact, WORLD, config=config).run()
    told = flow.to_dict()
    for name in ("ended", "lost", "refused", "failures", "sent_bytes"):
        counts: Counter[str] = Counter()
        for one in result.rounds:
            counts.update(getattr(one, name))
        told[name] = dict(sorted(counts.items()))
    figures = [one.figures() for one in result.rounds]
    names = ("round.loss", "test.loss", "test.accuracy")
    curve = {name: [round(f[name], 6) for f in figures if name in f] for name in names}
    return told, curve


# Bits


def _whole_numbers() -> str:
    """Return the digest of a model of whole numbers after some rounds."""
    artifact = _averaging(peers=tiny.FixedPeers, model=tiny.CountingModel, data=tiny.ListSource)
    config = {"data": lambda index: {"value": float(index + 1)}, "test": {}}
    simulation = Simulation(artifact, WORLD, config=config)
    simulation.run()
    return hashlib.sha256(simulation.root.component("model").w.tobytes()).hexdigest()


def _bits(key: int, count: int) -> np.ndarray[Any, Any]:
    """Return numbers from -8 to 8 of 24 bits each: exact, and the same wherever they are drawn."""
    raw = np.random.Philox(key=key).random_raw(count) >> np.uint64(40)
    return raw.astype(np.float64) / 2**20 - 8


def _params(key: int) -> ParameterSet:
    numbers = _bits(key, 4 * 500)
    return ParameterSet.from_tensors(
        {
            "narrow": numbers[:1000].astype(np.float32).reshape(20, 50),
            "wide": numbers[1000:1500],
            "whole": numbers[1500:].astype(np.int64),
        }
    )


def _folds() -> dict[str, str]:
    cls = bound_class("aggregator", "fedavg")
    digests = {}
    for engine in ("numpy", "auto"):
        aggregator = cls(
            build_config(cls.Config, {"engine": engine}, "aggregator"), environment("aggregator")
        )
        context = FakeContext()
        for key in range(7):
            metrics = {"examples": 3 * key + 1, "loss": key / 7}
            aggregator.contribute(context, _params(key), metrics)
        mean, summary = aggregator.aggregate(context)
        digests[engine] = f"{mean.digest()} {summary['loss'].hex()}"
    return digests


def _codecs() -> dict[str, str]:
    cls = bound_class("codec", "quantize")
    digests = {}
    for to, per, rounding in (
        ("int8", "tensor", "nearest"), ("int8", "tensor", "stochastic"),
        ("int4", "channel", "nearest"), ("float16", "tensor", "nearest"),
        ("bfloat16", "channel", "stochastic"),
    ):  # fmt: skip
        fields = {"to": to, "per": per, "rounding": rounding}
        codec = cls(build_config(cls.Config, fields, "codec"), environment("codec"))
        encoded = codec.encode(FakeContext(), _params(99))
        decoded = codec.decode(FakeContext(), encoded)
        digests[f"{to} per {per}, {rounding}"] = f"{encoded.digest()} {decoded.digest()}"
    return digests


def main(arguments: list[str]) -> int:
    """Do what the command line asks for."""
    found = measure()
    text = json.dumps(found, indent=1) + "\n"
    if "--report" in arguments:
        sys.stdout.write(text)
        return 0
    if "--update" in arguments:
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(text, encoding="utf-8")
        return 0
    wrong = differences(found, json.loads(GOLDEN.read_text(encoding="utf-8")))
    sys.stdout.write("\n".join([*wrong, f"{len(wrong)} differences\n"]))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
