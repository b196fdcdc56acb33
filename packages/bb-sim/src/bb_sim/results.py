"""What a simulation brought, round by round: plain data that can be written as JSON.

An envelope belongs to the round whose invocation caused it, however late it comes.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, cast

from bb_ir.params import ParameterSet

__all__ = ["Output", "Result", "Round", "Series", "Span", "series_of"]


class Span(NamedTuple):
    """What a peer did for a time, on the timeline.

    Attributes:
        peer: Name of the peer.
        round: The round that caused it; 0 for none.
        start_ns: When it began.
        end_ns: When it ended.
        kind: `work`, `down` or `cut off`.
    """

    peer: str
    round: int
    start_ns: int
    end_ns: int
    kind: str


@dataclass
class Output:
    """What peers published under a name in a round.

    Attributes:
        count: How often.
        last: The last value, in plain form.
        sums: Sums of its figures, exact, so that they do not depend on the order of the peers.
        counts: How often each figure was a finite number.
        least: The least of each figure.
        most: The most of each figure.
    """

    count: int = 0
    last: Any = None
    sums: dict[str, Fraction] = field(default_factory=dict[str, Fraction])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    least: dict[str, float] = field(default_factory=dict[str, float])
    most: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, value: Any) -> None:
        """Add a value."""
        self.count += 1
        self.last = plain(value)
        for name, number in _numbers(self.last):
            self.sums[name] = self.sums.get(name, Fraction()) + Fraction(number)
            self.counts[name] = self.counts.get(name, 0) + 1
            self.least[name] = min(self.least.get(name, number), number)
            self.most[name] = max(self.most.get(name, number), number)

    def to_dict(self) -> Any:
        """Return the value, or of several the number and mean, least and most of each figure."""
        if self.count == 1:
            return self.last
        return {"peers": self.count, "mean": self.means(), "least": self.least, "most": self.most}

    def means(self) -> dict[str, float]:
        """Return the mean of each figure over those who published a finite number."""
        return {name: float(total / self.counts[name]) for name, total in self.sums.items()}


@dataclass
class Round:
    """What one round brought, and what it took.

    Attributes:
        number: From 1.
        started_ns: Virtual time of its first invocation.
        ended_ns: Virtual time of its last end; -1 while it runs.
        ended: How it ended, by peer that was invoked: `done`, `failed`, `expired`, `crashed`.
        outputs: What was published, by name.
        asked: Questions that invoked peers put, each to one peer; one that is sent again counts
            once.
        answered: Questions that were answered: whose peer's answer was handled, or with
            `replies=` the last of them.
        rejected: Questions whose answer came and made an op fail, such as an update that an
            aggregator refused.
        answers: Answers that were handled: `answered`, or more with `replies=`.
        parts: Of peers that answer more than once, how often each did so far; it is no result.
        envelopes: Envelopes sent, by edge.
        sent_bytes: Their bytes, by edge.
        lost: Envelopes that did not arrive, by reason.
        refused: What Nodes refused or dropped, by reason.
        frames: Frames that ended, by how.
        failures: Ops that failed, by code.
        failed_on: Frames that failed on the envelope that opened them, by the peer that sent it.
        said: What the first of the ops that failed said, by code; with where in the program.
        advice: What is to be done about it, by code, where the error says so.
    """

    number: int
    started_ns: int = -1
    ended_ns: int = -1
    ended: Counter[str] = field(default_factory=Counter[str])
    outputs: dict[str, Output] = field(default_factory=dict[str, Output])
    asked: int = 0
    answered: int = 0
    rejected: int = 0
    answers: int = 0
    parts: Counter[str] = field(default_factory=Counter[str])
    envelopes: Counter[str] = field(default_factory=Counter[str])
    sent_bytes: Counter[str] = field(default_factory=Counter[str])
    lost: Counter[str] = field(default_factory=Counter[str])
    refused: Counter[str] = field(default_factory=Counter[str])
    frames: Counter[str] = field(default_factory=Counter[str])
    failures: Counter[str] = field(default_factory=Counter[str])
    failed_on: Counter[str] = field(default_factory=Counter[str])
    said: dict[str, str] = field(default_factory=dict[str, str])
    advice: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def stragglers(self) -> int:
        """Questions that nobody answered, or not in time, or not to the end."""
        return max(0, self.asked - self.answered - self.rejected)

    @property
    def seconds(self) -> float:
        """Virtual seconds from its start to its end."""
        return max(0, self.ended_ns - self.started_ns) / 1e9

    def output(self, name: str) -> Output:
        """Return what was published under a name, to be added to."""
        found = self.outputs.get(name)
        if found is None:
            found = self.outputs[name] = Output()
        return found

    def figures(self) -> dict[str, float]:
        """Return the published figures by name, such as `test.accuracy`; means of several peers."""
        return {
            f"{name}.{figure}" if figure else name: mean
            for name, output in self.outputs.items()
            for figure, mean in output.means().items()
        }

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {
            "round": self.number,
            "started_ns": self.started_ns,
            "ended_ns": self.ended_ns,
            "ended": dict(self.ended),
            "outputs": {name: output.to_dict() for name, output in self.outputs.items()},
            "asked": self.asked,
            "answered": self.answered,
            "rejected": self.rejected,
            "answers": self.answers,
            "stragglers": self.stragglers,
            "envelopes": dict(self.envelopes),
            "sent_bytes": dict(self.sent_bytes),
            "lost": dict(self.lost),
            "refused": dict(self.refused),
            "frames": dict(self.frames),
            "failures": dict(self.failures),
            "failed_on": dict(self.failed_on),
            "said": self.said,
            "advice": self.advice,
        }


class Series(NamedTuple):
    """One figure over the rounds; rounds that did not publish it are left out."""

    name: str
    rounds: list[int]
    values: list[float]


@dataclass
class Result:
    """What a whole simulation brought.

    Attributes:
        complete: Whether all rounds that were asked for came to an end.
        rounds: The rounds, in order.
        peers: How many peers each class has.
        installed: How many peers were ever needed, and so installed.
        seed: The scenario's.
        virtual_ns: Virtual time at the end.
        digest: Of all steps of all peers: equal for equal runs; empty if it was not wanted.
        spans: What some peers did when, for the timeline.
        attack: The kind of the attack; empty where nobody attacks.
        attackers: Names of the peers that attack.
        program: The target that was invoked.
        components: What fills the slots, by slot, or by `<class>.<slot>` where classes differ.
    """

    complete: bool
    rounds: list[Round]
    peers: dict[str, int]
    installed: int
    seed: int
    virtual_ns: int
    digest: str
    spans: list[Span]
    attack: str = ""
    attackers: list[str] = field(default_factory=list[str])
    program: str = ""
    components: dict[str, str] = field(default_factory=dict[str, str])

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the timeline as plain data; equal runs give equal data."""
        return {
            "complete": self.complete,
            "peers": self.peers,
            "installed": self.installed,
            "seed": self.seed,
            "virtual_ns": self.virtual_ns,
            "digest": self.digest,
            "attack": self.attack,
            "attackers": self.attackers,
            "program": self.program,
            "components": self.components,
            "rounds": [one.to_dict() for one in self.rounds],
        }


def series_of(rounds: list[Round], ending: str) -> list[Series]:
    """Return the figures whose name ends so, such as `loss`, over the rounds."""
    found: dict[str, Series] = {}
    for one in rounds:
        for name, value in one.figures().items():
            if name.rpartition(".")[2].endswith(ending):
                series = found.setdefault(name, Series(name, [], []))
                series.rounds.append(one.number)
                series.values.append(value)
    return list(found.values())


def plain(value: Any) -> Any:
    """Return a published value as JSON can hold it; tensors are described, not written.

    JSON has no infinity and no NaN: such a figure becomes `None`.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, ParameterSet):
        return {"elements": value.count, "sha256": value.digest()}
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        if not value.shape:
            return plain(value.item())
        return {"dtype": str(value.dtype), "shape": list(value.shape)}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _numbers(value: Any) -> Iterator[tuple[str, float]]:
    """Yield the figures of a value in plain form; those of a tensor's description are none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield "", float(value)
    elif isinstance(value, dict) and "sha256" not in value and "dtype" not in value:
        for name, one in cast("dict[str, Any]", value).items():
            if isinstance(one, int | float) and not isinstance(one, bool):
                yield name, float(one)
