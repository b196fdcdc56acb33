"""Writes down what happens, round by round; it decides nothing."""

from __future__ import annotations

from bb_runtime import Dropped, Emitted, FrameEnded, OpFailed, Step
from bb_runtime.digests import code_of
from bb_sim.results import Round, Span

__all__ = ["Recorder"]

#: Peers of which the timeline shows what they did.
_SHOWN = 40


class Recorder:
    """The rounds of one run.

    Attributes:
        rounds: By number.
        spans: What the first peers that did something did.
        shown: Names and numbers of these peers.
    """

    def __init__(self) -> None:
        self.rounds: dict[int, Round] = {}
        self.spans: list[Span] = []
        self.shown: dict[str, int] = {}

    def round(self, number: int) -> Round:
        """Return a round; what happens before the first belongs to round 0."""
        found = self.rounds.get(number)
        if found is None:
            found = self.rounds[number] = Round(number)
        return found

    def started(self, number: int, when: int) -> None:
        """Note that a peer was invoked for a round."""
        one = self.round(number)
        if one.started_ns < 0:
            one.started_ns = when

    def ended(self, number: int, when: int, how: str) -> None:
        """Note that a round ended at one of the peers that were invoked."""
        self.started(number, when)
        one = self.round(number)
        one.ended[how] += 1
        one.ended_ns = max(one.ended_ns, when)

    def step(self, number: int, step: Step) -> None:
        """Note what a Node reported, envelopes and work left out."""
        one = self.round(number)
        match step:
            case Emitted():
                one.output(step.name).add(step.value)
            case FrameEnded():
                one.frames[step.how] += 1
            case Dropped():
                one.refused[step.reason] += 1
            case OpFailed():
                one.failures[code_of(step.error)] += 1
            case _:
                pass

    def sent(self, number: int, edge: str, size: int) -> None:
        """Note an envelope that a peer gave out."""
        one = self.round(number)
        one.envelopes[edge] += 1
        one.sent_bytes[edge] += size

    def lost(self, number: int, why: str) -> None:
        """Note an envelope that will not arrive."""
        self.round(number).lost[why] += 1

    def worked(self, peer: int, name: str, number: int, start: int, end: int) -> None:
        """Note that a peer worked for a time, if it is one of those that the timeline shows."""
        if name not in self.shown:
            if len(self.shown) >= _SHOWN:
                return
            self.shown[name] = peer
        self.spans.append(Span(name, number, start, end, "work"))
